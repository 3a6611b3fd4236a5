#include "cmd/id_file.h"

#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct ids_options ids_options(const struct sync *s, const struct job_plan *p)
{
    struct ids_options o = {.path = s->config->ids.file,
                            .column = s->config->ids.csv_column,
                            .key_names = p->wanted_name ? &p->wanted_name : p->names,
                            .key_count = p->wanted_name ? 1 : p->count,
                            .object_type = s->config->sync.object_type,
                            .cancel = &s->ctx->cancel};

    return o;
}

char *id_state_file(const struct sync *s, const char *what)
{
    return xsprintf("%s/%.16s.%s", s->config->run.state_dir, s->identity, what);
}

struct ids *id_file_open(const struct sync *s, const struct job_plan *p, struct err *err)
{
    struct ids_options o = ids_options(s, p);

    return ids_open(&o, err);
}

static bool stdin_has_bytes(void)
{
    struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
    struct stat st;

    if (isatty(STDIN_FILENO) || fstat(STDIN_FILENO, &st) < 0)
        return false;
    return S_ISREG(st.st_mode) ? st.st_size > 0 : poll(&fd, 1, 1000) > 0;
}

static bool same_file(const struct sync *s, const char *sha256, struct err *err)
{
    AUTO_STR char *known = NULL;

    ensure(s->config->ids.file);
    if (!run_note(s->run, "file_sha256", &known, err))
        return false;
    if (!known || strcmp(known, sha256) == 0)
        return true;
    return err_set(err, ERR_USER,
                   "%s: changed since run %s was interrupted; put the old content back to go on, "
                   "or start over with --fresh",
                   strcmp(s->config->ids.file, "-") == 0 ? "standard input" : s->config->ids.file,
                   run_id(s->run));
}

/* The same pipe may be given again: what it holds must be what was spooled. */
static bool check_stdin_again(const struct sync *s, const struct job_plan *p, struct err *err)
{
    AUTO_STR char *path = id_state_file(s, "stdin-again");
    struct ids_options o = ids_options(s, p);
    struct err ignored = {0};

    if (!stdin_has_bytes())
        return true;
    o.spool_path = path;
    struct ids *again = ids_open(&o, &ignored);
    bool ok = !again || same_file(s, ids_file(again)->sha256, err);
    if (again)
        ids_close(again);
    unlink(path);
    return ok;
}

struct ids *id_file_open_stdin(const struct sync *s, const struct job_plan *p, struct err *err)
{
    AUTO_STR char *path = id_state_file(s, "stdin");
    AUTO_STR char *known = NULL;
    struct ids_options o = ids_options(s, p);

    if (!run_note(s->run, "file_sha256", &known, err))
        return NULL;
    if (known && !check_stdin_again(s, p, err))
        return NULL;
    o.spool_path = path;
    o.spooled = known != NULL;
    return ids_open(&o, err);
}

bool id_file_note(struct sync *s, const struct ids *ids, struct err *err)
{
    AUTO(tx) struct tx *tx = tx_new(s->run);

    if (!same_file(s, ids_file(ids)->sha256, err))
        return false;
    tx_note(tx, "file_sha256", ids_file(ids)->sha256);
    return journal_commit(tx, err);
}
