/* Messages: every recorded request is written again, every recorded answer is read. */
#include "cql/vectors.h"

#include "cql/codec.h"
#include "cql/cql.h"

static struct buf out;
static struct arena mem;

static int begin(void **state)
{
    buf_init(&out, 1 << 20);
    arena_init(&mem, 8 << 20);
    return vectors_begin(state);
}

static int end(void **state)
{
    buf_fini(&out);
    arena_fini(&mem);
    return vectors_end(state);
}

static int16_t stream_of(struct slice envelope)
{
    return (int16_t)load_u16(envelope.p + 2);
}

/* The message of a recorded answer, prefix off. */
static struct frame body_of(struct slice envelope)
{
    struct frame f;
    struct err err = {0};

    assert_int_equal(frame_take(&envelope, 0, 1 << 20, &f, &err), FRAME_READY);
    assert_true(frame_strip(&f, &err));
    return f;
}

static struct codec_result result_of(struct slice envelope)
{
    struct frame f = body_of(envelope);
    struct codec_result r;
    struct err err = {0};

    assert_int_equal(f.opcode, OP_RESULT);
    if (!codec_read_result(f.body, f.version, &mem, &r, &err))
        fail_msg("%s", err.text);
    return r;
}

static struct codec_error error_of(struct slice envelope)
{
    struct frame f = body_of(envelope);
    struct codec_error e;
    struct err err = {0};

    assert_int_equal(f.opcode, OP_ERROR);
    if (!codec_read_error(f.body, f.version, &mem, &e, &err))
        fail_msg("%s", err.text);
    return e;
}

static void check_written(struct slice want)
{
    assert_false(out.full);
    assert_bytes(buf_slice(&out), want);
    buf_reset(&out);
}

static void handshakes(void **state)
{
    (void)state;
    json_each (dialect, vectors_section("handshake")) {
        bool lz4 = dialect->key.n > 2;
        uint8_t version = (uint8_t)(dialect->key.p[1] - '0');
        json_each (step, dialect) {
            struct slice sent = vector_bytes(step, "sent");
            struct slice request = json_get_string(step, "request");
            struct slice reply = vector_bytes(step, "reply_envelope");
            struct slice message = slice_of(reply.p + 9, reply.n - 9);
            struct err err = {0};
            if (json_get(step, "framed")->truth) /* the segment is segment_test's */
                sent = slice_of(sent.p + (lz4 ? 8 : 6), sent.n - (lz4 ? 12 : 10));
            if (slice_is(request, "OPTIONS")) {
                codec_options(&out, version, stream_of(sent));
            } else if (slice_is(request, "STARTUP")) {
                struct slice name;
                codec_startup(&out, version, stream_of(sent),
                              &(struct codec_startup){.compression = lz4 ? "lz4" : NULL,
                                                      .driver_name = "vectors",
                                                      .driver_version = "1"});
                assert_true(codec_read_authenticate(message, &name, &err));
                assert_string_equal(text_of(name),
                                    "org.apache.cassandra.auth.PasswordAuthenticator");
            } else {
                struct slice token;
                codec_auth_response(&out, version, stream_of(sent),
                                    slice_of("\0cassandra\0cassandra", 20));
                assert_true(codec_read_auth_token(message, &token, &err));
                assert_null(token.p);
            }
            check_written(sent);
        }
    }
    /* What was not recorded. */
    codec_startup(&out, 4, 1, &(struct codec_startup){.throw_on_overload = true});
    check_written(unhex_text("04000001010000002c0002000b43514c5f56455253494f4e0005332e302e300011"
                             "5448524f575f4f4e5f4f5645524c4f4144000131"));
    codec_auth_response(&out, 4, 1, SLICE_NULL);
    check_written(unhex_text("040000010f00000004ffffffff"));
}

static void paging(void **state)
{
    (void)state;
    static const char *const names[] = {"p", "c", "s", "v", "system.token(p)"};
    static const enum type_kind kinds[] = {TYPE_INT, TYPE_INT, TYPE_TEXT, TYPE_TEXT, TYPE_BIGINT};

    json_each (dialect, vectors_section("paging")) {
        json_each (step, dialect) {
            struct slice request = vector_bytes(step, "request_envelope");
            struct slice text = slice_of(request.p + 13, load_u32(request.p + 9));
            struct slice state_sent = vector_bytes(step, "sent_state");
            codec_query(&out, request.p[0], stream_of(request), text,
                        &(struct codec_params){
                            .consistency = CQL_ONE, .page_rows = 5, .paging_state = state_sent});
            check_written(request);

            struct codec_result r = result_of(vector_bytes(step, "reply_envelope"));
            struct slice next = vector_bytes(step, "next_state");
            assert_int_equal(r.kind, CODEC_ROWS);
            assert_int_equal(r.row_count, vector_int(step, "rows"));
            assert_int_equal(r.meta.more, next.p != NULL);
            assert_bytes(r.meta.paging_state, next);
            assert_int_equal(r.meta.columns->count, 5);
            for (int i = 0; i < 5; i++) {
                const struct column *c = &r.meta.columns->list[i];
                assert_string_equal(text_of(c->name), names[i]);
                assert_string_equal(text_of(c->keyspace), "proto_vec");
                assert_string_equal(text_of(c->table), "pg");
                assert_int_equal(c->type->kind, kinds[i]);
            }
            struct page page = {
                .columns = r.meta.columns, .row_count = r.row_count, .rows = r.rows};
            struct row_cursor rows = page_rows(&page);
            struct slice cells[5];
            struct err err = {0};
            uint32_t n = 0;
            for (; row_next(&rows, cells, &err); n++)
                assert_int_equal(cql_token(cells[0]), (int64_t)load_u64(cells[4].p));
            assert_int_equal(err.kind, ERR_NONE);
            assert_int_equal(n, r.row_count);
            assert_int_equal(rows.rest.n, 0);
        }
    }
}

static void prepared(void **state)
{
    (void)state;
    const struct json *section = vectors_section("prepared");

    for (uint8_t version = 4; version <= 5; version++) {
        const struct json *v = json_get(section, version == 4 ? "v4" : "v5");
        struct slice want = vector_bytes(v, "prepare");
        codec_prepare(&out, version, stream_of(want),
                      slice_str("SELECT * FROM proto_vec.mc WHERE k=?"));
        check_written(want);

        struct codec_result r = result_of(vector_bytes(v, "prepared"));
        assert_int_equal(r.kind, CODEC_PREPARED);
        assert_bytes(r.id, vector_bytes(v, "id"));
        assert_bytes(r.result_metadata_id, vector_bytes(v, "result_metadata_id"));
        assert_int_equal(r.bind->count, 1);
        assert_string_equal(text_of(r.bind->list[0].name), "k");
        assert_int_equal(r.pk_count, 1);
        assert_int_equal(r.pk_indexes[0], 0);
        assert_int_equal(r.meta.columns->count, 2);

        want = vector_bytes(v, "execute_skip_metadata");
        struct slice value = unhex_text("00000001");
        struct codec_params params = {
            .consistency = CQL_ONE, .value_count = 1, .values = &value, .skip_metadata = true};
        codec_execute(&out, version, stream_of(want), r.id, r.result_metadata_id, &params);
        check_written(want);

        r = result_of(vector_bytes(v, "rows_no_metadata"));
        assert_int_equal(r.kind, CODEC_ROWS);
        assert_null(r.meta.columns);
        assert_int_equal(r.meta.column_count, 2);
        assert_int_equal(r.row_count, 1);
        assert_false(r.meta.more || r.meta.changed);

        struct codec_error e = error_of(vector_bytes(v, "after_alter_reply"));
        assert_int_equal(e.code, CODEC_UNPREPARED);
        assert_bytes(e.unprepared_id, vector_bytes(v, "id"));

        /* v5 tells of a new column, v4 has one column more without a word. */
        r = result_of(vector_bytes(v, "stale_metadata_reply"));
        assert_int_equal(r.meta.column_count, vector_int(v, "stale_metadata_columns"));
        assert_int_equal(r.meta.changed, version == 5);
        assert_bytes(r.meta.metadata_id, vector_bytes(v, "new_metadata_id"));
        if (version == 5)
            assert_string_equal(text_of(r.meta.columns->list[2].name), "z");
        else
            assert_null(r.meta.columns);

        v = json_get(section, version == 4 ? "unprepared_v4" : "unprepared_v5");
        want = vector_bytes(v, "request");
        e = error_of(vector_bytes(v, "reply"));
        assert_int_equal(e.code, CODEC_UNPREPARED);
        assert_int_equal(e.kind, ERR_RETRY);
        /* The recorder announced 0 values; we don't announce what is not there. */
        size_t head = 9 + 2 + 16 + (version == 5 ? 18 : 0) + 2;
        struct slice metadata_id = version == 5 ? slice_of(want.p + 29, 16) : SLICE_NULL;
        params = (struct codec_params){.consistency = CQL_ONE};
        codec_execute(&out, version, stream_of(want), e.unprepared_id, metadata_id, &params);
        assert_int_equal(out.len, want.n - 2);
        assert_memory_equal(out.p + 9, want.p + 9, head - 9);
        buf_reset(&out);
    }
    struct codec_result r =
        result_of(vector_bytes(json_get(section, "partition_key_indexes"), "prepared"));
    assert_int_equal(r.bind->count, 3);
    assert_int_equal(r.pk_count, 1);
    assert_int_equal(r.pk_indexes[0], 0);
    assert_int_equal(r.meta.column_count, 0);
}

/* What became of the recorded errors: kind, and the text as a user sees it. */
static const struct error_row {
    const char *name;
    int code;
    enum err_kind kind;
    const char *text; /* its beginning */
} error_rows[] = {
    {"syntax_error", CODEC_SYNTAX, ERR_USER,
     "syntax error: line 1:0 no viable alternative at input 'SELEC' ([SELEC]...)"},
    {"invalid: unknown table", CODEC_INVALID, ERR_USER, "invalid: table nosuch does not exist"},
    {"already_exists table", CODEC_ALREADY_EXISTS, ERR_USER,
     "already exists: Cannot add already existing table \"pg\" to keyspace \"proto_vec\""},
    {"already_exists keyspace", CODEC_ALREADY_EXISTS, ERR_USER,
     "already exists: Cannot add existing keyspace \"proto_vec\""},
    {"unavailable", CODEC_UNAVAILABLE, ERR_RETRY,
     "unavailable (THREE, 1 of 3 replicas alive, 0 failed): Cannot achieve consistency level "
     "THREE"},
    {"config_error", CODEC_CONFIG, ERR_USER,
     "configuration error: Unable to find replication strategy class "},
    {"unauthorized", CODEC_UNAUTHORIZED, ERR_USER,
     "unauthorized: User proto_vec_u has no SELECT permission on <table proto_vec.pg>"},
    {"read_failure: too many tombstones (threshold 100000)", CODEC_READ_FAILURE, ERR_REJECT,
     "read failure (ONE, 0 of 1 replicas answered, 1 failed): Operation failed"},
    {"unsupported protocol version 0x42", CODEC_PROTOCOL_ERROR, ERR_REJECT,
     "protocol error: Invalid or unsupported protocol version (66);"},
    {"beta protocol version 6 without the beta flag", CODEC_PROTOCOL_ERROR, ERR_REJECT,
     "protocol error: Beta version of the protocol used (6/v6-beta), but USE_BETA flag is unset"},
};

static void errors(void **state)
{
    (void)state;
    int seen = 0;

    json_each (v, vectors_section("errors")) {
        struct slice name = json_get_string(v, "name");
        struct slice envelope = vector_bytes(v, json_get(v, "reply") ? "reply" : "reply_envelope");
        if (!envelope.p) {
            assert_string_equal(text_of(name), "bad credentials"); /* recorded as text */
            continue;
        }
        struct codec_error e = error_of(envelope);
        const struct error_row *row = error_rows;
        while (!slice_is(name, row->name))
            assert_true(++row < error_rows + sizeof error_rows / sizeof *error_rows);
        struct err err = {0};
        assert_false(codec_error_set(&e, &err));
        assert_int_equal(e.code, row->code);
        assert_int_equal(err.kind, row->kind);
        if (strncmp(err.text, row->text, strlen(row->text)) != 0)
            assert_string_equal(err.text, row->text);
        assert_int_equal(e.drop_connection, e.code == CODEC_PROTOCOL_ERROR);
        if (e.code == CODEC_READ_FAILURE) {
            bool v5 = vector_int(v, "version") == 5;
            assert_int_equal(e.failure_count, 1);
            assert_int_equal(e.failures != NULL, v5);
            if (v5) {
                assert_bytes(e.failures[0].address, unhex_text("7f000001"));
                assert_int_equal(e.failures[0].code, 1);
            }
            assert_false(e.data_present);
            assert_true(e.try_other_node);
        }
        if (slice_is(name, "already_exists table")) {
            assert_string_equal(text_of(e.keyspace), "proto_vec");
            assert_string_equal(text_of(e.name), "pg");
        }
        seen++;
        struct frame f = body_of(envelope); /* cut anywhere, it is refused */
        for (size_t n = 0; n < f.body.n; n++) {
            struct codec_error ignored;
            assert_false(codec_read_error(slice_of(f.body.p, n), f.version, &mem, &ignored, &err));
            assert_int_equal(err.kind, ERR_RETRY);
        }
    }
    assert_int_equal(seen, 17);
}

/* Codes that no recording has. */
static void other_errors(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        uint8_t version;
        enum err_kind kind;
        bool other_node, overloaded;
        const char *text;
    } rows[] = {
        {"00000000000161", 4, ERR_RETRY, true, false, "server error: a"},
        {"000001000000", 4, ERR_REACH, false, false, "bad credentials"},
        {"000010010000", 4, ERR_RETRY, true, true, "overloaded"},
        {"000010020000", 4, ERR_RETRY, true, false, "bootstrapping"},
        {"00001100000000060000000100000002000653494d504c45", 4, ERR_RETRY, true, true,
         "write timeout (LOCAL_QUORUM, 1 of 2 replicas answered, 0 failed)"},
        {"000011000000000600000001000000020003434153000a", 5, ERR_RETRY, true, true,
         "write timeout (LOCAL_QUORUM, 1 of 2 replicas answered, 0 failed)"},
        {"0000120000000006000000010000000201", 4, ERR_RETRY, true, true,
         "read timeout (LOCAL_QUORUM, 1 of 2 replicas answered, 0 failed)"},
        {"000013000000000600000001000000020000000210000000000000000000000000000000010002"
         "047f000001000501",
         5, ERR_RETRY, true, false,
         "read failure (LOCAL_QUORUM, 1 of 2 replicas answered, 2 failed)"},
        {"00001300000754494d454f555400060000000100000002000000010 0", 4, ERR_RETRY, true, false,
         ""},
        {"0000140000000001610001620000", 4, ERR_REJECT, false, false, "function failure"},
        {"0000150000000006000000010000000200000001000653494d504c45", 4, ERR_RETRY, true, false,
         "write failure (LOCAL_QUORUM, 1 of 2 replicas answered, 1 failed)"},
        {"000016000000", 4, ERR_RETRY, true, false, "CDC write failure"},
        {"0000170000000006 00000001 00000002", 5, ERR_RETRY, true, false, ""},
        {"00007777000161", 4, ERR_RETRY, true, false, "server error 0x7777: a"},
        {"000000000005610a1b7f62", 4, ERR_RETRY, true, false, "server error: a   b"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char hex[256];
        size_t n = 0;
        for (const char *p = rows[i].hex; *p; p++) {
            if (*p != ' ')
                hex[n++] = *p;
        }
        hex[n] = '\0';
        struct codec_error e;
        struct err err = {0};
        if (!codec_read_error(unhex_text(hex), rows[i].version, &mem, &e, &err))
            fail_msg("row %zu: %s", i, err.text);
        assert_int_equal(e.kind, rows[i].kind);
        assert_int_equal(e.try_other_node, rows[i].other_node);
        assert_int_equal(e.overloaded, rows[i].overloaded);
        codec_error_set(&e, &err);
        if (*rows[i].text)
            assert_string_equal(err.text, rows[i].text);
    }
    /* A count of failures that the bytes can't hold. */
    struct codec_error e;
    struct err err = {0};
    assert_false(codec_read_error(unhex_text("0000130000000006000000010000000200ffffff01"), 5, &mem,
                                  &e, &err));
    assert_false(codec_read_error(unhex_text("00001300000000060000000100000002ffffffff01"), 4, &mem,
                                  &e, &err));
    /* A very long message ends on a whole character. */
    struct buf long_one;
    buf_init(&long_one, 4096);
    buf_add_u32(&long_one, 0);
    buf_add_u16(&long_one, 2000);
    for (int i = 0; i < 1000; i++)
        buf_add(&long_one, "\xc3\xbc", 2);
    assert_true(codec_read_error(buf_slice(&long_one), 4, &mem, &e, &err));
    codec_error_set(&e, &err);
    assert_true(strlen(err.text) < 400 && (uint8_t)err.text[strlen(err.text) - 1] == 0xbc);
    buf_fini(&long_one);
}

static void events(void **state)
{
    (void)state;
    const struct json *section = vectors_section("events");
    struct slice want = vector_bytes(section, "register");

    codec_register(&out, 4, stream_of(want),
                   CODEC_EVENT_TOPOLOGY | CODEC_EVENT_STATUS | CODEC_EVENT_SCHEMA);
    check_written(want);
    assert_int_equal(body_of(vector_bytes(section, "ready")).opcode, OP_READY);

    struct codec_result r = result_of(vector_bytes(section, "schema_change_result"));
    assert_int_equal(r.kind, CODEC_SCHEMA_CHANGE);
    struct frame f = body_of(vector_bytes(section, "schema_change_event"));
    struct codec_event e;
    struct err err = {0};
    assert_int_equal(f.stream, -1);
    assert_true(codec_read_event(f.body, &e, &err));
    assert_int_equal(e.type, CODEC_EVENT_SCHEMA);
    const struct codec_schema_change *both[] = {&r.schema, &e.schema};
    for (int i = 0; i < 2; i++) {
        assert_string_equal(text_of(both[i]->change), "UPDATED");
        assert_string_equal(text_of(both[i]->target), "TABLE");
        assert_string_equal(text_of(both[i]->keyspace), "proto_vec");
        assert_string_equal(text_of(both[i]->name), "mc");
    }
    for (size_t n = 0; n < f.body.n; n++)
        assert_false(codec_read_event(slice_of(f.body.p, n), &e, &err));

    assert_true(codec_read_event(
        unhex_text("000d5354415455535f4348414e474500025550047f00000100002352"), &e, &err));
    assert_int_equal(e.type, CODEC_EVENT_STATUS);
    assert_string_equal(text_of(e.change), "UP");
    assert_bytes(e.address, unhex_text("7f000001"));
    assert_int_equal(e.port, 9042);
    assert_true(codec_read_event(unhex_text("00054f54484552"), &e, &err));
    assert_int_equal(e.type, 0);
}

static void results_that_make_no_sense(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        const char *text;
    } rows[] = {
        {"", "RESULT is cut short"},
        {"00000006", "a RESULT of the unknown kind 6"},
        {"000000020000000400000001ffffffff", "a page of rows is cut short"},
        {"00000002000000040000000100000002ffffffff", "a page of rows is cut short"},
        {"0000000200000004000000007fffffff", "a page of rows is cut short"},
        {"000000020000000400010000", "a result's description is cut short"},
        {"0000000200000004ffffffff", "a result's description is cut short"},
        {"000000020000000600000001ffffffff00000000",
         "a result has more pages but no state to ask for them"},
        {"0000000200000000000000010001610001620001630077",
         "column 1: a column's type has the unknown number 0x0077"},
        {"00000002000000000000fff0", "a result's description is cut short"},
        {"000000040001aa00000000000000000000000100000000",
         "PREPARED names a value that is not there"},
        {"000000040001aa000000000000000000ffffff", "PREPARED is cut short"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct codec_result r;
        struct err err = {0};
        assert_false(codec_read_result(unhex_text(rows[i].hex), 4, &mem, &r, &err));
        assert_int_equal(err.kind, ERR_RETRY);
        assert_string_equal(err.text, rows[i].text);
    }
    struct codec_result r;
    struct err err = {0};
    assert_true(codec_read_result(unhex_text("00000001"), 4, &mem, &r, &err));
    assert_int_equal(r.kind, CODEC_VOID);
    assert_true(codec_read_result(unhex_text("0000000300026b73"), 4, &mem, &r, &err));
    assert_string_equal(text_of(r.keyspace), "ks");
}

/* Every recorded RESULT, cut at every byte, is refused or read without its last rows. */
static void results_cut_short(void **state)
{
    (void)state;
    const struct json *v4 = json_get(vectors_section("prepared"), "v4");
    const struct json *page = json_get(vectors_section("paging"), "v5")->first;
    struct slice envelopes[] = {vector_bytes(v4, "prepared"), vector_bytes(page, "reply_envelope")};

    for (int i = 0; i < 2; i++) {
        struct frame f = body_of(envelopes[i]);
        for (size_t n = 0; n < f.body.n; n++) {
            struct codec_result r;
            struct err err = {0};
            arena_reset(&mem);
            if (!codec_read_result(slice_of(f.body.p, n), f.version, &mem, &r, &err)) {
                assert_int_equal(err.kind, ERR_RETRY);
                continue;
            }
            assert_int_equal(r.kind, CODEC_ROWS);
            struct page p = {.columns = r.meta.columns, .row_count = r.row_count, .rows = r.rows};
            struct row_cursor rows = page_rows(&p);
            struct slice cells[5];
            while (row_next(&rows, cells, &err))
                ;
            assert_int_equal(err.kind, ERR_RETRY);
        }
    }
}

static void a_full_arena(void **state)
{
    (void)state;
    struct frame f =
        body_of(vector_bytes(json_get(vectors_section("paging"), "v5")->first, "reply_envelope"));
    struct arena small;
    struct codec_result r;
    struct err err = {0};

    arena_init(&small, 64);
    assert_false(codec_read_result(f.body, 5, &small, &r, &err));
    assert_int_equal(err.kind, ERR_SYSTEM);
    arena_fini(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshakes),
        cmocka_unit_test(paging),
        cmocka_unit_test(prepared),
        cmocka_unit_test(errors),
        cmocka_unit_test(other_errors),
        cmocka_unit_test(events),
        cmocka_unit_test(results_that_make_no_sense),
        cmocka_unit_test(results_cut_short),
        cmocka_unit_test(a_full_arena),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
