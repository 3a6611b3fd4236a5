#include "config/load.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "config/value.h"
#include "config/yaml.h"

/* One "--name value" or "--context_param name=value", kept until its layer's turn. */
struct said {
    const struct option *option;
    enum config_layer layer;
    char *where;
    char *text;
};

struct loading {
    const struct config_input *in;
    struct config *config;
    struct said *said;
    size_t said_count;
    char **operands;
    size_t operand_count;
    char *file; /* of --config or CASS2ES_CONFIG; NULL: not said */
    char *file_where;
    struct err *err;
};

static bool read_arguments(struct loading *l);
static bool apply_defaults(struct loading *l);
static bool apply_file(struct loading *l);
static bool apply_environment(struct loading *l);
static bool apply_said(struct loading *l, enum config_layer layer);
static bool take_table(struct loading *l);
static bool read_secret_files(struct loading *l);
static bool find_defaults(struct loading *l);
static bool check_required(struct loading *l);

struct config *config_load(const struct config_input *in, struct err *err)
{
    struct loading l = {.in = in, .config = config_new(), .err = err};

    l.said = xalloc(((size_t)in->argc + 1) * sizeof *l.said);
    l.operands = xalloc(((size_t)in->argc + 1) * sizeof *l.operands);
    config_keep(l.config, l.operands);
    bool ok = read_arguments(&l) && apply_defaults(&l) && apply_file(&l) && apply_environment(&l) &&
              apply_said(&l, FROM_PARAM) && apply_said(&l, FROM_FLAG) && take_table(&l) &&
              read_secret_files(&l) && find_defaults(&l) && check_required(&l);
    l.config->operands = (const char *const *)l.operands;
    for (size_t i = 0; i < l.said_count; i++) {
        explicit_bzero(l.said[i].text, strlen(l.said[i].text));
        free(l.said[i].text);
        free(l.said[i].where);
    }
    free(l.said);
    if (!ok) {
        config_free(l.config);
        return NULL;
    }
    return l.config;
}

/* ---- the command line ------------------------------------------------------------------------ */

/* In argv: "***" as far as there is room, then nothing. */
static void hide(char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        text[i] = i < 3 ? '*' : '\0';
}

static void hide_in_url(struct slice url, char *text)
{
    size_t at;
    size_t n;

    if (url_password(url, &at, &n))
        memset(text + at, '*', n);
}

static void say(struct loading *l, const struct option *o, enum config_layer layer, char *where,
                const char *text)
{
    l->said[l->said_count++] =
        (struct said){.option = o, .layer = layer, .where = where, .text = xstrdup(text)};
}

/* The value is copied already; what is left in argv is for everybody to see. */
static void hide_value(const struct option *o, char *value)
{
    if (o->type == OPT_SECRET)
        hide(value, strlen(value));
    if (!o->url)
        return;
    hide_in_url(slice_str(value), value);
    for (char *comma = strchr(value, ','); comma && o->type == OPT_LIST;
         comma = strchr(comma + 1, ','))
        hide_in_url(slice_str(comma + 1), comma + 1);
}

static const struct option *find_flag(struct slice name)
{
    char flag[OPTION_NAME_BYTES];

    for (size_t i = 0; i < config_option_count; i++) {
        option_flag(&config_options[i], flag);
        if (slice_is(name, flag))
            return &config_options[i];
    }
    return NULL;
}

static bool unknown_flag(struct loading *l, struct slice name)
{
    char(*flags)[OPTION_NAME_BYTES] = xalloc((config_option_count + 4) * sizeof *flags);
    const char **names = xalloc((config_option_count + 4) * sizeof *names);
    size_t n = 0;

    for (size_t i = 0; i < config_option_count; i++) {
        if (!(config_options[i].commands & l->in->command))
            continue;
        option_flag(&config_options[i], flags[n]);
        names[n] = flags[n];
        n++;
    }
    names[n++] = "config";
    names[n++] = "context_param";
    names[n] = "help";
    const char *near = text_nearest(name, names);
    err_set(l->err, ERR_USER, "unknown option --%.*s%s%s%s", (int)(name.n > 100 ? 100 : name.n),
            (const char *)name.p, near ? "; did you mean --" : "; see --help", near ? near : "",
            near ? "?" : "");
    free(names);
    free(flags);
    return false;
}

static bool unknown_param(struct loading *l, struct slice name)
{
    const char **names = xalloc((config_option_count + 1) * sizeof *names);
    size_t n = 0;

    for (size_t i = 0; i < config_option_count; i++) {
        if (config_options[i].param)
            names[n++] = config_options[i].param;
    }
    const char *near = text_nearest(name, names);
    err_set(l->err, ERR_USER, "--context_param %.*s: unknown parameter%s%s%s",
            (int)(name.n > 100 ? 100 : name.n), (const char *)name.p,
            near ? "; did you mean " : "; see --help", near ? near : "", near ? "?" : "");
    free(names);
    return false;
}

/* Scripts wrap values in quotes once too often: "", '""' and "x" are what is within. */
static struct slice unquote(struct slice s)
{
    while (s.n >= 2 && (s.p[0] == '"' || s.p[0] == '\'') && s.p[s.n - 1] == s.p[0])
        s = slice_of(s.p + 1, s.n - 2);
    return s;
}

static const struct option *find_param(struct slice name)
{
    for (size_t i = 0; i < config_option_count; i++) {
        if (config_options[i].param && slice_is(name, config_options[i].param))
            return &config_options[i];
    }
    return NULL;
}

static bool read_param(struct loading *l, char *text)
{
    char *equals = strchr(text, '=');

    if (!equals) { /* not echoed unless it is a name: it might be a secret */
        const struct option *o = find_param(slice_str(text));

        return err_set(l->err, ERR_USER, "--context_param%s%s: name=value is expected",
                       o ? " " : "", o ? o->param : "");
    }
    struct slice name = text_trim(slice_of(text, (size_t)(equals - text)));
    const struct option *o = find_param(name);
    if (!o)
        return unknown_param(l, name);
    if (!(o->commands & l->in->command))
        return err_set(l->err, ERR_USER, "--context_param %s: not a setting of %s", o->param,
                       l->in->command_name);
    struct slice value = unquote(text_trim(slice_str(equals + 1)));
    AUTO_STR char *copy = xstrndup((const char *)value.p, value.n);
    say(l, o, FROM_PARAM, xsprintf("--context_param %s", o->param), copy);
    explicit_bzero(copy, strlen(copy));
    hide_value(o, equals + 1);
    l->config->by_context_params = true;
    return true;
}

static void set_file(struct loading *l, const char *where, const char *file)
{
    l->file = config_keep(l->config, xstrdup(file));
    l->file_where = config_keep(l->config, xstrdup(where));
}

/* `--name` and `--no-name` of a bool; false when it needs a value. */
static bool say_bool(struct loading *l, const struct option *o, bool value)
{
    char flag[OPTION_NAME_BYTES];

    if (o->type != OPT_BOOL)
        return false;
    option_flag(o, flag);
    say(l, o, FROM_FLAG, xsprintf("--%s%s", value ? "" : "no-", flag), value ? "true" : "false");
    return true;
}

/* `*i` is moved past a value that is an argument of its own. */
static bool read_flag(struct loading *l, int *i)
{
    char *name = l->in->argv[*i] + 2;
    char *equals = strchr(name, '=');
    struct slice word = slice_of(name, equals ? (size_t)(equals - name) : strlen(name));
    const struct option *o = find_flag(word);
    bool is_file = slice_is(word, "config");
    bool is_param = slice_is(word, "context_param");

    if (!o && !equals && word.n > 3 && !memcmp(name, "no-", 3)) {
        o = find_flag(slice_of(name + 3, word.n - 3));
        if (o && o->commands & l->in->command && say_bool(l, o, false))
            return true;
        return unknown_flag(l, word);
    }
    if (!o && !is_file && !is_param)
        return unknown_flag(l, word);
    if (o && !(o->commands & l->in->command))
        return err_set(l->err, ERR_USER, "--%.*s is no option of %s", (int)word.n, name,
                       l->in->command_name);
    if (!equals && o && say_bool(l, o, true))
        return true;
    char *value = equals ? equals + 1 : NULL;
    if (!equals) {
        char *next = *i + 1 < l->in->argc ? l->in->argv[*i + 1] : NULL;

        if (!next || !strncmp(next, "--", 2))
            return err_set(l->err, ERR_USER, "--%s: a value is missing", name);
        value = next;
        ++*i;
    }
    if (is_param)
        return read_param(l, value);
    AUTO_STR char *where = xsprintf("--%.*s", (int)word.n, name);
    if (is_file) {
        set_file(l, where, value);
        return true;
    }
    say(l, o, FROM_FLAG, TAKE(where), value);
    hide_value(o, value);
    return true;
}

static bool is_bool_word(const char *text)
{
    return !strcmp(text, "true") || !strcmp(text, "false");
}

static bool read_arguments(struct loading *l)
{
    bool options = true;
    const char *bare_bool = NULL; /* the argument before, when it was a bool without a value */

    for (int i = 0; i < l->in->argc; i++) {
        char *text = l->in->argv[i];

        if (options && !strcmp(text, "--")) {
            options = false;
        } else if (options && !strncmp(text, "--", 2)) {
            size_t before = l->said_count;

            if (!read_flag(l, &i))
                return false;
            bool is_bool = l->said_count > before && l->said[before].option->type == OPT_BOOL;
            bare_bool = is_bool && !strchr(text, '=') ? text : NULL;
            continue;
        } else if (options && text[0] == '-' && text[1]) {
            return err_set(l->err, ERR_USER,
                           "unknown option %.2s; options begin with --, see --help", text);
        } else if (bare_bool && is_bool_word(text)) {
            return err_set(l->err, ERR_USER, "%s: write %s=%s", bare_bool, bare_bool, text);
        } else {
            l->operands[l->operand_count++] = config_keep(l->config, xstrdup(text));
        }
        bare_bool = NULL;
    }
    return true;
}

static bool apply_said(struct loading *l, enum config_layer layer)
{
    for (size_t i = 0; i < l->said_count; i++) {
        const struct said *s = &l->said[i];

        if (s->layer == layer &&
            !value_store(l->config, s->option, layer, s->where, slice_str(s->text), l->err))
            return false;
    }
    return true;
}

static bool take_table(struct loading *l)
{
    const char *operand = l->operands[0];

    if (!l->in->takes_table || !operand)
        return true;
    const char *dot = strchr(operand, '.');
    const char *table = dot ? dot + 1 : operand;
    AUTO_STR char *where = xsprintf("the argument %s", operand);

    if (dot == operand || !*table)
        return err_set(l->err, ERR_USER, "%s: KEYSPACE.TABLE is expected", where);
    if (config_from(l->config, "cassandra.table") == FROM_FLAG ||
        (dot && config_from(l->config, "cassandra.keyspace") == FROM_FLAG))
        return err_set(l->err, ERR_USER, "%s: the table is said twice, here and by an option",
                       where);
    if (dot && !value_store(l->config, option_find("cassandra.keyspace"), FROM_FLAG, where,
                            slice_of(operand, (size_t)(dot - operand)), l->err))
        return false;
    if (!value_store(l->config, option_find("cassandra.table"), FROM_FLAG, where, slice_str(table),
                     l->err))
        return false;
    memmove(l->operands, l->operands + 1, l->operand_count * sizeof *l->operands);
    l->operand_count--;
    return true;
}

/* ---- the other layers ------------------------------------------------------------------------ */

static bool apply_defaults(struct loading *l)
{
    for (size_t i = 0; i < config_option_count; i++) {
        const struct option *o = &config_options[i];

        if (o->def && !value_store(l->config, o, FROM_DEFAULT, NULL, slice_str(o->def), l->err))
            return false;
    }
    return true;
}

static const char *variable(const struct loading *l, const char *name)
{
    size_t n = strlen(name);

    for (char *const *e = l->in->env; e && *e; e++) {
        if (!strncmp(*e, name, n) && (*e)[n] == '=')
            return *e + n + 1;
    }
    return NULL;
}

static bool read_file(struct loading *l, const char *file, int fd)
{
    struct buf text;
    ssize_t got = 1;
    uint8_t *to;

    buf_init(&text, CONFIG_FILE_MAX_BYTES + 1);
    while ((to = buf_room(&text, 1)) && (got = read(fd, to, text.cap - text.len)) > 0)
        text.len += (size_t)got;
    bool ok = got < 0 ? err_set(l->err, ERR_USER, "%s: %s", file, strerror(errno))
              : text.len > CONFIG_FILE_MAX_BYTES
                  ? err_set(l->err, ERR_USER, "%s: larger than 1MiB", file)
                  : yaml_settings(l->config, file, buf_slice(&text), l->err);
    if (text.p)
        explicit_bzero(text.p, text.len);
    buf_fini(&text);
    return ok;
}

static bool apply_file(struct loading *l)
{
    const char *by_variable = variable(l, "CASS2ES_CONFIG");

    if (!l->file && by_variable)
        set_file(l, "CASS2ES_CONFIG", by_variable);
    const char *file = l->file ? l->file : l->in->default_file;
    if (!file || !*file) /* --config "" means: no file */
        return true;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && !l->file)
        return true;
    if (fd < 0)
        return err_set(l->err, ERR_USER, "%s%s%s: %s", l->file ? l->file_where : "",
                       l->file ? ": " : "", file, strerror(errno));
    bool ok = read_file(l, file, fd);
    close(fd);
    l->config->config_file = config_keep(l->config, xstrdup(file));
    return ok;
}

static bool apply_environment(struct loading *l)
{
    char name[OPTION_NAME_BYTES];

    for (size_t i = 0; i < config_option_count; i++) {
        const struct option *o = &config_options[i];

        option_env(o, name);
        const char *text = o->flag_only ? NULL : variable(l, name);
        if (text && !value_store(l->config, o, FROM_ENV, name, slice_str(text), l->err))
            return false;
    }
    return true;
}

/* ---- what the layers leave open -------------------------------------------------------------- */

static bool read_secret_files(struct loading *l)
{
    for (size_t i = 0; i < config_option_count; i++) {
        const struct option *o = &config_options[i];

        if (!o->secret_file || !(o->commands & l->in->command))
            continue;
        const struct option *file = option_find(o->secret_file);
        struct config_origin *secret_origin = &l->config->own->origins[i];
        const struct config_origin *origin = &l->config->own->origins[file - config_options];
        struct secret *secret = (void *)((uint8_t *)l->config + o->offset);
        const char *name =
            *(const char *const *)(const void *)((const uint8_t *)l->config + file->offset);

        if (!name || origin->layer < secret_origin->layer)
            continue;
        if (origin->layer == secret_origin->layer && secret_text(secret))
            return err_set(l->err, ERR_USER, "%s and %s: one of them, please", secret_origin->where,
                           origin->where);
        if (!secret_read(secret, name, l->err))
            return err_wrap(l->err, "%s", origin->where);
        *secret_origin = *origin;
    }
    return true;
}

/* Where a default that is found at run time came from. */
static void set_found(struct loading *l, const char *name, const char *from, const char *text)
{
    const struct option *o = option_find(name);
    const char *copy = config_keep(l->config, xstrdup(text));

    memcpy((uint8_t *)l->config + o->offset, &copy, sizeof copy);
    l->config->own->origins[o - config_options].where = from;
}

static bool find_state_dir(struct loading *l)
{
    const char *systemd = variable(l, "STATE_DIRECTORY");
    const char *xdg = variable(l, "XDG_STATE_HOME");
    const char *home = variable(l, "HOME");

    if (l->config->run.state_dir)
        return true;
    if (systemd && *systemd) {
        AUTO_STR char *first = xstrndup(systemd, strcspn(systemd, ":"));

        set_found(l, "run.state_dir", "STATE_DIRECTORY", first);
    } else if (xdg && *xdg == '/') {
        AUTO_STR char *dir = xsprintf("%s/cass2es", xdg);

        set_found(l, "run.state_dir", "XDG_STATE_HOME", dir);
    } else if (home && *home) {
        AUTO_STR char *dir = xsprintf("%s/.local/state/cass2es", home);

        set_found(l, "run.state_dir", "HOME", dir);
    } else if (option_find("run.state_dir")->commands & l->in->command & ~(unsigned)FOR_CHECK) {
        return err_set(
            l->err, ERR_USER,
            "no folder for the journal: none of STATE_DIRECTORY, XDG_STATE_HOME and HOME "
            "is set; give --state-dir");
    }
    return true;
}

static void find_profiles(struct loading *l)
{
    static const char *const places[] = {"../share/cass2es/profiles", "profiles", "../../profiles",
                                         NULL}; /* installed, archive, build/NAME */

    for (const char *const *p = places;
         l->in->program_dir && !l->config->mapping.profiles_dir && *p; p++) {
        AUTO_STR char *dir = xsprintf("%s/%s", l->in->program_dir, *p);
        AUTO_STR char *found = realpath(dir, NULL);
        struct stat st;

        if (found && !stat(found, &st) && S_ISDIR(st.st_mode))
            set_found(l, "mapping.profiles_dir", "found beside the program", found);
    }
}

/* A variable that is nearly a setting's is a slip of the pen; others belong to somebody else. */
static void warn_of_variables(struct loading *l)
{
    char(*envs)[OPTION_NAME_BYTES] = xalloc((config_option_count + 1) * sizeof *envs);
    const char **names = xalloc((config_option_count + 2) * sizeof *names);
    size_t count = 0;
    size_t warned = 0;
    size_t prefix = strlen("CASS2ES_");

    for (size_t i = 0; i < config_option_count; i++) {
        option_env(&config_options[i], envs[i]);
        if (!config_options[i].flag_only)
            names[count++] = envs[i] + prefix;
    }
    names[count] = "CONFIG";
    for (char *const *e = l->in->env; e && *e; e++)
        warned += !strncmp(*e, "CASS2ES_", prefix);
    char **warnings = config_keep(l->config, xalloc((warned + 1) * sizeof *warnings));
    warned = 0;
    for (char *const *e = l->in->env; e && *e; e++) {
        size_t n = strcspn(*e, "=");

        if (strncmp(*e, "CASS2ES_", prefix) != 0 || n == prefix)
            continue;
        struct slice rest = slice_of(*e + prefix, n - prefix);
        const char *near = text_nearest(rest, names);
        unsigned edits = near ? text_distance(rest, slice_str(near)) : 0;

        if (edits == 1 || edits == 2)
            warnings[warned++] =
                config_keep(l->config, xsprintf("%.*s is no setting; did you mean CASS2ES_%s?",
                                                (int)n, *e, near));
    }
    l->config->warnings = (const char *const *)warnings;
    free(names);
    free(envs);
}

static bool find_defaults(struct loading *l)
{
    /* The documented command line sends nothing unless it is told to. */
    if (l->config->by_context_params && !config_said(l->config, "sync.dry_run")) {
        l->config->sync.dry_run = true;
        l->config->own->origins[option_find("sync.dry_run") - config_options].where =
            "default with --context_param";
    }
    find_profiles(l);
    warn_of_variables(l);
    return find_state_dir(l);
}

static bool check_required(struct loading *l)
{
    for (size_t i = 0; i < config_option_count; i++) {
        if (config_options[i].required & l->in->command &&
            !config_need(l->config, config_options[i].name, l->err))
            return false;
    }
    return true;
}
