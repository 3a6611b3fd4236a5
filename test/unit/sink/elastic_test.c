#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "sink/elastic.h"

static struct arena mem, problems;

static int start(void **state)
{
    (void)state;
    arena_init(&mem, 8 << 20);
    arena_init(&problems, 1 << 20);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    arena_fini(&mem);
    arena_fini(&problems);
    return 0;
}

/* ---- the bulk writer */

static bool add(struct elastic_bulk *b, struct elastic_action a, const char *source)
{
    elastic_bulk_begin(b, &a);
    buf_add_str(&b->body, source);
    return elastic_bulk_end(b);
}

static void writes_lines(void **state)
{
    struct elastic_bulk b;
    static const struct {
        struct elastic_action a;
        const char *source, *line;
    } cases[] = {
        {{.op = ELASTIC_CREATE, .seq_no = 9, .primary_term = 9, .version = 9},
         "{\"x\":1}",
         "{\"create\":{\"_id\":\"a\\\"\\n\"}}\n{\"x\":1}\n"},
        {{.condition = ELASTIC_IF_SEQ_NO, .seq_no = 5, .primary_term = 2},
         "{}",
         "{\"index\":{\"_id\":\"a\\\"\\n\",\"if_seq_no\":5,\"if_primary_term\":2}}\n{}\n"},
        {{.op = ELASTIC_DELETE,
          .condition = ELASTIC_IF_SEQ_NO,
          .seq_no = INT64_MAX,
          .primary_term = 1},
         "",
         "{\"delete\":{\"_id\":\"a\\\"\\n\",\"if_seq_no\":9223372036854775807,"
         "\"if_primary_term\":1}}\n"},
        {{.condition = ELASTIC_VERSION_GTE, .version = 1795464361123456},
         "{}",
         "{\"index\":{\"_id\":\"a\\\"\\n\",\"version\":1795464361123456,\"version_type\":"
         "\"external_gte\"}}\n{}\n"},
        {{.condition = ELASTIC_VERSION_GTE, .version = 1795464361123456},
         "{}",
         "{\"index\":{\"_id\":\"a\\\"\\n\",\"version\":1795464361123456,\"version_type\":"
         "\"external_gte\"}}\n{}\n"},
        {{.condition = ELASTIC_VERSION, .version = 1795464361123456},
         "{}",
         "{\"index\":{\"_id\":\"a\\\"\\n\",\"version\":1795464361123456,\"version_type\":"
         "\"external\"}}\n{}\n"},
        {{.condition = ELASTIC_VERSION, .version = INT64_MAX},
         "{}",
         "{\"index\":{\"_id\":\"a\\\"\\n\",\"version\":9223372036854775807,\"version_type\":"
         "\"external\"}}\n{}\n"},
        {{.op = ELASTIC_DELETE, .condition = ELASTIC_VERSION, .version = 0},
         "",
         "{\"delete\":{\"_id\":\"a\\\"\\n\",\"version\":0,\"version_type\":\"external\"}}\n"},
        {{.routing = {(const uint8_t *)"\xc3\xbc\"", 3}},
         "{}",
         "{\"index\":{\"_id\":\"a\\\"\\n\",\"routing\":\"\xc3\xbc\\\"\"}}\n{}\n"},
    };
    char want[2000] = "";

    (void)state;
    elastic_bulk_init(&b, 4096);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct elastic_action a = cases[i].a;
        a.id = slice_str("a\"\n");
        assert_true(add(&b, a, cases[i].source));
        strcat(want, cases[i].line);
        assert_int_equal(b.items[i].line_end, strlen(want));
        assert_int_equal(b.items[i].line_begin, i ? b.items[i - 1].line_end : 0);
        assert_int_equal(b.items[i].op, a.op);
    }
    assert_string_equal(buf_cstr(&b.body), want);
    elastic_bulk_fini(&b);
}

static void full_body_takes_nothing(void **state)
{
    struct elastic_bulk b;
    struct elastic_action a = {.op = ELASTIC_CREATE, .id = slice_str("a")};

    (void)state;
    elastic_bulk_init(&b, 64);
    assert_true(add(&b, a, "{}"));
    size_t len = b.body.len;
    assert_false(add(&b, a, "{\"long\":\"0123456789012345678901234567890\"}"));
    assert_int_equal(b.count, 1);
    assert_int_equal(b.body.len, len);
    elastic_bulk_begin(&b, &a);
    elastic_bulk_cancel(&b);
    assert_int_equal(b.count, 1);
    assert_int_equal(b.body.len, len);
    elastic_bulk_fini(&b);
}

/* ---- _bulk answers */

static struct elastic_item items[3];
static struct elastic_answer answer;

static void set_items(bool lean)
{
    static const char *const ids[] = {"a", "b", "c"};
    static const enum elastic_op ops[] = {ELASTIC_CREATE, ELASTIC_INDEX, ELASTIC_DELETE};

    arena_reset(&mem);
    arena_reset(&problems);
    for (size_t i = 0; i < 3; i++)
        items[i] = (struct elastic_item){.op = (uint8_t)ops[i],
                                         .id = lean ? SLICE_NULL : slice_str(ids[i])};
    answer =
        (struct elastic_answer){.items = items, .lean = lean, .problems = &problems, .mem = &mem};
}

static bool read_bulk(const char *text, size_t count, struct err *err)
{
    *err = (struct err){0};
    set_items(false);
    answer.count = count;
    return elastic_read_bulk(slice_str(text), &answer, err);
}

#define OK_A                                                                                       \
    "{\"create\":{\"_id\":\"a\",\"status\":201,\"result\":\"created\",\"_seq_no\":11,\"_primary_"  \
    "term\":3}}"
#define OK_B                                                                                       \
    "{\"index\":{\"_id\":\"b\",\"status\":200,\"result\":\"updated\",\"_seq_no\":12,\"_primary_"   \
    "term\":3}}"

static void reads_verdicts(void **state)
{
    static const struct {
        const char *item; /* of the delete, the third */
        enum elastic_verdict verdict;
        const char *reason;
    } cases[] = {
        {"\"status\":200,\"_seq_no\":1,\"_primary_term\":1", ELASTIC_DONE, ""},
        {"\"status\":404,\"result\":\"not_found\"", ELASTIC_GONE, ""},
        {"\"status\":409,\"error\":{\"type\":\"version_conflict_engine_exception\",\"reason\":"
         "\"r\"}",
         ELASTIC_CONFLICT, ""},
        {"\"status\":429,\"error\":{\"type\":\"es_rejected_execution_exception\"}", ELASTIC_LATER,
         "es_rejected_execution_exception"},
        {"\"status\":503,\"error\":{\"type\":\"unavailable_shards_exception\",\"reason\":\"[i][0] "
         "primary "
         "shard is not active, request: [BulkShardRequest [[i][0]] containing [index {[i][1], "
         "source[{secret}]}]]\"}",
         ELASTIC_LATER, "unavailable_shards_exception"},
        {"\"status\":500,\"error\":{\"type\":\"x\"}", ELASTIC_LATER, "x"},
        {"\"status\":403,\"error\":{\"type\":\"cluster_block_exception\"}", ELASTIC_LATER,
         "cluster_block_exception"},
        {"\"status\":400,\"error\":{\"type\":\"mapper_parsing_exception\",\"reason\":\"failed. "
         "Preview of field's "
         "value: 'secret'\"}",
         ELASTIC_REJECTED, "mapper_parsing_exception"},
        {"\"status\":413", ELASTIC_REJECTED, "status_413"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err;
        char text[1024];
        snprintf(text, sizeof text,
                 "{\"errors\":true,\"items\":[" OK_A "," OK_B ",{\"delete\":{\"_id\":\"c\",%s}}]}",
                 cases[i].item);
        assert_true(read_bulk(text, 3, &err));
        assert_int_equal(items[0].verdict, ELASTIC_DONE);
        assert_int_equal(items[0].seq_no, 11);
        assert_int_equal(items[0].primary_term, 3);
        assert_int_equal(items[1].verdict, ELASTIC_DONE);
        assert_int_equal(items[2].verdict, cases[i].verdict);
        assert_string_equal(items[2].problem ? items[2].problem->reason : "", cases[i].reason);
        assert_false(items[2].problem && strstr(items[2].problem->text, "secret"));
    }
}

/* Whatever is wrong with an answer, it is never a success of anything. */
static void refuses_answers(void **state)
{
    static const struct {
        const char *answer, *error;
    } cases[] = {
        {"{\"errors\":false}", "a _bulk answer of 0 items for 2 actions"},
        {"{\"errors\":false,\"items\":[" OK_A "]}", "a _bulk answer of 1 items for 2 actions"},
        {"{\"errors\":false,\"items\":[" OK_A "," OK_B "," OK_B "]}",
         "a _bulk answer of 3 items for 2 actions"},
        {"{\"errors\":false,\"items\":[" OK_B "," OK_A "]}",
         "a _bulk answer with another action or _id at this place"},
        {"{\"items\":[" OK_A ",{\"create\":{\"_id\":\"b\",\"status\":200}}]}",
         "a _bulk answer with another action or _id at this place"},
        {"{\"items\":[" OK_A ",{\"index\":{\"_id\":\"x\",\"status\":200}}]}",
         "a _bulk answer with another action or _id at this place"},
        {"{\"items\":[" OK_A ",{\"index\":{\"_id\":\"b\"}}]}",
         "a _bulk answer with an item without status"},
        {"{\"items\":[" OK_A ",{\"index\":{\"_id\":\"b\",\"status\":\"200\"}}]}",
         "a _bulk answer with an item without status"},
        {"{\"items\":[" OK_A ",{\"index\":{\"_id\":\"b\",\"status\":200}}]}",
         "a _bulk answer with a write without _seq_no"},
        {"{\"items\":[" OK_A ",null]}", "a _bulk answer with another action or _id at this place"},
        {"[]", "a _bulk answer of 0 items for 2 actions"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err;
        assert_false(read_bulk(cases[i].answer, 2, &err));
        assert_int_equal(err.kind, ERR_RETRY);
        assert_string_equal(err.text, cases[i].error);
        assert_int_equal(items[0].verdict, ELASTIC_OPEN);
        assert_int_equal(items[1].verdict, ELASTIC_OPEN);
    }
    struct err err;
    assert_false(read_bulk("{\"items\":[" OK_A, 1, &err));
    assert_int_equal(err.kind, ERR_RETRY);
    assert_int_equal(items[0].verdict, ELASTIC_OPEN);
}

/* What is not the document's fault stops the call; what was done before it counts. */
static void stops_for_the_index(void **state)
{
    struct err err;

    (void)state;
    assert_false(read_bulk("{\"items\":[" OK_A
                           ",{\"index\":{\"_id\":\"b\",\"status\":404,\"error\":{\"type\":"
                           "\"index_not_found_exception\",\"reason\":\"no such index [x]\"}}}]}",
                           2, &err));
    assert_int_equal(err.kind, ERR_USER);
    assert_string_equal(err.text, "index_not_found_exception: no such index [x]");
    assert_int_equal(items[0].verdict, ELASTIC_DONE);
    assert_int_equal(items[1].verdict, ELASTIC_OPEN);
    assert_false(
        read_bulk("{\"items\":[{\"create\":{\"_id\":\"a\",\"status\":403,\"error\":{\"type\":"
                  "\"security_exception\",\"reason\":\"no\"}}}]}",
                  1, &err));
    assert_int_equal(err.kind, ERR_REACH);
}

/* ---- _mget answers */

static void reads_found(void **state)
{
    struct slice ids[] = {slice_str("a"), slice_str("b")};
    struct elastic_found out[2];
    struct err err = {0};
    bool missing;

    (void)state;
    arena_reset(&mem);
    assert_true(elastic_read_mget(slice_str("{\"docs\":[{\"_index\":\"i\",\"_id\":\"a\",\"_"
                                            "version\":3,\"_seq_no\":0,\"_primary_term\":1,"
                                            "\"found\":true,\"_source\":{\"n\":1.50}},{\"_index\":"
                                            "\"i\",\"_id\":\"b\",\"found\":false}]}"),
                                  ids, 2, &mem, out, &missing, &err));
    assert_true(out[0].found);
    assert_int_equal(out[0].seq_no, 0);
    assert_int_equal(out[0].primary_term, 1);
    assert_true(slice_is(json_get(out[0].source, "n")->text, "1.50"));
    assert_false(out[1].found);
}

static void refuses_mget(void **state)
{
    static const struct {
        const char *answer;
        enum err_kind kind;
        bool missing;
        const char *error;
    } cases[] = {
        {"{\"docs\":[]}", ERR_RETRY, false, "an _mget answer of 0 documents for 1 ids"},
        {"{\"docs\":[{\"_id\":\"b\",\"found\":false}]}", ERR_RETRY, false,
         "an _mget answer with another _id at this place"},
        {"{\"docs\":[{\"_id\":\"a\"}]}", ERR_RETRY, false, "an _mget answer without \"found\""},
        {"{\"docs\":[{\"_id\":\"a\",\"found\":true,\"_source\":{}}]}", ERR_RETRY, false,
         "an _mget answer without _seq_no and _primary_term"},
        {"{\"docs\":[{\"_id\":\"a\",\"found\":true,\"_seq_no\":1,\"_primary_term\":1,\"_source\":[]"
         "}]}",
         ERR_RETRY, false, "an _mget answer whose _source is no object"},
        {"{\"docs\":[{\"_id\":\"a\",\"error\":{\"type\":\"index_not_found_exception\",\"reason\":"
         "\"no\"}}]}",
         ERR_USER, true, "_mget: index_not_found_exception: no"},
        {"{\"docs\":[{\"_id\":\"a\",\"error\":{\"type\":\"no_shard_available_action_exception\","
         "\"reason\":\"no\"}}]}",
         ERR_RETRY, false, "_mget: no_shard_available_action_exception: no"},
        {"{\"docs\":[{\"_id\":\"a\",\"found\":true,\"_source\":{\"x\":\"\\ud800\"}}]}", ERR_REJECT,
         false, "_mget answer: byte 49: half of a surrogate pair"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct slice id = slice_str("a");
        struct elastic_found out;
        struct err err = {0};
        bool missing;
        arena_reset(&mem);
        assert_false(
            elastic_read_mget(slice_str(cases[i].answer), &id, 1, &mem, &out, &missing, &err));
        assert_string_equal(err.text, cases[i].error);
        assert_int_equal(err.kind, cases[i].kind);
        assert_int_equal(missing, cases[i].missing);
    }
}

static void refuses_urls(void **state)
{
    static const struct {
        const char *url, *error;
    } cases[] = {
        {"es:9200", "the Elasticsearch URL must begin with http:// or https://"},
        {"http://me:pw@es:9200",
         "the Elasticsearch URL must not hold user and password; they have settings of their own"},
        {"http://es:9200/?x", "the Elasticsearch URL is too long, or has ? or # in it"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *urls[] = {cases[i].url, NULL};
        struct err err = {0};
        assert_null(elastic_new(&(struct elastic_options){.urls = urls}, &err));
        assert_string_equal(err.text, cases[i].error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_lines),        cmocka_unit_test(full_body_takes_nothing),
        cmocka_unit_test(reads_verdicts),      cmocka_unit_test(refuses_answers),
        cmocka_unit_test(stops_for_the_index), cmocka_unit_test(reads_found),
        cmocka_unit_test(refuses_mget),        cmocka_unit_test(refuses_urls),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
