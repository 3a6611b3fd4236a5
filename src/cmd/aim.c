#include "cmd/aim.h"

#include <string.h>

#include "base/buf.h"

static const char *const aim_names[] = {
    "ids sent to a Sync API",
    "documents of a whole table (--index, --mapping)",
    "documents of given ids (--id-file)",
    "rows written to a file (--to)",
};

enum { DOCUMENTS = AIM_TABLE | AIM_IDS, ROWS = AIM_TABLE | AIM_FILE };

/* A name that ends with a dot is a whole section. */
static const struct {
    const char *name;
    unsigned aims;
    bool anywhere; /* it says what is done: nobody may believe that it held, wherever it was said */
} options[] = {
    {"ids.file", AIM_API | AIM_IDS, true},
    {"ids.csv_column", AIM_API | AIM_IDS, true},
    {"ids.form", AIM_API, true},
    {"ids.column", AIM_API, true},
    {"sync.index", DOCUMENTS, true},
    {"sync.where", ROWS, true},
    {"sync.columns", ROWS | AIM_IDS, true},
    {"sync.limit", ROWS, true},
    {"sync.sample", ROWS, true},
    {"sync.max_docs_per_s", DOCUMENTS, false},
    {"sync.max_reads_per_s", DOCUMENTS | AIM_FILE, false},
    {"sync.missing", AIM_IDS, false},
    {"sync.object_type", AIM_API, false},
    {"sync.scan_workers", AIM_API, false},
    {"sync.body", DOCUMENTS, false},
    {"sync.max_skew", DOCUMENTS, false},
    {"sync.change_versioning", DOCUMENTS, false},
    {"sync.strict_values", DOCUMENTS | AIM_FILE, false},
    {"sync_api.", AIM_API, false},
    {"run.log_dir", AIM_API, false},
};

enum aim aim_of(const struct config *c)
{
    if (c->sync.to)
        return AIM_FILE;
    if (!c->sync.index && !c->mapping.files[0])
        return AIM_API;
    return c->ids.file ? AIM_IDS : AIM_TABLE;
}

static void add_aims(struct buf *b, unsigned aims)
{
    unsigned left = (unsigned)__builtin_popcount(aims);

    for (size_t i = 0; i < sizeof aim_names / sizeof *aim_names; i++)
        if (aims & 1U << i)
            buf_printf(b, "%s%s", aim_names[i], --left > 1 ? ", " : left ? " and " : "");
}

static bool fault(const struct config *c, const char *name, unsigned aims, enum aim aim,
                  struct err *err)
{
    struct buf text;

    buf_init(&text, 4096);
    buf_add_str(&text, "is for ");
    add_aims(&text, aims);
    buf_add_str(&text, ", not for ");
    add_aims(&text, aim);
    buf_add_str(&text, ": leave it out");
    config_fault(c, name, err, "%s", buf_cstr(&text));
    buf_fini(&text);
    return false;
}

bool aim_check(const struct config *c, struct err *err)
{
    enum aim aim = aim_of(c);

    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        const char *name = options[i].name;
        size_t n = strlen(name);
        bool section = name[n - 1] == '.';

        for (const struct option *o = config_options; o < config_options + config_option_count; o++)
            if (!(options[i].aims & aim) &&
                (section ? !strncmp(o->name, name, n) : !strcmp(o->name, name)) &&
                (options[i].anywhere ? config_said(c, o->name)
                                     : config_from(c, o->name) == FROM_FLAG))
                return fault(c, o->name, options[i].aims, aim, err);
    }
    return true;
}
