/*
 * config/options.h - every setting: where it lands (struct config) and how it is said (the table).
 *
 * One table drives flags, CASS2ES_* environment, the YAML file, --context_param, --help, man page,
 * reference, completion and `check --print-config`. The file is never seen by lower modules: a
 * command hands each of them its own small struct.
 *
 * Texts are NULL when not given or empty; lists are NULL-terminated and never NULL themselves. All
 * of it belongs to the config and lives as long as it does. Threads: read-only once loaded.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "config/secret.h"

/* ---- values ------------------------------------------------------------------------------------
 */

/* In the order of their `choices` in the table. */
enum config_compression { COMPRESSION_NONE, COMPRESSION_LZ4 };
enum config_id_form { ID_FORM_AUTO, ID_FORM_STRING, ID_FORM_OBJECT, ID_FORM_OBJECT_PER_BLOCK };
enum config_missing { MISSING_REPORT, MISSING_KEEP, MISSING_DELETE };
enum config_progress { PROGRESS_AUTO, PROGRESS_BAR, PROGRESS_PLAIN, PROGRESS_NONE };
enum config_compress { COMPRESS_AUTO, COMPRESS_OFF, COMPRESS_GZIP };
enum config_dialect { DIALECT_AUTO, DIALECT_LMS, DIALECT_USERORG };
/* log.level and log.format have the values of enum log_level and enum log_format (base/log.h). */

struct config {
    struct {
        const char *const *hosts; /* "host", "host:port", "[v6]:port" */
        int port;
        const char *username;
        struct secret password;
        const char
            *password_file; /* already read into password; likewise every *_file of a secret */
        const char *keyspace;
        const char *table;
        const char *local_dc;
        const char *const *address_map; /* "advertised[:port]=reachable[:port]" */
        int consistency;                /* index into its choices: config_word() gives the name */
        int compression;                /* enum config_compression */
        int protocol;                   /* 4 or 5 */
        bool tls;
        const char *ca_file;
        const char *cert_file;
        const char *key_file;
        const char *server_name;
        bool insecure;
        int64_t connect_timeout_ms;
        int64_t request_timeout_ms; /* per attempt */
    } cassandra;
    struct {
        const char *endpoint; /* as given: the scheme may be missing */
        struct secret key;
        const char *key_file;
        int block_size;
        int64_t pause_ms;
        bool await;
        const char *ca_file;
        size_t max_body_bytes;
    } sync_api;
    struct {
        const char *file;       /* "-": standard input */
        const char *csv_column; /* a name, or a number from 1 */
        int form;               /* enum config_id_form */
        const char *column;
    } ids;
    struct {
        const char *object_type;
        bool dry_run;
        int workers; /* 0: 8, but 1 with the Sync API */
        int scan_workers;
        size_t memory_bytes;
        const char *to;    /* a file, "-": standard output, NULL: the Sync API */
        const char *index; /* an index, with the default mapping; NULL: see mapping.files */
        const char *where; /* conditions on rows */
        const char *const *columns; /* empty: all */
        int limit;                  /* 0: none */
        const char *sample;
        size_t body_bytes;
        int max_docs_per_s; /* 0: no limit */
        int max_reads_per_s;
        int64_t max_skew_ms;
        int missing; /* enum config_missing */
        bool fresh;
        bool change_versioning;
        bool strict_values;
    } sync;
    struct {
        const char *log_dir;
        const char *state_dir; /* never NULL for commands that have the option */
        int64_t keep_runs_ms;
        int64_t retry_budget_ms;
    } run;
    struct {
        int64_t connect_timeout_ms;
        int64_t request_timeout_ms;
    } http;
    struct {
        int level;  /* enum log_level */
        int format; /* enum log_format */
    } log;
    struct {
        bool json;
        int progress; /* enum config_progress */
    } output;
    struct {
        const char *const *urls;
        const char *username;
        struct secret password;
        const char *password_file;
        struct secret api_key;
        const char *api_key_file;
        struct secret bearer;
        const char *bearer_file;
        const char *ca_file;
        const char *cert_file;
        const char *key_file;
        int compress; /* enum config_compress */
    } elastic;
    struct {
        const char *const *files; /* a file, or a profile's name such as sunbird/batch */
        const char *profiles_dir; /* NULL: none found */
    } mapping;
    struct {
        const char *listen; /* "host:port", "[v6]:port"; port 0: any free one */
        int64_t sync_timeout_ms;
        int dialect; /* enum config_dialect */
        int queue_ids;
        size_t max_body_bytes;
        int threads;
        const char *keys_file;
        int filter_scan; /* 0 refuse, 1 allow; as whole_table */
        int whole_table;
        int64_t grace_ms;
        int64_t client_timeout_ms;
        int max_connections;
        int keep_ids;
    } serve;
    struct {
        const char *out; /* a folder */
        bool create;
    } init;
    struct {
        const char *reason; /* NULL: all */
    } failures;
    const char *show; /* an id */
    bool print_config;
    const char *config_file; /* the file that was read; NULL: none */

    const char *const *operands; /* arguments that are no options, such as KS.TABLE or a run's id */
    bool by_context_params;      /* a --context_param was given: Sunbird's command line */
    const char *const *warnings; /* for the log: variables that look like a setting and are none */

    struct config_own *own; /* texts, and where each value comes from */
};

/* ---- the table ---------------------------------------------------------------------------------
 */

/* Commands that a setting belongs to. */
enum {
    FOR_SYNC = 1,
    FOR_SERVE = 2,
    FOR_CHECK = 4,
    FOR_RUNS = 8,
    FOR_FAILURES = 16,
    FOR_INIT = 32,
    FOR_ALL = 63,
};

enum option_type {
    OPT_BOOL,
    OPT_INT,
    OPT_SIZE,     /* bytes; KiB, MiB, GiB, kB, MB, GB */
    OPT_DURATION, /* ms; ms, s, m, h, d */
    OPT_STRING,
    OPT_LIST, /* comma-separated, or said again */
    OPT_ENUM, /* one of `choices` */
    OPT_SECRET,
};

struct option {
    const char *name;  /* YAML path */
    const char *flag;  /* --flag and CASS2ES_FLAG; NULL: made from the name */
    const char *param; /* of --context_param; NULL: none */
    enum option_type type;
    size_t offset;              /* in struct config */
    const char *def;            /* NULL: none, false, 0 or empty */
    const char *def_shown;      /* said in place of `def` where the default is found at run time */
    int64_t min, max;           /* OPT_INT, OPT_SIZE, OPT_DURATION */
    const char *const *choices; /* OPT_ENUM: NULL-terminated */
    const char *value;          /* what stands for the value in help: "FILE" */
    const char *help;
    const char *secret_file; /* OPT_SECRET: name of the option that gives it by file */
    unsigned commands;       /* FOR_* */
    unsigned required;       /* FOR_* where it must be given */
    bool identity;           /* part of what makes two commands the same run */
    bool bare_ms;            /* OPT_DURATION: a number without a unit is ms */
    bool flag_only;          /* no YAML key, no variable */
    bool url;                /* a password within is not shown */
};

extern const struct option config_options[];
extern const size_t config_option_count;

/* Of YAML sections, in the order of the table: "cassandra", "How to reach and read Cassandra". */
struct option_section {
    const char *name;
    const char *title;
};
extern const struct option_section config_sections[]; /* ends with a NULL name */

/* NULL when there is none of that path. */
const struct option *option_find(const char *name);
/* "block-size" and "CASS2ES_BLOCK_SIZE", cut to the size of out. */
enum { OPTION_NAME_BYTES = 64 };
void option_flag(const struct option *o, char out[OPTION_NAME_BYTES]);
void option_env(const struct option *o, char out[OPTION_NAME_BYTES]);

/* "1 to 65535", "1ms to 1h", "none, lz4"; nothing where every text is allowed. */
void option_range(const struct option *o, struct buf *out);

/* ---- a loaded configuration --------------------------------------------------------------------
 */

enum config_layer { FROM_DEFAULT, FROM_FILE, FROM_ENV, FROM_PARAM, FROM_FLAG };

void config_free(struct config *c);
AUTO_DEFINE(config);

/* Whether anybody said it (a layer above the defaults). `name` must be in the table. */
bool config_said(const struct config *c, const char *name);
enum config_layer config_from(const struct config *c, const char *name);
/* "--port", "CASS2ES_CASSANDRA_PORT", "/etc/cass2es/cass2es.yaml:3:9", "default". */
const char *config_where(const struct config *c, const char *name);
/* The name of an OPT_ENUM's value: config_word(c, "cassandra.consistency") -> "local_quorum". */
const char *config_word(const struct config *c, const char *name);
/*
 * For what is required only under a condition that the command knows: true when given, else
 * ERR_USER "sync_api.endpoint is missing (--endpoint, CASS2ES_ENDPOINT, sync_api.endpoint
 * in the file, or --context_param sunbird_sync_api_endpoint=...)"
 */
bool config_need(const struct config *c, const char *name, struct err *err);
/* Puts where the value was said in front: "--id-file: no such file: x". Always false (ERR_USER). */
bool config_fault(const struct config *c, const char *name, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The value as people write it ("5s", "a,b", "***" for a secret); empty when there is none. */
void config_show(const struct config *c, const struct option *o, struct buf *out);

/* Every setting, value and where it came from: YAML-like lines, or a JSON array. */
void config_show_all(const struct config *c, bool json, struct buf *out);

/* Canonical text of the settings that make two commands the same run: "name=value\n" each. The
 * caller adds what it found out itself (the keyspace, the file's size and hash are not in it). */
void config_identity(const struct config *c, unsigned command, struct buf *out);
/* JSON object of everything that was said, for people: secrets "***". */
void config_params_json(const struct config *c, unsigned command, struct buf *out);
