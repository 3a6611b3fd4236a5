/* Who is there, and what about an index: on answers that real servers gave. http_call() is played.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "recorded.h"
#include "sink/elastic_parts.h"

enum { CALLS_MAX = 8 };

static struct arena data_mem;
static const struct json *answers; /* of the server at hand */

/* What the next calls are answered: a recorded answer's name, or "STATUS BODY". */
static const char *script[CALLS_MAX];
static char paths[CALLS_MAX][600];
static char bodies[CALLS_MAX][600];
static const char *headers[CALLS_MAX];
static unsigned calls;
static char authorization[100];

struct http_client {
    int unused;
};

struct http_client *http_client_new(const struct http_options *o, struct err *err)
{
    (void)err;
    snprintf(authorization, sizeof authorization, "%s", o->authorization ? o->authorization : "");
    return xalloc(sizeof(struct http_client));
}

void http_client_free(struct http_client *c)
{
    free(c);
}

void http_client_trim(struct http_client *c)
{
    (void)c;
}

bool http_call(struct http_client *c, const struct http_request *r, struct http_answer *out,
               bool *sent, struct err *err)
{
    const char *next = script[calls];

    (void)c;
    (void)err;
    assert_non_null(next);
    snprintf(paths[calls], sizeof *paths, "%s %s", r->method, r->url);
    snprintf(bodies[calls], sizeof *bodies, "%.*s", (int)r->body.n, (const char *)r->body.p);
    headers[calls] = r->headers ? r->headers[0] : NULL;
    calls++;
    *sent = true;
    *out = (struct http_answer){.retry_after_ms = -1};
    const struct json *a = json_get(answers, next);
    out->status = a ? recorded_status(a) : atoi(next);
    out->body = a ? json_get_string(a, "body") : slice_str(next + 4);
    return true;
}

static struct elastic_shared shared;
static struct clock clock_;

static struct elastic *play(const char *a, const char *b, const char *c)
{
    static const char *const urls[] = {"http://es", NULL};
    struct elastic_options o = {.urls = urls, .clock = &clock_, .shared = &shared};
    struct err err = {0};

    clock_init_system(&clock_);
    memset(script, 0, sizeof script);
    script[0] = a;
    script[1] = b;
    script[2] = c;
    calls = 0;
    return elastic_new(&o, &err);
}

static void load(const char *server)
{
    arena_reset(&data_mem);
    answers = recorded_load(server, &data_mem);
    shared = (struct elastic_shared){.major = server[0] == 'e' ? server[14] - '0' : 7};
}

static int start(void **state)
{
    (void)state;
    arena_init(&data_mem, 64 << 20);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    arena_fini(&data_mem);
    return 0;
}

/* ---- who is there */

static void identifies(void **state)
{
    static const struct {
        const char *text;
        int major, minor;
        bool opensearch;
        int paths_of;
    } want[] = {{"6.8.23", 6, 8, false, 6},   {"7.10.2", 7, 10, false, 7},
                {"7.17.28", 7, 17, false, 7}, {"8.19.0", 8, 19, false, 8},
                {"2.19.1", 2, 19, true, 7},   {"3.1.0", 3, 1, true, 7}};

    (void)state;
    for (int s = 0; s < RECORDED_SERVERS; s++) {
        struct elastic_version v;
        struct err err = {0};
        load(recorded_servers[s]);
        for (int gateway = 0; gateway < 2; gateway++) { /* which knows no "GET /" */
            shared.major = 0;
            AUTO(elastic) struct elastic *e = play(gateway ? "404 x" : "root", "nodes_version", "");
            assert_true(elastic_identify(e, &v, &err));
            assert_string_equal(v.text, want[s].text);
            assert_int_equal(v.major, want[s].major);
            assert_int_equal(v.minor, want[s].minor);
            assert_int_equal(v.opensearch, want[s].opensearch);
            assert_true(v.known);
            assert_int_equal(shared.major, want[s].paths_of);
            assert_int_equal(calls, gateway || want[s].major == 8 ? 2 : 1);
        }
    }
}

static void identifies_others(void **state)
{
    static const struct {
        const char *root, *nodes;
        const char *error; /* NULL: fine */
        int major;
        bool known;
    } cases[] = {
        {"200 {\"version\":{\"number\":\"9.0.1\"}}", NULL,
         "http://es is Elasticsearch 9.0.1, which is not supported; Elasticsearch 6.8, 7 and 8 "
         "are, and OpenSearch 2 and 3",
         0, false},
        {"200 {\"version\":{\"number\":\"6.7.2\"}}", NULL,
         "http://es is Elasticsearch 6.7.2, which is not supported; Elasticsearch 6.8, 7 and 8 "
         "are, and OpenSearch 2 and 3",
         0, false},
        {"200 {\"version\":{\"number\":\"2.4.6\"}}", NULL,
         "http://es is Elasticsearch 2.4.6, which is not supported; Elasticsearch 6.8, 7 and 8 "
         "are, and OpenSearch 2 and 3",
         0, false},
        {"405 x", "200 {\"nodes\":{\"a\":{\"version\":\"1.3.0\"}}}",
         "http://es is OpenSearch 1.3.0, which is not supported; Elasticsearch 6.8, 7 and 8 are, "
         "and OpenSearch 2 and 3",
         0, false},
        /* made to look like an old Elasticsearch */
        {"200 {\"version\":{\"number\":\"7.10.2\",\"distribution\":\"opensearch\"}}",
         "200 {\"nodes\":{\"a\":{\"version\":\"2.5.0\"}}}", NULL, 2, true},
        {"200 {\"version\":{\"number\":\"7.10.2\",\"distribution\":\"opensearch\"}}", "404 x", NULL,
         7, false},
        {"404 x", "404 x", NULL, 7, false},
        {"200 <html>", NULL, "http://es is not Elasticsearch or OpenSearch", 0, false},
        {"200 {\"version\":{\"number\":7}}", NULL, "http://es is not Elasticsearch or OpenSearch",
         0, false},
    };

    (void)state;
    answers = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        AUTO(elastic) struct elastic *e = play(cases[i].root, cases[i].nodes, NULL);
        struct elastic_version v;
        struct err err = {0};
        assert_int_equal(elastic_identify(e, &v, &err), !cases[i].error);
        assert_string_equal(err.text, cases[i].error ? cases[i].error : "");
        assert_int_equal(err.kind, cases[i].error ? ERR_USER : ERR_NONE);
        if (cases[i].error)
            continue;
        assert_int_equal(v.major, cases[i].major);
        assert_int_equal(v.known, cases[i].known);
    }
}

static void logs_in(void **state)
{
    static const char *const urls[] = {"http://es", NULL};
    struct elastic_options o = {.urls = urls, .username = "u", .bearer = "t0ken"};
    struct err err = {0};

    (void)state;
    elastic_free(elastic_new(&o, &err));
    assert_string_equal(authorization, "Bearer t0ken");
    o.api_key = "k";
    elastic_free(elastic_new(&o, &err));
    assert_string_equal(authorization, "ApiKey k");
    o.api_key = o.bearer = "";
    elastic_free(elastic_new(&o, &err));
    assert_string_equal(authorization, "");
}

static void begins_with_different_nodes(void **state)
{
    static const char *const urls[] = {"http://a", "http://b", "http://c", NULL};
    struct elastic_shared all = {0};
    struct elastic_options o = {.urls = urls, .shared = &all};
    struct err err = {0};

    (void)state;
    for (int i = 0; i < 6; i++) {
        AUTO(elastic) struct elastic *e = elastic_new(&o, &err);
        assert_string_equal(elastic_url(e), urls[i % 3]);
    }
}

/* ---- an index */

static void looks(void **state)
{
    (void)state;
    for (int s = 0; s < RECORDED_SERVERS; s++) {
        bool six = s == 0, exists = false;
        struct elastic_index i;
        struct err err = {0};
        load(recorded_servers[s]);
        AUTO(elastic) struct elastic *e =
            play(six ? "index_get_include_type_name" : "index_get_flat", "state_terms", "");
        assert_true(elastic_index_look(e, "rec_one", &i, &exists, &err));
        assert_true(exists);
        assert_string_equal(paths[0],
                            six ? "GET http://es/rec_one?flat_settings=true&include_type_name=false"
                                : "GET http://es/rec_one?flat_settings=true");
        assert_string_equal(i.name, "rec_one");
        assert_string_equal(i.versioning, "read_time");
        assert_int_equal(i.gc_deletes_ms, 3600000);
        assert_int_equal(i.primary_term, 1);
        assert_int_equal(i.shards, 2);
        assert_int_equal(i.replicas, 0);
        assert_true(i.source_enabled && !i.write_blocked && !i.is_alias);

        /* an alias, defaults, no source, more than one, nothing, closed; started anew */
        AUTO(elastic) struct elastic *alias = play("alias_get_index", "state_terms_reopened", "");
        assert_true(elastic_index_look(alias, "rec_alias", &i, &exists, &err));
        assert_true(i.is_alias);
        assert_string_equal(i.name, "rec_one");
        assert_true(i.primary_term > 1);
        assert_non_null(strstr(paths[1], "/_cluster/state/metadata/rec_one?"));
        AUTO(elastic) struct elastic *plain = play("index_default_get", "state_terms", "");
        assert_true(elastic_index_look(plain, "rec_default", &i, &exists, &err));
        assert_int_equal(i.gc_deletes_ms, 60000);
        assert_int_equal(i.shards, six ? 5 : 1);
        assert_int_equal(i.replicas, 1);
        assert_string_equal(i.versioning, "");
        AUTO(elastic) struct elastic *two = play("alias_two_get_index", NULL, NULL);
        assert_false(elastic_index_look(two, "rec_two", &i, &exists, &err));
        assert_string_equal(err.text, "alias \"rec_two\" stands for 2 indices; documents are "
                                      "written to an alias of one");
        assert_int_equal(err.kind, ERR_USER);
        err = (struct err){0};
        AUTO(elastic) struct elastic *none = play("index_missing", NULL, NULL);
        assert_true(elastic_index_look(none, "rec_one", &i, &exists, &err));
        assert_false(exists);
        AUTO(elastic) struct elastic *closed =
            play("index_default_get", "state_terms_closed", NULL);
        assert_false(elastic_index_look(closed, "rec_default", &i, &exists, &err));
        assert_string_equal(err.text, "index \"rec_default\" is closed; open it first");
        err = (struct err){0};
        if (!six) { /* its answer has the type in between, which we ask to be left out */
            AUTO(elastic) struct elastic *bare = play("index_no_source_get", "state_terms", NULL);
            assert_true(elastic_index_look(bare, "rec_no_source", &i, &exists, &err));
            assert_false(i.source_enabled);
        }
        if (json_get(answers, "data_stream_get_index")) {
            AUTO(elastic) struct elastic *stream = play("data_stream_get_index", NULL, NULL);
            assert_false(elastic_index_look(stream, "rec_stream", &i, &exists, &err));
            assert_string_equal(err.text, "\"rec_stream\" is a data stream; documents are written "
                                          "to an index, or an alias of one");
        }
    }
}

static void reads_settings(void **state)
{
    static const struct {
        const char *gc;
        int64_t ms;
    } cases[] = {{"1h", 3600000}, {"90s", 90000}, {"500ms", 500}, {"2d", 172800000},
                 {"10m", 600000}, {"0", 0},       {"0s", 0},      {"-1", 0},
                 {"5micros", 0},  {"9nanos", 0},  {"soon", 60000}};

    (void)state;
    answers = NULL;
    shared = (struct elastic_shared){0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        AUTO_STR char *text = xsprintf(
            "200 {\"i\":{\"settings\":{\"index.gc_deletes\":\"%s\",\"index.blocks.write\":\"true\"}"
            ",\"mappings\":{\"_source\":{\"excludes\":[\"x\"]}}}}",
            cases[i].gc);
        AUTO(elastic) struct elastic *e =
            play(text,
                 "200 {\"metadata\":{\"indices\":{\"i\":{\"state\":\"open\",\"primary_terms\":{"
                 "\"0\":3,\"1\":7,\"2\":5}}}}}",
                 NULL);
        struct elastic_index out;
        struct err err = {0};
        bool exists;
        assert_true(elastic_index_look(e, "i", &out, &exists, &err));
        assert_int_equal(out.gc_deletes_ms, cases[i].ms);
        assert_int_equal(out.primary_term, 7);
        assert_int_equal(out.lowest_term, 3);
        assert_true(out.write_blocked);
        assert_false(out.source_enabled);
    }
}

static void refuses_names(void **state)
{
    static const char *const names[] = {"", "a*", "a,b", "_all", "-x", "a/b", "a b"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        AUTO(elastic) struct elastic *e = play(NULL, NULL, NULL);
        AUTO_STR char *want = xsprintf("\"%s\" is not the name of an index", names[i]);
        struct elastic_index out;
        struct err err = {0};
        bool exists;
        assert_false(elastic_index_look(e, names[i], &out, &exists, &err));
        assert_string_equal(err.text, want);
        assert_int_equal(err.kind, ERR_USER);
    }
}

static void makes(void **state)
{
    (void)state;
    for (int s = 0; s < RECORDED_SERVERS; s++) {
        struct err err = {0};
        load(recorded_servers[s]);
        AUTO(elastic) struct elastic *e = play(s ? "index_create_plain" : "index_create_typed",
                                               "index_create_again", "index_create_bad_mapping");
        assert_true(elastic_index_create(e, "rec_one", slice_str("{\"settings\":{}}"), &err));
        assert_string_equal(paths[0], s ? "PUT http://es/rec_one"
                                        : "PUT http://es/rec_one?include_type_name=false");
        assert_string_equal(bodies[0], "{\"settings\":{}}");
        assert_false(elastic_index_create(e, "rec_one", slice_str("{}"), &err));
        assert_int_equal(err.kind, ERR_USER);
        assert_non_null(strstr(err.text, "create index \"rec_one\": http://es answered 400: "
                                         "resource_already_exists_exception: index [rec_one/"));
        err = (struct err){0};
        assert_false(elastic_index_create(e, "rec_one", slice_str("{}"), &err));
        assert_int_equal(err.kind, ERR_USER);
        assert_non_null(strstr(err.text, "[nope]"));
    }
}

static void tells_terms(void **state)
{
    (void)state;
    for (int s = 1; s < RECORDED_SERVERS; s++) {
        struct err err = {0};
        struct elastic_terms terms = {0};
        load(recorded_servers[s]);
        AUTO(elastic) struct elastic *e = play("state_terms", "state_terms_missing", NULL);
        assert_true(elastic_primary_terms(e, "rec_one", &terms, &err));
        assert_true(terms.highest == 1 && terms.lowest == 1 && terms.sum >= 1);
        assert_false(elastic_primary_terms(e, "rec_one", &terms, &err));
        assert_int_equal(err.kind, ERR_USER);
        assert_non_null(strstr(err.text, "there is no index or alias \"rec_one\""));
    }
}

static void pauses(void **state)
{
    static const struct {
        const char *health, *blocks, *why; /* why: its beginning; "": none */
    } cases[] = {
        {"health_index", "state_block_none", ""},
        {"health_red", "state_block_none", "the index is red: 1 shards are nowhere"},
        {"health_index", "state_block_write", "no writing: index write (api)"},
        {"health_index", "state_block_read_only", "no writing: index read-only (api)"},
        {"200 {\"status\":\"yellow\"}",
         "200 {\"blocks\":{\"global\":{\"2\":{\"description\":\"no master\",\"levels\":[\"write\","
         "\"metadata_write\"]}}}}",
         "no writing: no master"},
        {"200 {\"status\":\"yellow\"}",
         "200 {\"blocks\":{\"indices\":{\"i\":{\"9\":{\"description\":\"x\",\"levels\":["
         "\"metadata_write\"]}}}}}",
         ""},
    };

    (void)state;
    for (int s = 0; s < RECORDED_SERVERS; s++) {
        load(recorded_servers[s]);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            AUTO(elastic) struct elastic *e = play(cases[i].health, cases[i].blocks, NULL);
            struct elastic_state out;
            struct err err = {0};
            assert_true(elastic_cluster_state(e, "rec_one", &out, &err));
            assert_string_equal(out.why, cases[i].why);
            assert_int_equal(out.pause, *cases[i].why != 0);
        }
        AUTO(elastic) struct elastic *e =
            play("health_index", "state_block_read_only_allow_delete", NULL);
        struct elastic_state out;
        struct err err = {0};
        assert_true(elastic_cluster_state(e, "rec_one", &out, &err));
        assert_true(out.pause);
        assert_string_equal(out.why, s ? "no writing: disk usage exceeded flood-stage watermark, "
                                         "index has read-only-allow-delete block"
                                       : "no writing: index read-only / allow delete (api)");
    }
}

/* ---- writing */

static bool send_one(struct elastic *e, const struct elastic_target *t, size_t pad,
                     struct elastic_sent *sent)
{
    struct elastic_action a = {.id = slice_str("a")};
    struct elastic_bulk b;
    struct err err = {0};

    elastic_bulk_init(&b, 1 << 20);
    b.lean = true;
    elastic_bulk_begin(&b, &a);
    buf_printf(&b.body, "{\"x\":\"%*s\"}", (int)pad, "");
    assert_true(elastic_bulk_end(&b));
    bool ok = elastic_bulk_send(e, t, &b, sent, &err);
    assert_true(!ok || b.items[0].verdict == ELASTIC_DONE);
    elastic_bulk_fini(&b);
    return ok;
}

static void writes_where_it_should(void **state)
{
    static const char done[] =
        "200 "
        "{\"took\":3,\"errors\":false,\"items\":[{\"index\":{\"_primary_term\":1,\"status\":201}"
        "}]}";
    static const char query[] = "?filter_path=took,errors,items.*.status,items.*._primary_term,"
                                "items.*.error.type,items.*.error.reason";
    struct elastic_sent sent;

    (void)state;
    answers = NULL;
    shared = (struct elastic_shared){0};
    AUTO(elastic) struct elastic *e = play(done, done, "429 {}");
    AUTO_STR char *seven = xsprintf("POST http://es/i%%C3%%BC/_bulk%s&pipeline=a%%26b", query);
    AUTO_STR char *six = xsprintf("POST http://es/i/my_type/_bulk%s", query);
    assert_true(send_one(
        e, &(struct elastic_target){.index = "i\xc3\xbc", .pipeline = "a&b", .type = "my_type"}, 1,
        &sent));
    assert_string_equal(paths[0], seven);
    assert_string_equal(bodies[0], "{\"index\":{\"_id\":\"a\"}}\n{\"x\":\" \"}\n");
    assert_int_equal(sent.requests, 1);
    assert_int_equal(sent.bytes, strlen(bodies[0]));
    assert_int_equal(sent.wire_bytes, sent.bytes);
    assert_int_equal(sent.server_ms, 3);
    assert_false(sent.pushed_back);
    assert_null(headers[0]);
    shared.major = 6;
    assert_true(send_one(e, &(struct elastic_target){.index = "i", .type = "my_type"}, 1, &sent));
    assert_string_equal(paths[1], six);
    assert_false(send_one(e, &(struct elastic_target){.index = "i"}, 1, &sent));
    assert_true(sent.pushed_back);
    assert_non_null(strstr(paths[2], "/i/_doc/_bulk?"));

    AUTO(elastic) struct elastic *packed = play(done, NULL, NULL);
    gzip_fini(&packed->gzip);
    gzip_init(&packed->gzip, GZIP_ON, &clock_);
    assert_true(send_one(packed, &(struct elastic_target){.index = "i"}, 100000, &sent));
    assert_string_equal(headers[0], "Content-Encoding: gzip");
    assert_memory_equal(bodies[0], "\x1f\x8b", 2);
    assert_true(sent.bytes > 100000 && sent.wire_bytes < 1000);
}

static void looks_where_it_should(void **state)
{
    static const struct slice ids[] = {{(const uint8_t *)"r1", 2}, {(const uint8_t *)"r1", 2}};
    static const struct slice routings[] = {{(const uint8_t *)"k", 1}, {NULL, 0}};

    (void)state;
    for (int s = 0; s < RECORDED_SERVERS; s++) {
        struct elastic_found found[2];
        struct err err = {0};
        size_t got = 0;
        load(recorded_servers[s]);
        AUTO(elastic) struct elastic *e = play("mget_routing", NULL, NULL);
        assert_true(elastic_mget(e, &(struct elastic_target){.index = "rec_one"}, ids, routings, 2,
                                 true, 0, &data_mem, found, &got, &err));
        assert_true(got > 0);
        assert_string_equal(bodies[0],
                            "{\"docs\":[{\"_id\":\"r1\",\"routing\":\"k\"},{\"_id\":\"r1\"}]}");
        assert_string_equal(paths[0], s ? "POST http://es/rec_one/_mget"
                                        : "POST http://es/rec_one/_doc/_mget");
        assert_true(found[0].found && found[0].primary_term == 1 && found[0].source);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identifies),
        cmocka_unit_test(identifies_others),
        cmocka_unit_test(logs_in),
        cmocka_unit_test(begins_with_different_nodes),
        cmocka_unit_test(looks),
        cmocka_unit_test(reads_settings),
        cmocka_unit_test(refuses_names),
        cmocka_unit_test(makes),
        cmocka_unit_test(tells_terms),
        cmocka_unit_test(pauses),
        cmocka_unit_test(writes_where_it_should),
        cmocka_unit_test(looks_where_it_should),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
