#include "config/options.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

/* The C type behind each kind of option. FIELD with a member of another type does not compile. */
#define C_TYPE_OPT_BOOL     bool
#define C_TYPE_OPT_INT      int
#define C_TYPE_OPT_SIZE     size_t
#define C_TYPE_OPT_DURATION int64_t
#define C_TYPE_OPT_STRING   const char *
#define C_TYPE_OPT_LIST     const char *const *
#define C_TYPE_OPT_ENUM     int
#define C_TYPE_OPT_SECRET   struct secret
#define SAME_TYPE(member, c_type)                                                                  \
    __builtin_types_compatible_p(__typeof__(((struct config *)0)->member), c_type)
#define FIELD(kind, member)                                                                        \
    .type = kind, .offset = offsetof(struct config, member) +                                      \
                            0 * sizeof(char[SAME_TYPE(member, C_TYPE_##kind) ? 1 : -1])

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

enum { DAY_MS = 86400000 };

/* clang-format off */
const struct option_section config_sections[] = {
    {"cassandra", "Cassandra: where and how to read"},
    {"sync_api",  "Sync API: where ids are sent"},
    {"ids",       "Ids: from a file or standard input"},
    {"sync",      "What to sync, and how much at once"},
    {"elastic",   "Elasticsearch: where documents are written"},
    {"init",      "What init writes"},
    {"mapping",   "Mappings: what documents are made of"},
    {"serve",     "Server"},
    {"http",      "HTTP calls"},
    {"run",       "Runs: logs, journal, patience"},
    {"log",       "Events on standard error"},
    {"output",    "Output"},
    {"failures",  "Which failures"},
    {NULL, NULL},
};

#define READS (FOR_SYNC | FOR_SERVE | FOR_CHECK | FOR_INIT | FOR_FAILURES)
#define RUNS (FOR_SYNC | FOR_SERVE | FOR_CHECK | FOR_FAILURES)
#define JOB (FOR_SYNC | FOR_CHECK)
#define AGAIN (FOR_SYNC | FOR_CHECK | FOR_FAILURES)
#define SERVER (FOR_SERVE | FOR_CHECK)

const struct option config_options[] = {
    /* ---- cassandra */
    {
        .name = "cassandra.hosts", .param = "sunbird_cassandra_server",
        FIELD(OPT_LIST, cassandra.hosts), .value = "HOST[:PORT],...",
        .commands = READS, .required = FOR_SERVE, .identity = true,
        .help = "Contact points; the other nodes are learnt from them. An id file that needs no look into "
                "the table can do without.",
    },
    {
        .name = "cassandra.port", .param = "sunbird_cassandra_port",
        FIELD(OPT_INT, cassandra.port), .value = "PORT",
        .def = "9042", .min = 1, .max = 65535, .commands = READS, .identity = true,
        .help = "Port of contact points that are given without one.",
    },
    {
        .name = "cassandra.username", .param = "sunbird_cassandra_username",
        FIELD(OPT_STRING, cassandra.username), .value = "NAME", .commands = READS,
        .help = "User; empty where the cluster has no log-in.",
    },
    {
        .name = "cassandra.password", .param = "sunbird_cassandra_password",
        FIELD(OPT_SECRET, cassandra.password), .value = "TEXT", .commands = READS,
        .secret_file = "cassandra.password_file",
        .help = "Password; better given by file or environment.",
    },
    {
        .name = "cassandra.password_file",
        FIELD(OPT_STRING, cassandra.password_file), .value = "FILE", .commands = READS,
        .help = "File that holds the password.",
    },
    {
        .name = "cassandra.keyspace", .flag = "keyspace", .param = "sunbird_cassandra_keyspace",
        FIELD(OPT_STRING, cassandra.keyspace), .value = "KEYSPACE", .commands = READS, .identity = true,
        .def_shown = "found by the table's name",
        .help = "Keyspace of the table.",
    },
    {
        .name = "cassandra.table", .flag = "table", .param = "sunbird_cassandra_table",
        FIELD(OPT_STRING, cassandra.table), .value = "TABLE", .commands = JOB | FOR_INIT, .identity = true,
        .help = "Table to read, or whose ids are synced when there is no id file.",
    },
    {
        .name = "cassandra.local_dc", .flag = "local-dc",
        FIELD(OPT_STRING, cassandra.local_dc), .value = "NAME", .commands = READS,
        .def_shown = "that of the first contact point that answers",
        .help = "Data centre to read from.",
    },
    {
        .name = "cassandra.address_map", .flag = "address-map",
        FIELD(OPT_LIST, cassandra.address_map), .value = "FROM[:PORT]=TO[:PORT],...", .commands = READS,
        .help = "Reachable addresses in place of those that nodes advertise (port-forward, NAT).",
    },
    {
        .name = "cassandra.consistency", .flag = "consistency",
        FIELD(OPT_ENUM, cassandra.consistency), .def = "local_quorum",
        .choices = WORDS("local_quorum", "local_one", "one", "two", "three", "quorum", "all"),
        .commands = READS, .identity = true,
        .help = "Consistency of reads.",
    },
    {
        .name = "cassandra.compression",
        FIELD(OPT_ENUM, cassandra.compression), .def = "none", .choices = WORDS("none", "lz4"),
        .commands = READS,
        .help = "Compression between Cassandra and here.",
    },
    {
        .name = "cassandra.protocol",
        FIELD(OPT_INT, cassandra.protocol), .def = "5", .min = 4, .max = 5, .value = "VERSION",
        .commands = READS,
        .help = "Highest version of the native protocol to use.",
    },
    {
        .name = "cassandra.tls",
        FIELD(OPT_BOOL, cassandra.tls), .def = "false", .commands = READS,
        .help = "Speak TLS to Cassandra.",
    },
    {
        .name = "cassandra.ca_file",
        FIELD(OPT_STRING, cassandra.ca_file), .value = "FILE", .def_shown = "the system's",
        .commands = READS,
        .help = "PEM file of the authorities that may sign a node's certificate.",
    },
    {
        .name = "cassandra.cert_file",
        FIELD(OPT_STRING, cassandra.cert_file), .value = "FILE", .commands = READS,
        .help = "PEM file of our own certificate.",
    },
    {
        .name = "cassandra.key_file",
        FIELD(OPT_STRING, cassandra.key_file), .value = "FILE", .commands = READS,
        .help = "PEM file of its key.",
    },
    {
        .name = "cassandra.server_name",
        FIELD(OPT_STRING, cassandra.server_name), .value = "NAME", .def_shown = "the host",
        .commands = READS,
        .help = "Name to look for in a node's certificate.",
    },
    {
        .name = "cassandra.insecure",
        FIELD(OPT_BOOL, cassandra.insecure), .def = "false", .commands = READS,
        .help = "Do not verify certificates: anybody in between can read and change everything.",
    },
    {
        .name = "cassandra.connect_timeout",
        FIELD(OPT_DURATION, cassandra.connect_timeout_ms), .def = "5s", .min = 1, .max = 3600000,
        .commands = READS,
        .help = "Time for connection, TLS and log-in together.",
    },
    {
        .name = "cassandra.request_timeout",
        FIELD(OPT_DURATION, cassandra.request_timeout_ms), .def = "12s", .min = 1, .max = 3600000,
        .commands = READS,
        .help = "Time for one attempt of a read.",
    },

    /* ---- sync_api */
    {
        .name = "sync_api.endpoint", .flag = "endpoint", .param = "sunbird_sync_api_endpoint",
        FIELD(OPT_STRING, sync_api.endpoint), .value = "URL", .commands = AGAIN, .identity = true,
        .url = true,
        .help = "URL of the Sync API, such as http://HOST:9000/v1/data/sync; https:// is assumed.",
    },
    {
        .name = "sync_api.key", .param = "sunbird_sync_api_key",
        FIELD(OPT_SECRET, sync_api.key), .value = "TEXT", .commands = AGAIN,
        .secret_file = "sync_api.key_file",
        .help = "Bearer key of the Sync API; better given by file or environment.",
    },
    {
        .name = "sync_api.key_file",
        FIELD(OPT_STRING, sync_api.key_file), .value = "FILE", .commands = AGAIN,
        .help = "File that holds the key.",
    },
    {
        .name = "sync_api.block_size", .flag = "block-size", .param = "sunbird_sync_block_size",
        FIELD(OPT_INT, sync_api.block_size), .def = "100", .min = 1, .max = 100000, .value = "IDS",
        .commands = AGAIN,
        .help = "Ids in a call.",
    },
    {
        .name = "sync_api.pause", .flag = "pause", .param = "sunbird_sync_sleep_time",
        FIELD(OPT_DURATION, sync_api.pause_ms), .def = "5s", .min = 0, .max = DAY_MS, .bare_ms = true,
        .commands = AGAIN,
        .help = "Time from the end of a call to the start of that worker's next.",
    },
    {
        .name = "sync_api.await", .flag = "await",
        FIELD(OPT_BOOL, sync_api.await), .def = "false", .commands = AGAIN,
        .help = "Ask the server to answer after its work (operationType: sync), and check each id.",
    },
    {
        .name = "sync_api.ca_file", .flag = "ca-file",
        FIELD(OPT_STRING, sync_api.ca_file), .value = "FILE", .def_shown = "the system's",
        .commands = AGAIN,
        .help = "PEM file of the authorities that may sign the Sync API's certificate.",
    },
    {
        .name = "sync_api.max_body",
        FIELD(OPT_SIZE, sync_api.max_body_bytes), .def = "1MB", .min = 1024, .max = 1 << 30,
        .commands = JOB,
        .help = "Largest body of a call; a block that would be larger is cut.",
    },

    /* ---- ids */
    {
        .name = "ids.file", .flag = "id-file", .param = "sunbird_sync_id_file",
        FIELD(OPT_STRING, ids.file), .value = "FILE|-", .commands = JOB, .identity = true,
        .help = "Ids to sync: CSV, JSON lines, or a failure log; - is standard input.",
    },
    {
        .name = "ids.csv_column", .flag = "csv-column",
        FIELD(OPT_STRING, ids.csv_column), .value = "NAME|N", .commands = JOB, .identity = true,
        .help = "The file's column that holds the ids, by its header or counted from 1.",
    },
    {
        .name = "ids.form", .flag = "id-form",
        FIELD(OPT_ENUM, ids.form), .def = "auto",
        .choices = WORDS("auto", "string", "object", "object-per-block"),
        .commands = JOB, .identity = true,
        .help = "How an id is written in a call; auto is what the object type's server understands.",
    },
    {
        .name = "ids.column", .flag = "id-column",
        FIELD(OPT_STRING, ids.column), .value = "COLUMN", .def_shown = "the one that the server wants",
        .commands = JOB, .identity = true,
        .help = "With the Sync API: the table's column that the file's ids are values of.",
    },

    /* ---- sync */
    {
        .name = "sync.object_type", .flag = "object-type", .param = "sunbird_sync_object_type",
        FIELD(OPT_STRING, sync.object_type), .value = "TYPE", .commands = JOB, .identity = true,
        .help = "What the ids are for the server: user, organisation, batch, user_course, location.",
    },
    {
        .name = "sync.dry_run", .flag = "dry-run", .param = "dry_run",
        FIELD(OPT_BOOL, sync.dry_run), .def = "false", .commands = JOB, .identity = true,
        .def_shown = "false, but true with any --context_param",
        .help = "Send nothing: show the plan of a sync to an index; ids for the Sync API go to syncIds.csv.",
    },
    {
        .name = "sync.workers", .flag = "workers",
        FIELD(OPT_INT, sync.workers), .def = "0", .min = 0, .max = 256, .value = "N",
        .def_shown = "8, 4 for documents of several tables, 1 with the Sync API", .commands = AGAIN,
        .help = "Threads that read and send at the same time; with the Sync API, calls in flight. 0: the default.",
    },
    {
        .name = "sync.scan_workers", .flag = "scan-workers",
        FIELD(OPT_INT, sync.scan_workers), .def = "2", .min = 1, .max = 256, .value = "N",
        .commands = AGAIN,
        .help = "Threads that scan the table for ids.",
    },
    {
        .name = "sync.memory", .flag = "memory",
        FIELD(OPT_SIZE, sync.memory_bytes), .def = "48MiB", .min = 4 << 20, .max = (int64_t)1 << 40,
        .commands = AGAIN,
        .help = "Budget of bytes for pages and bodies.",
    },
    {
        .name = "sync.to", .flag = "to",
        FIELD(OPT_STRING, sync.to), .value = "FILE|-", .commands = JOB, .identity = true,
        .help = "Write rows as JSON lines to a file (NAME.gz: packed), or - for standard output.",
    },
    {
        .name = "sync.index", .flag = "index",
        FIELD(OPT_STRING, sync.index), .value = "NAME", .commands = JOB | FOR_INIT, .identity = true,
        .help = "Write every row as a document of this index, all columns; see --mapping for more.",
    },
    {
        .name = "sync.where", .flag = "where",
        FIELD(OPT_STRING, sync.where), .value = "CONDITIONS", .commands = JOB, .identity = true,
        .help = "Only rows that fulfil these, such as \"n > 5 AND tags CONTAINS 'x'\"; there is no OR.",
    },
    {
        .name = "sync.columns", .flag = "columns",
        FIELD(OPT_LIST, sync.columns), .value = "NAME,...", .commands = JOB, .identity = true,
        .def_shown = "all columns",
        .help = "What documents are made of: columns, and writetime(c), ttl(c), maxwritetime(c).",
    },
    {
        .name = "sync.limit", .flag = "limit",
        FIELD(OPT_INT, sync.limit), .def = "0", .min = 0, .max = INT32_MAX, .value = "N",
        .def_shown = "no limit", .commands = AGAIN, .identity = true,
        .help = "Stop after so many documents; of failures show: after so many lines.",
    },
    {
        .name = "sync.sample", .flag = "sample",
        FIELD(OPT_STRING, sync.sample), .value = "P%|N", .commands = JOB, .identity = true,
        .help = "Only a share of the partitions, always the same ones; or about N of them.",
    },
    {
        .name = "sync.body", .flag = "bulk-size",
        FIELD(OPT_SIZE, sync.body_bytes), .def = "1MiB", .min = 64 << 10, .max = 100 << 20,
        .commands = AGAIN,
        .help = "Size of a bulk request to aim for; it shrinks while the server is in trouble.",
    },
    {
        .name = "sync.max_docs_per_s", .flag = "max-docs-per-s",
        FIELD(OPT_INT, sync.max_docs_per_s), .def = "0", .min = 0, .max = INT32_MAX, .value = "N",
        .def_shown = "no limit", .commands = AGAIN,
        .help = "Documents sent to Elasticsearch per second, at most.",
    },
    {
        .name = "sync.max_reads_per_s", .flag = "max-reads-per-s",
        FIELD(OPT_INT, sync.max_reads_per_s), .def = "0", .min = 0, .max = INT32_MAX, .value = "N",
        .def_shown = "no limit", .commands = AGAIN,
        .help = "Rows read from Cassandra per second, at most: of all tables, and keys alike.",
    },
    {
        .name = "sync.missing", .flag = "missing",
        FIELD(OPT_ENUM, sync.missing), .def = "report", .choices = WORDS("report", "keep", "delete"),
        .commands = AGAIN, .identity = true,
        .help = "With --id-file: what becomes of the document of an id without a row: told as a failure, left alone, or "
                "deleted after a second look.",
    },
    {
        .name = "sync.max_skew", .flag = "max-skew",
        FIELD(OPT_DURATION, sync.max_skew_ms), .def = "5s", .min = 1, .max = 3600000,
        .commands = RUNS,
        .help = "How far clocks may differ; a later version in the index is not of our making.",
    },
    {
        .name = "sync.fresh", .flag = "fresh",
        FIELD(OPT_BOOL, sync.fresh), .def = "false", .commands = FOR_SYNC | FOR_FAILURES,
        .help = "Start over where an unfinished run could be continued.",
    },
    {
        .name = "sync.change_versioning", .flag = "change-versioning",
        FIELD(OPT_BOOL, sync.change_versioning), .commands = FOR_SYNC | FOR_SERVE | FOR_FAILURES, .flag_only = true,
        .help = "Go on although the index was written under another versioning so far.",
    },
    {
        .name = "sync.strict_values", .flag = "strict-values",
        FIELD(OPT_BOOL, sync.strict_values), .def = "false", .commands = JOB,
        .help = "Fail a document rather than alter a value that JSON cannot hold.",
    },

    /* ---- elastic */
    {
        .name = "elastic.url",
        FIELD(OPT_LIST, elastic.urls), .value = "URL,...", .commands = READS, .required = FOR_SERVE,
        .url = true,
        .help = "Elasticsearch nodes, such as http://HOST:9200.",
    },
    {
        .name = "elastic.username",
        FIELD(OPT_STRING, elastic.username), .value = "NAME", .commands = READS,
        .help = "User; empty where there is no log-in.",
    },
    {
        .name = "elastic.password",
        FIELD(OPT_SECRET, elastic.password), .value = "TEXT", .commands = READS,
        .secret_file = "elastic.password_file",
        .help = "Password; better given by file or environment.",
    },
    {
        .name = "elastic.password_file",
        FIELD(OPT_STRING, elastic.password_file), .value = "FILE", .commands = READS,
        .help = "File that holds the password.",
    },
    {
        .name = "elastic.api_key",
        FIELD(OPT_SECRET, elastic.api_key), .value = "TEXT", .commands = READS,
        .secret_file = "elastic.api_key_file",
        .help = "API key, base64 as Elasticsearch shows it, in place of user and password.",
    },
    {
        .name = "elastic.api_key_file",
        FIELD(OPT_STRING, elastic.api_key_file), .value = "FILE", .commands = READS,
        .help = "File that holds the API key.",
    },
    {
        .name = "elastic.bearer",
        FIELD(OPT_SECRET, elastic.bearer), .value = "TEXT", .commands = READS,
        .secret_file = "elastic.bearer_file",
        .help = "Bearer token, in place of user and password.",
    },
    {
        .name = "elastic.bearer_file",
        FIELD(OPT_STRING, elastic.bearer_file), .value = "FILE", .commands = READS,
        .help = "File that holds the bearer token.",
    },
    {
        .name = "elastic.ca_file",
        FIELD(OPT_STRING, elastic.ca_file), .value = "FILE", .def_shown = "the system's",
        .commands = READS,
        .help = "PEM file of the authorities that may sign Elasticsearch's certificate.",
    },
    {
        .name = "elastic.cert_file",
        FIELD(OPT_STRING, elastic.cert_file), .value = "FILE", .commands = READS,
        .help = "PEM file of the client certificate to show to Elasticsearch.",
    },
    {
        .name = "elastic.key_file",
        FIELD(OPT_STRING, elastic.key_file), .value = "FILE", .commands = READS,
        .help = "PEM file of its key, where the certificate's file does not hold it.",
    },
    {
        .name = "elastic.compress", .flag = "compress",
        FIELD(OPT_ENUM, elastic.compress), .def = "auto", .choices = WORDS("auto", "off", "gzip"),
        .commands = READS,
        .help = "Compression of bulk requests; auto packs them where the link is slower than that.",
    },

    /* ---- init */
    {
        .name = "init.out", .flag = "out",
        FIELD(OPT_STRING, init.out), .def = ".", .def_shown = "the working folder", .value = "DIR",
        .commands = FOR_INIT, .flag_only = true,
        .help = "Folder to write the mapping and the index definition to.",
    },
    {
        .name = "init.create", .flag = "create",
        FIELD(OPT_BOOL, init.create), .def = "false", .commands = FOR_INIT, .flag_only = true,
        .help = "Make the index, of TABLE.index.json as it is there or is written now.",
    },

    /* ---- mapping */
    {
        .name = "mapping.files", .flag = "mapping",
        FIELD(OPT_LIST, mapping.files), .value = "FILE|PROFILE,...", .commands = RUNS | FOR_INIT,
        .required = FOR_SERVE, .identity = true,
        .help = "Document types: mapping files, or profiles such as sunbird/batch; sync takes one.",
    },
    {
        .name = "mapping.profiles_dir", .flag = "profiles-dir",
        FIELD(OPT_STRING, mapping.profiles_dir), .value = "DIR", .commands = RUNS | FOR_INIT,
        .def_shown = "found beside the program",
        .help = "Folder of the profiles.",
    },

    /* ---- serve */
    {
        .name = "serve.listen", .flag = "listen",
        FIELD(OPT_STRING, serve.listen), .def = "127.0.0.1:9000", .value = "HOST:PORT",
        .commands = SERVER,
        .help = "Where to listen; port 0 takes any free one.",
    },
    {
        .name = "serve.sync_timeout", .flag = "sync-timeout",
        FIELD(OPT_DURATION, serve.sync_timeout_ms), .def = "10s", .min = 1, .max = 3600000,
        .commands = SERVER,
        .help = "How long a call with operationType sync waits for the work to end.",
    },
    {
        .name = "serve.dialect", .flag = "dialect",
        FIELD(OPT_ENUM, serve.dialect), .def = "auto", .choices = WORDS("auto", "lms", "userorg"),
        .commands = SERVER,
        .help = "Whose answers to give: auto goes by the types that are served, the call's type and path.",
    },
    {
        .name = "serve.queue_ids",
        FIELD(OPT_INT, serve.queue_ids), .def = "100000", .min = 1, .max = 100000000, .value = "IDS",
        .commands = SERVER,
        .help = "Ids that may wait; calls beyond them are refused until there is room.",
    },
    {
        .name = "serve.max_body",
        FIELD(OPT_SIZE, serve.max_body_bytes), .def = "50MB", .min = 1024, .max = 1 << 30,
        .commands = SERVER,
        .help = "Largest body of a call that is read.",
    },
    {
        .name = "serve.threads",
        FIELD(OPT_INT, serve.threads), .def = "8", .min = 1, .max = 256, .value = "N",
        .commands = SERVER,
        .help = "Threads that read, assemble and index.",
    },

    {
        .name = "serve.keys_file", .flag = "keys-file",
        FIELD(OPT_STRING, serve.keys_file), .value = "FILE", .def_shown = "everybody may call",
        .commands = SERVER,
        .help = "Bearer keys that may call, one per line; read again when the file changes.",
    },
    {
        .name = "serve.filter_scan", .flag = "filter-scan",
        FIELD(OPT_ENUM, serve.filter_scan), .def = "refuse", .choices = WORDS("refuse", "allow"),
        .commands = SERVER,
        .help = "A filter, or an id, without the table's partition key: refuse the call, or scan the table.",
    },
    {
        .name = "serve.whole_table", .flag = "whole-table",
        FIELD(OPT_ENUM, serve.whole_table), .def = "refuse", .choices = WORDS("refuse", "allow"),
        .commands = SERVER,
        .help = "A call without ids, where lms-service syncs the whole table: refuse it, or do that.",
    },
    {
        .name = "serve.grace", .flag = "grace",
        FIELD(OPT_DURATION, serve.grace_ms), .def = "15s", .min = 0, .max = 3600000,
        .commands = SERVER,
        .help = "After SIGTERM, how long to work off what was taken; the rest waits for the next start.",
    },
    {
        .name = "serve.client_timeout",
        FIELD(OPT_DURATION, serve.client_timeout_ms), .def = "30s", .min = 100, .max = 3600000,
        .commands = SERVER,
        .help = "How long a client may take to send a request, to take its answer, or to say nothing.",
    },
    {
        .name = "serve.max_connections",
        FIELD(OPT_INT, serve.max_connections), .def = "512", .min = 1, .max = 65536, .value = "N",
        .commands = SERVER,
        .help = "Connections open at once; each is a thread.",
    },
    {
        .name = "serve.keep_ids",
        FIELD(OPT_INT, serve.keep_ids), .def = "10000000", .min = 0, .max = INT32_MAX, .value = "IDS",
        .commands = SERVER,
        .help = "Ids whose outcome can be asked for, and failures of a server that runs; beyond them, and after "
                "--keep-runs, the oldest are forgotten.",
    },

    /* ---- http */
    {
        .name = "http.connect_timeout",
        FIELD(OPT_DURATION, http.connect_timeout_ms), .def = "5s", .min = 1, .max = 3600000,
        .commands = READS,
        .help = "Time to connect, TLS included.",
    },
    {
        .name = "http.request_timeout", .flag = "request-timeout",
        FIELD(OPT_DURATION, http.request_timeout_ms), .def = "60s", .min = 1, .max = DAY_MS,
        .commands = READS,
        .help = "Time for a whole call.",
    },

    /* ---- run */
    {
        .name = "run.log_dir", .flag = "log-dir",
        FIELD(OPT_STRING, run.log_dir), .def = ".", .def_shown = "the working folder", .value = "DIR", .commands = AGAIN,
        .help = "Folder of SyncSuccess_*.log and SyncFailure_*.log.",
    },
    {
        .name = "run.state_dir", .flag = "state-dir",
        FIELD(OPT_STRING, run.state_dir), .value = "DIR", .commands = FOR_ALL,
        .def_shown = "$STATE_DIRECTORY, $XDG_STATE_HOME/cass2es or ~/.local/state/cass2es",
        .help = "Folder of the journal.",
    },
    {
        .name = "run.keep_runs", .flag = "keep-runs",
        FIELD(OPT_DURATION, run.keep_runs_ms), .def = "30d", .min = 0, .max = (int64_t)3650 * DAY_MS,
        .commands = RUNS,
        .help = "How long the journal keeps finished runs.",
    },
    {
        .name = "run.retry_budget", .flag = "retry-budget",
        FIELD(OPT_DURATION, run.retry_budget_ms), .def = "10m", .min = 0, .max = (int64_t)30 * DAY_MS,
        .commands = RUNS,
        .help = "How long to try again what may pass, before the run stops and can be resumed; 3 s at most "
                "before it has begun.",
    },

    /* ---- log */
    {
        .name = "log.level",
        FIELD(OPT_ENUM, log.level), .def = "info", .choices = WORDS("error", "warn", "info", "debug"),
        .commands = FOR_ALL,
        .help = "Least important events to show.",
    },
    {
        .name = "log.format",
        FIELD(OPT_ENUM, log.format), .def = "text", .choices = WORDS("text", "json"),
        .commands = FOR_ALL,
        .help = "One event per line: key=value, or JSON.",
    },

    /* ---- output */
    {
        .name = "output.json", .flag = "json",
        FIELD(OPT_BOOL, output.json), .def = "false", .commands = FOR_ALL,
        .help = "Results as JSON.",
    },
    {
        .name = "output.progress", .flag = "progress",
        FIELD(OPT_ENUM, output.progress), .def = "auto",
        .choices = WORDS("auto", "bar", "plain", "none"), .commands = FOR_SYNC | FOR_FAILURES,
        .help = "A bar, or a line every 10 s; auto is a bar on a terminal.",
    },
    {
        .name = "failures.reason", .flag = "reason",
        FIELD(OPT_STRING, failures.reason), .value = "REASON", .commands = FOR_FAILURES, .flag_only = true,
        .help = "Only failures of this reason.",
    },
    {
        .name = "show", .flag = "show",
        FIELD(OPT_STRING, show), .value = "ID", .commands = FOR_CHECK, .flag_only = true,
        .help = "Print the document of this id as it would be written: an id, or a JSON object of columns.",
    },
    {
        .name = "print_config", .flag = "print-config",
        FIELD(OPT_BOOL, print_config), .commands = FOR_CHECK, .flag_only = true,
        .help = "Print each setting's value and where it came from.",
    },
};
/* clang-format on */

const size_t config_option_count = sizeof config_options / sizeof config_options[0];

const struct option *option_find(const char *name)
{
    for (size_t i = 0; i < config_option_count; i++) {
        if (!strcmp(config_options[i].name, name))
            return &config_options[i];
    }
    return NULL;
}

void option_flag(const struct option *o, char out[OPTION_NAME_BYTES])
{
    snprintf(out, OPTION_NAME_BYTES, "%s", o->flag ? o->flag : o->name);
    for (char *c = out; *c; c++) {
        if (*c == '.' || *c == '_')
            *c = '-';
    }
}

void option_env(const struct option *o, char out[OPTION_NAME_BYTES])
{
    snprintf(out, OPTION_NAME_BYTES, "CASS2ES_%s", o->flag ? o->flag : o->name);
    for (char *c = out; *c; c++)
        *c = *c == '.' || *c == '-' ? '_' : (char)toupper((unsigned char)*c);
}
