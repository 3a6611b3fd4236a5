#include "config/helper.h"

#define HOSTS "--cassandra-hosts h "

/* ---- every type, said by a flag -----------------------------------------------------------------
 */

static void each_type_takes_its_forms(void **state)
{
    static const struct {
        const char *line, *name, *value;
    } cases[] = {
        {"--cassandra-port 1", "cassandra.port", "1"},
        {"--cassandra-port=65535", "cassandra.port", "65535"},
        {"--cassandra-port 1 --cassandra-port 2", "cassandra.port", "2"},
        {"--await", "sync_api.await", "true"},
        {"--await --no-await", "sync_api.await", "false"},
        {"--await=yes", "sync_api.await", "true"},
        {"--await=0", "sync_api.await", "false"},
        {"--memory 8388608", "sync.memory", "8MiB"},
        {"--memory 64mib", "sync.memory", "64MiB"},
        {"--memory=1GiB", "sync.memory", "1GiB"},
        {"--sync-api-max-body 1500kB", "sync_api.max_body", "1500kB"},
        {"--sync-api-max-body 1048577", "sync_api.max_body", "1048577B"},
        {"--pause 5000", "sync_api.pause", "5s"},
        {"--pause 0", "sync_api.pause", "0"},
        {"--pause 1500ms", "sync_api.pause", "1500ms"},
        {"--retry-budget 0", "run.retry_budget", "0"},
        {"--request-timeout 2m", "http.request_timeout", "2m"},
        {"--keep-runs 48H", "run.keep_runs", "2d"},
        {"--id-form OBJECT", "ids.form", "object"},
        {"--consistency LOCAL_ONE", "cassandra.consistency", "local_one"},
        {"--cassandra-hosts a,b:1,,c", "cassandra.hosts", "a,b:1,c"},
        {"--cassandra-hosts a --cassandra-hosts b", "cassandra.hosts", "a,b"},
        {"--id-file -", "ids.file", "-"},
        {"--id-file=a=b", "ids.file", "a=b"},
        {"--cassandra-password x", "cassandra.password", "***"},
        {"--endpoint http://u:secret@h/p", "sync_api.endpoint", "http://u:***@h/p"},
        {"sunbird.user", "cassandra.keyspace", "sunbird"},
        {"sunbird.user", "cassandra.table", "user"},
        {"user", "cassandra.table", "user"},
        {"user", "cassandra.keyspace", ""},
        {"-- user", "cassandra.table", "user"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct loaded l;
        char line[256];
        bool hosts = strstr(cases[i].line, "hosts") != NULL;

        snprintf(line, sizeof line, "%s%s", hosts ? "" : HOSTS, cases[i].line);
        load_as(&l, FOR_SYNC, line, NULL, NULL);
        if (!l.config)
            fail_msg("%s: %s", line, l.err.text);
        char *text = shown(l.config, cases[i].name);
        assert_string_equal(text, cases[i].value);
        free(text);
        unload(&l);
    }
}

static void a_wrong_line_is_refused_in_these_words(void **state)
{
    static const struct {
        const char *line, *text;
    } cases[] = {
        {"--cassandra-port abc", "--cassandra-port: 'abc' is not a whole number (1 to 65535)"},
        {"--cassandra-port 0", "--cassandra-port: '0' is out of range (1 to 65535)"},
        {"--cassandra-port 1.5", "--cassandra-port: '1.5' is not a whole number (1 to 65535)"},
        {"--block-size -5", "--block-size: '-5' is out of range (1 to 100000)"},
        {"--block-size 99999999999999999999",
         "--block-size: '99999999999999999999' is not a whole number (1 to 100000)"},
        {"--pause -1", "--pause: '-1' is no duration such as 500ms, 5s or 10m (0 to 1d)"},
        {"--pause 25h", "--pause: '25h' is out of range (0 to 1d)"},
        {"--pause 9223372036854775807d",
         "--pause: '9223372036854775807d' is out of range (0 to 1d)"},
        {"--request-timeout 60",
         "--request-timeout: '60' is no duration such as 500ms, 5s or 10m (1ms to 1d)"},
        {"--memory 4XB", "--memory: '4XB' is no size such as 4096, 64KiB or 1MB (4MiB to 1TiB)"},
        {"--memory=", "--memory: '' is no size such as 4096, 64KiB or 1MB (4MiB to 1TiB)"},
        {"--await=perhaps", "--await: 'perhaps' is neither true nor false (true, false)"},
        {"--id-form objekt", "--id-form: 'objekt' is no such choice (auto, string, object, "
                             "object-per-block); did you mean object?"},
        {"--cassandra-compression zstd",
         "--cassandra-compression: 'zstd' is no such choice (none, lz4)"},
        {"--worker 2", "unknown option --worker; did you mean --workers?"},
        {"--block_size 2", "unknown option --block_size; did you mean --block-size?"},
        {"--sync-api-keyy=Sesame", "unknown option --sync-api-keyy; did you mean --sync-api-key?"},
        {"--no-workers", "unknown option --no-workers; did you mean --workers?"},
        {"--xyzzy", "unknown option --xyzzy; see --help"},
        {"-x", "unknown option -x; options begin with --, see --help"},
        {"--table", "--table: a value is missing"},
        {"--table --fresh", "--table: a value is missing"},
        {"--dry-run true", "--dry-run: write --dry-run=true"},
        {"--listen x:1", "--listen is no option of sync"},
        {"--context_param dry_run", "--context_param dry_run: name=value is expected"},
        {"--context_param Sesame", "--context_param: name=value is expected"},
        {"--context_param", "--context_param: a value is missing"},
        {"--context_param sunbird_sync_blok_size=3",
         "--context_param sunbird_sync_blok_size: unknown parameter; did you mean "
         "sunbird_sync_block_size?"},
        {"--context_param=dryrun=true",
         "--context_param dryrun: unknown parameter; did you mean dry_run?"},
        {"--context_param sunbird_cassandra_port=\"\"",
         "--context_param sunbird_cassandra_port: '' is not a whole number (1 to 65535)"},
        {"--context_param dry_run=maybe",
         "--context_param dry_run: 'maybe' is neither true nor false (true, false)"},
        {"a.b --table c", "the argument a.b: the table is said twice, here and by an option"},
        {".b", "the argument .b: KEYSPACE.TABLE is expected"},
        {"a.", "the argument a.: KEYSPACE.TABLE is expected"},
        {"--config /no/such.yaml", "--config: /no/such.yaml: No such file or directory"},
        {"--cassandra-password-file /no/such",
         "--cassandra-password-file: /no/such: No such file or directory"},
        {"--cassandra-password Sesame --cassandra-password-file /dev/null",
         "--cassandra-password and --cassandra-password-file: one of them, please"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct loaded l;
        char line[256];

        snprintf(line, sizeof line, HOSTS "%s", cases[i].line);
        load_as(&l, FOR_SYNC, line, NULL, NULL);
        if (l.config)
            fail_msg("%s: taken", line);
        assert_string_equal(l.err.text, cases[i].text);
        assert_int_equal(l.err.kind, ERR_USER);
        assert_null(strstr(l.err.text, "Sesame"));
    }
}

static void a_missing_host_names_every_way_to_give_it(void **state)
{
    struct loaded l;

    (void)state;
    load_as(&l, FOR_SERVE, "--elastic-url u --mapping m", NULL, NULL);
    assert_null(l.config);
    assert_string_equal(
        l.err.text, "cassandra.hosts is missing: --cassandra-hosts (or CASS2ES_CASSANDRA_HOSTS, "
                    "or cassandra.hosts in the file)");
    load_as(&l, FOR_SERVE, "--context_param sunbird_cassandra_port=1", NULL, NULL);
    assert_null(l.config);
    assert_string_equal(
        l.err.text, "cassandra.hosts is missing: --context_param sunbird_cassandra_server=... (or "
                    "--cassandra-hosts, CASS2ES_CASSANDRA_HOSTS, cassandra.hosts in the file)");
}

/* ---- layers -------------------------------------------------------------------------------------
 */

static void later_layers_win(void **state)
{
    static char *const env[] = {(char *)"HOME=/h", (char *)"CASS2ES_BLOCK_SIZE=30",
                                (char *)"CASS2ES_CASSANDRA_HOSTS=e1,e2", NULL};
    static char *const no_env[] = {(char *)"HOME=/h", NULL};
    char *file = file_of("cassandra:\n  hosts: [f1, f2]\nsync_api:\n  block_size: 20\n");
    static const struct {
        bool file, env;
        const char *line;
        int block_size;
        enum config_layer layer;
        const char *where, *hosts;
    } cases[] = {
        {false, false, HOSTS, 100, FROM_DEFAULT, "default", "h"},
        {true, false, "", 20, FROM_FILE, NULL, "f1,f2"},
        {true, true, "", 30, FROM_ENV, "CASS2ES_BLOCK_SIZE", "e1,e2"},
        {true, true, "--context_param sunbird_sync_block_size=40", 40, FROM_PARAM,
         "--context_param sunbird_sync_block_size", "e1,e2"},
        {true, true, "--block-size 50 --context_param sunbird_sync_block_size=40", 50, FROM_FLAG,
         "--block-size", "e1,e2"},
        {true, true, "--context_param sunbird_cassandra_server=p --cassandra-hosts a", 30, FROM_ENV,
         "CASS2ES_BLOCK_SIZE", "a"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct loaded l;
        char where[256];

        load_as(&l, FOR_SYNC, cases[i].line, cases[i].file ? file : NULL,
                cases[i].env ? env : no_env);
        if (!l.config)
            fail_msg("%s", l.err.text);
        snprintf(where, sizeof where, "%s:4:15", file);
        assert_int_equal(l.config->sync_api.block_size, cases[i].block_size);
        assert_int_equal(config_from(l.config, "sync_api.block_size"), cases[i].layer);
        assert_string_equal(config_where(l.config, "sync_api.block_size"),
                            cases[i].where ? cases[i].where : where);
        assert_int_equal(config_said(l.config, "sync_api.block_size"),
                         cases[i].layer != FROM_DEFAULT);
        char *hosts = shown(l.config, "cassandra.hosts");
        assert_string_equal(hosts, cases[i].hosts);
        free(hosts);
        unload(&l);
    }
    unlink(file);
    free(file);
}

static void the_file_is_named_by_flag_or_variable(void **state)
{
    char *one = file_of("sync_api:\n  block_size: 1\n");
    char *two = file_of("sync_api:\n  block_size: 2\n");
    char variable[64];
    char line[128];
    struct loaded l;

    (void)state;
    snprintf(variable, sizeof variable, "CASS2ES_CONFIG=%s", one);
    char *const env[] = {(char *)"HOME=/h", variable, NULL};
    load_as(&l, FOR_SYNC, HOSTS, "/no/default", env);
    assert_int_equal(l.config->sync_api.block_size, 1);
    assert_string_equal(l.config->config_file, one);
    unload(&l);
    snprintf(line, sizeof line, HOSTS "--config %s", two);
    load_as(&l, FOR_SYNC, line, "/no/default", env);
    assert_int_equal(l.config->sync_api.block_size, 2);
    unload(&l);
    load_as(&l, FOR_SYNC, HOSTS "--config=", one, NULL); /* none at all */
    assert_int_equal(l.config->sync_api.block_size, 100);
    assert_null(l.config->config_file);
    unload(&l);
    load_as(&l, FOR_SYNC, HOSTS, "/no/default", NULL); /* the default may be missing */
    assert_non_null(l.config);
    unload(&l);
    unlink(one);
    unlink(two);
    free(one);
    free(two);
}

/* ---- Sunbird's command line
 * ---------------------------------------------------------------------- */

static void context_params_are_taken_in_every_writing(void **state)
{
    static const struct {
        const char *line, *name, *value;
    } cases[] = {
        {"--context_param sunbird_cassandra_username=\"\"", "cassandra.username", ""},
        {"--context_param sunbird_cassandra_username='\"\"'", "cassandra.username", ""},
        {"--context_param sunbird_cassandra_username=", "cassandra.username", ""},
        {"--context_param sunbird_cassandra_username=\"bob\"", "cassandra.username", "bob"},
        {"--context_param=sunbird_cassandra_username=bob", "cassandra.username", "bob"},
        {"--context_param sunbird_cassandra_username=a=b", "cassandra.username", "a=b"},
        {"--context_param sunbird_cassandra_username=\"", "cassandra.username", "\""},
        {"--context_param sunbird_cassandra_password=\"\"", "cassandra.password", ""},
        {"--context_param sunbird_cassandra_password=p", "cassandra.password", "***"},
        {"--context_param sunbird_sync_sleep_time=10000", "sync_api.pause", "10s"},
        {"--context_param sunbird_sync_block_size=1 --context_param sunbird_sync_block_size=2",
         "sync_api.block_size", "2"},
        {"--context_param sunbird_sync_id_file=\"\"", "ids.file", ""},
        {"--context_param sunbird_sync_object_type=user", "sync.object_type", "user"},
        {"--context_param sunbird_cassandra_table=course_batch", "cassandra.table", "course_batch"},
        {"--context_param sunbird_cassandra_keyspace=sb", "cassandra.keyspace", "sb"},
        {"--context_param sunbird_cassandra_port=1", "cassandra.port", "1"},
        {"--context_param sunbird_sync_api_endpoint=h/p", "sync_api.endpoint", "h/p"},
        {"--context_param sunbird_sync_api_key=k", "sync_api.key", "***"},
        {"--context_param dry_run=false", "sync.dry_run", "false"},
        {"--context_param dry_run=\"FALSE\"", "sync.dry_run", "false"},
        {"--context_param sunbird_sync_object_type=user", "sync.dry_run", "true"},
        {"--context_param sunbird_sync_object_type=user --no-dry-run", "sync.dry_run", "false"},
        {"--table user", "sync.dry_run", "false"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct loaded l;
        char line[256];

        snprintf(line, sizeof line, HOSTS "%s", cases[i].line);
        load_as(&l, FOR_SYNC, line, NULL, NULL);
        if (!l.config)
            fail_msg("%s: %s", line, l.err.text);
        assert_int_equal(l.config->by_context_params, strstr(line, "context_param") != NULL);
        char *text = shown(l.config, cases[i].name);
        assert_string_equal(text, cases[i].value);
        free(text);
        unload(&l);
    }
}

static void a_variable_that_says_dry_run_is_heard(void **state)
{
    static char *const env[] = {(char *)"HOME=/h", (char *)"CASS2ES_DRY_RUN=no", NULL};
    struct loaded l;

    (void)state;
    load_as(&l, FOR_SYNC, HOSTS "--context_param sunbird_cassandra_table=user", NULL, env);
    assert_false(l.config->sync.dry_run);
    assert_true(config_said(l.config, "sync.dry_run"));
    unload(&l);
    load_as(&l, FOR_SYNC, HOSTS "--context_param sunbird_cassandra_table=user", NULL, NULL);
    assert_true(l.config->sync.dry_run);
    assert_false(config_said(l.config, "sync.dry_run"));
    assert_string_equal(config_where(l.config, "sync.dry_run"), "default with --context_param");
    unload(&l);
}

/* ---- secrets
 * ------------------------------------------------------------------------------------- */

static bool line_has(const struct loaded *l, const char *word)
{
    return memmem(l->line, sizeof l->line, word, strlen(word)) != NULL;
}

static void secrets_leave_the_command_line(void **state)
{
    static const char *const lines[] = {
        "--cassandra-password Sesame",
        "--cassandra-password=Sesame",
        "--context_param sunbird_sync_api_key=Sesame",
        "--context_param=sunbird_cassandra_password=\"Sesame\"",
        "--endpoint http://u:Sesame@h/p",
        "--context_param sunbird_sync_api_endpoint=http://u:Sesame@h/p",
    };
    struct loaded l;

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char line[256];

        snprintf(line, sizeof line, HOSTS "%s --table user", lines[i]);
        load_as(&l, FOR_SYNC, line, NULL, NULL);
        assert_non_null(l.config);
        assert_false(line_has(&l, "Sesame"));
        assert_true(line_has(&l, "***"));
        assert_string_equal(l.argv[l.argc - 1], "user"); /* the rest is untouched */
        unload(&l);
    }
    load_as(&l, FOR_SERVE,
            HOSTS "--mapping m --elastic-url http://a:Sesame@x,http://b:Sesame@y --elastic-api-key "
                  "Sesame",
            NULL, NULL);
    assert_non_null(l.config);
    assert_false(line_has(&l, "Sesame"));
    assert_string_equal(l.config->elastic.urls[1], "http://b:Sesame@y");
    assert_string_equal(secret_text(&l.config->elastic.api_key), "Sesame");
    unload(&l);
}

static void secrets_are_in_nothing_that_is_shown(void **state)
{
    struct loaded l;
    struct buf out;

    (void)state;
    load_as(&l, FOR_SYNC,
            HOSTS "--cassandra-password Sesame --context_param sunbird_sync_api_key=Sesame "
                  "--endpoint http://u:Sesame@h/p",
            NULL, NULL);
    assert_non_null(l.config);
    assert_string_equal(secret_text(&l.config->cassandra.password), "Sesame");
    assert_string_equal(secret_text(&l.config->sync_api.key), "Sesame");
    assert_string_equal(l.config->sync_api.endpoint, "http://u:Sesame@h/p");
    buf_init(&out, 1 << 20);
    config_show_all(l.config, false, &out);
    config_show_all(l.config, true, &out);
    config_identity(l.config, FOR_SYNC, &out);
    config_params_json(l.config, FOR_SYNC, &out);
    assert_null(strstr(buf_cstr(&out), "Sesame"));
    buf_reset(&out);
    config_params_json(l.config, FOR_SYNC, &out);
    assert_string_equal(buf_cstr(&out),
                        "{\"cassandra.hosts\":\"h\",\"cassandra.password\":\"***\","
                        "\"sync_api.endpoint\":\"http://u:***@h/p\",\"sync_api.key\":\"***\"}");
    buf_fini(&out);
    unload(&l);
}

static void a_secret_comes_from_the_higher_layer(void **state)
{
    char *file = file_of("from-file\n");
    char variable[64];
    char line[128];
    struct loaded l;

    (void)state;
    snprintf(variable, sizeof variable, "CASS2ES_SYNC_API_KEY_FILE=%s", file);
    char *const env[] = {(char *)"HOME=/h", variable, (char *)"CASS2ES_CASSANDRA_PASSWORD=by-env",
                         NULL};
    load_as(&l, FOR_SYNC, HOSTS, NULL, env);
    assert_string_equal(secret_text(&l.config->sync_api.key), "from-file");
    assert_string_equal(secret_text(&l.config->cassandra.password), "by-env");
    assert_string_equal(config_where(l.config, "sync_api.key"), "CASS2ES_SYNC_API_KEY_FILE");
    unload(&l);
    load_as(&l, FOR_SYNC, HOSTS "--sync-api-key by-flag", NULL, env);
    assert_string_equal(secret_text(&l.config->sync_api.key), "by-flag");
    unload(&l);
    snprintf(line, sizeof line, HOSTS "--cassandra-password-file %s", file);
    load_as(&l, FOR_SYNC, line, NULL, env);
    assert_string_equal(secret_text(&l.config->cassandra.password), "from-file");
    unload(&l);
    load_as(&l, FOR_SYNC, HOSTS "--context_param sunbird_sync_api_key=\"\"", NULL, env);
    assert_null(secret_text(&l.config->sync_api.key)); /* said to be none */
    unload(&l);
    unlink(file);
    free(file);
}

/* ---- what is found at run time
 * ------------------------------------------------------------------- */

static void the_state_folder_is_found(void **state)
{
    static const struct {
        char *env[4];
        const char *line, *dir, *where;
    } cases[] = {
        {{(char *)"STATE_DIRECTORY=/var/lib/a:/var/lib/b", (char *)"HOME=/h", NULL},
         "",
         "/var/lib/a",
         "STATE_DIRECTORY"},
        {{(char *)"XDG_STATE_HOME=/x", (char *)"HOME=/h", NULL},
         "",
         "/x/cass2es",
         "XDG_STATE_HOME"},
        {{(char *)"XDG_STATE_HOME=relative", (char *)"HOME=/h", NULL},
         "",
         "/h/.local/state/cass2es",
         "HOME"},
        {{(char *)"HOME=/h", NULL}, "--state-dir s", "s", "--state-dir"},
        {{(char *)"CASS2ES_STATE_DIR=/v", NULL}, "", "/v", "CASS2ES_STATE_DIR"},
    };
    static char *const bare[] = {NULL};
    struct loaded l;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[128];

        snprintf(line, sizeof line, HOSTS "%s", cases[i].line);
        load_as(&l, FOR_SYNC, line, NULL, cases[i].env);
        assert_non_null(l.config);
        assert_string_equal(l.config->run.state_dir, cases[i].dir);
        assert_string_equal(config_where(l.config, "run.state_dir"), cases[i].where);
        unload(&l);
    }
    load_as(&l, FOR_SYNC, HOSTS, NULL, bare);
    assert_null(l.config);
    assert_string_equal(l.err.text, "no folder for the journal: none of STATE_DIRECTORY, "
                                    "XDG_STATE_HOME and HOME is set; give --state-dir");
}

static void a_slip_in_a_variable_is_told(void **state)
{
    static char *const env[] = {(char *)"HOME=/h",
                                (char *)"CASS2ES_SYNC_API_KEYY=Sesame",
                                (char *)"CASS2ES_SOMEBODY_ELSES=1",
                                (char *)"CASS2ES_TEST_PASSWORD=1",
                                (char *)"CASS2ES_BLOCK_SIZE=7",
                                (char *)"CASS2ES_CONFIG=",
                                NULL};
    struct loaded l;

    (void)state;
    load_as(&l, FOR_SYNC, HOSTS, NULL, env);
    assert_non_null(l.config);
    assert_string_equal(l.config->warnings[0], "CASS2ES_SYNC_API_KEYY is no setting; did you mean "
                                               "CASS2ES_SYNC_API_KEY?");
    assert_null(l.config->warnings[1]);
    unload(&l);
}

static void what_is_left_are_operands(void **state)
{
    struct loaded l;

    (void)state;
    load_as(&l, FOR_RUNS, "show 20260102-030405-7f3a --json", NULL, NULL);
    assert_non_null(l.config);
    assert_string_equal(l.config->operands[0], "show");
    assert_string_equal(l.config->operands[1], "20260102-030405-7f3a");
    assert_null(l.config->operands[2]);
    assert_true(l.config->output.json);
    unload(&l);
}

/* ---- identity
 * ------------------------------------------------------------------------------------ */

static void identity_is_what_the_run_does_not_how(void **state)
{
    static const struct {
        const char *line;
        bool same;
    } cases[] = {
        {"--workers 9", true},
        {"--block-size 7", true},
        {"--pause 0", true},
        {"--memory 100MiB", true},
        {"--fresh", true},
        {"--log-dir x", true},
        {"--cassandra-password x", true},
        {"--sync-api-key x", true},
        {"--table other", false},
        {"--keyspace other", false},
        {"--cassandra-hosts other", false},
        {"--id-file x", false},
        {"--id-form string", false},
        {"--id-column x", false},
        {"--csv-column x", false},
        {"--endpoint x", false},
        {"--object-type x", false},
        {"--consistency one", false},
        {"--dry-run", false},
        {"--to x", false},
    };
    struct loaded base;
    struct buf wanted;
    struct buf got;

    (void)state;
    buf_init(&wanted, 1 << 16);
    buf_init(&got, 1 << 16);
    load_as(&base, FOR_SYNC, HOSTS, NULL, NULL);
    config_identity(base.config, FOR_SYNC, &wanted);
    assert_non_null(strstr(buf_cstr(&wanted), "cassandra.hosts=\"h\"\n"));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct loaded l;
        char line[128];

        snprintf(line, sizeof line, HOSTS "%s", cases[i].line);
        load_as(&l, FOR_SYNC, line, NULL, NULL);
        assert_non_null(l.config);
        buf_reset(&got);
        config_identity(l.config, FOR_SYNC, &got);
        if (slice_eq(buf_slice(&got), buf_slice(&wanted)) != cases[i].same)
            fail_msg("%s", cases[i].line);
        unload(&l);
    }
    unload(&base);
    buf_fini(&wanted);
    buf_fini(&got);
}

static void an_id_file_is_the_same_from_another_folder(void **state)
{
    struct loaded a;
    struct loaded b;
    struct buf one;
    struct buf two;

    (void)state;
    buf_init(&one, 1 << 16);
    buf_init(&two, 1 << 16);
    load_as(&a, FOR_SYNC, HOSTS "--id-file /dev/null", NULL, NULL);
    load_as(&b, FOR_SYNC, HOSTS "--id-file /dev/../dev/null", NULL, NULL);
    config_identity(a.config, FOR_SYNC, &one);
    config_identity(b.config, FOR_SYNC, &two);
    assert_string_equal(buf_cstr(&one), buf_cstr(&two));
    unload(&a);
    unload(&b);
    buf_fini(&one);
    buf_fini(&two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_takes_its_forms),
        cmocka_unit_test(a_wrong_line_is_refused_in_these_words),
        cmocka_unit_test(a_missing_host_names_every_way_to_give_it),
        cmocka_unit_test(later_layers_win),
        cmocka_unit_test(the_file_is_named_by_flag_or_variable),
        cmocka_unit_test(context_params_are_taken_in_every_writing),
        cmocka_unit_test(a_variable_that_says_dry_run_is_heard),
        cmocka_unit_test(secrets_leave_the_command_line),
        cmocka_unit_test(secrets_are_in_nothing_that_is_shown),
        cmocka_unit_test(a_secret_comes_from_the_higher_layer),
        cmocka_unit_test(the_state_folder_is_found),
        cmocka_unit_test(a_slip_in_a_variable_is_told),
        cmocka_unit_test(what_is_left_are_operands),
        cmocka_unit_test(identity_is_what_the_run_does_not_how),
        cmocka_unit_test(an_id_file_is_the_same_from_another_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
