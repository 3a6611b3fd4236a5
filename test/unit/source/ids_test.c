/* Files of ids in every form: what is read, what is refused, and where reading goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "source/ids.h"

#pragma GCC diagnostic ignored "-Wmissing-field-initializers" /* tables say what they mean to say  \
                                                               */

static char folder[64];

static char *path_of(const char *name)
{
    return xsprintf("%s/%s", folder, name);
}

static void put(const char *path, const void *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
}

static const char *const key_id[] = {"id"};
static const char *const key_user[] = {"userid"};
static const char *const key_two[] = {"courseid", "batchid"};

/* "1:a|b{...}" per item, "!text" per bad line, at most `most` of them. */
static void show(struct ids *s, struct buf *b, int most)
{
    struct err err = {0};
    struct id_item item;
    uint64_t before = 0;

    for (; most; most--) {
        bool ok = ids_next(s, &item, &err);
        if (!ok && err.kind != ERR_REJECT)
            break;
        if (b->len)
            buf_add_byte(b, '\n');
        if (!ok)
            buf_printf(b, "!%s", err.text);
        else
            buf_printf(b, "%" PRIu64 ":", item.line);
        for (size_t i = 0; ok && i < item.part_count; i++) {
            if (i)
                buf_add_byte(b, '|');
            buf_add_slice(b, item.parts[i]);
        }
        if (ok && item.json.p)
            buf_add_slice(b, item.json);
        assert_true(item.end >= before);
        assert_true(item.end > before || !ok);
        assert_true(item.end <= ids_file(s)->bytes);
        before = item.end;
    }
    if (most)
        assert_string_equal(err.text, "");
}

struct sample {
    const char *text;
    const char *want; /* of show(), or the error's text behind the path */
    const char *const *keys;
    const char *column;
    enum ids_form form;
    enum ids_header header;
};

static struct ids *open_sample(const struct sample *t, const char *path, struct err *err)
{
    struct ids_options o = {
        .path = path,
        .header = t->header,
        .column = t->column,
        .key_names = t->keys ? t->keys : key_id,
        .key_count = t->keys == key_two ? 2 : 1,
    };

    return ids_open(&o, err);
}

static void check_all(const struct sample *samples, size_t count)
{
    AUTO_STR char *path = path_of("ids");

    for (size_t i = 0; i < count; i++) {
        const struct sample *t = &samples[i];
        struct err err = {0};
        struct buf b;

        buf_init(&b, 1 << 20);
        put(path, t->text, strlen(t->text));
        struct ids *s = open_sample(t, path, &err);
        if (!s)
            fail_msg("%zu: %s", i, err.text);
        if (t->form)
            assert_int_equal(ids_file(s)->form, t->form);
        show(s, &b, -1);
        assert_string_equal(buf_cstr(&b), t->want);
        ids_close(s);
        buf_fini(&b);
    }
}
#define CHECK_ALL(samples) check_all(samples, sizeof(samples) / sizeof *(samples))

static void csv(void **state)
{
    static const struct sample samples[] = {
        {"a\nb\n", "1:a\n2:b", .form = IDS_CSV},
        {"a\nb", "1:a\n2:b"},
        {"a\r\nb\r\n", "1:a\n2:b"},
        {"\xef\xbb\xbf"
         "a\nb\n",
         "1:a\n2:b"},
        {"\n \n  a \t\n\r\n\nb\n\n", "3:a\n6:b"},
        {"\"a\"\n \"b \" \n", "1:a\n2:b "},
        {"\"a,1\"\n\"b\"\"c\"\n\"d\ne\"\nf\n", "1:a,1\n2:b\"c\n3:d\ne\n5:f"},
        {"\"a\"\r\nb\"c\n", "1:a\n2:b\"c"},
        {"a,\nb,,\n", "1:a\n2:b"},
        {"\xc3\xbc\n", "1:\xc3\xbc"},
        /* header */
        {"id\na\n", "2:a"},
        {"\xef\xbb\xbfID\r\na\r\n", "2:a"},
        {"\"user_id\"\na\n", "2:a"},
        {"identifier\na\n", "2:a"},
        {"idea\na\n", "1:idea\n2:a"},
        {"id\na\n", "1:id\n2:a", .header = IDS_HEADER_NO},
        {"what\na\n", "2:a", .header = IDS_HEADER_YES},
        {"userid\nid\n", "2:id"},
        {"\nid\na\n", "3:a"},
        {"name,id\nn,a\nm,b\nx\n", "2:a\n3:b\n!line 4: 1 column, no column 2"},
        {"UserIds\na\n", "2:a", .keys = key_user},
        /* one column of several */
        {"x,a\ny,b\n", "1:a\n2:b", .column = "2"},
        {"x,id\ny,b\n", "2:b", .column = "2"},
        {"First,Second\ny,b\n", "2:b", .column = "Second"},
        {"First,Second\ny,b\n", "2:b", .column = "second"},
        {"x,a\ny\n", "1:a\n!line 2: 1 column, no column 2", .column = "2"},
        /* longer keys */
        {"c,b\n\"c 2\",\"b,2\"\n", "1:c|b\n2:c 2|b,2", .keys = key_two},
        {"batchId,courseId\nb,c\n", "2:c|b", .keys = key_two},
        {"batchid,name,courseid\nb,n,c\n", "2:c|b", .keys = key_two},
        {"c,\"\"\n", "1:c|", .keys = key_two},
        {"c,\nc,b\n", "!line 1: empty id\n2:c|b", .keys = key_two},
        {"c\nc,b\n", "!line 1: 1 column, 2 wanted (courseid, batchid)\n2:c|b", .keys = key_two},
        /* bad lines */
        {"a,b\nc\n", "!line 1: 2 columns, 1 wanted (id); --csv-column says which\n2:c"},
        {"\"\"\nc\n", "!line 1: empty id\n2:c"},
        {"\"a\nb\nc\n", "!line 1: a quote is not closed\n2:b\n3:c"},
        {"a\n\"b\" x\nc\n", "1:a\n!line 2: text behind a closing quote\n3:c"},
        {"a\xff\nc\n", "!line 1: not UTF-8\n2:c"},
    };

    (void)state;
    CHECK_ALL(samples);
}

static void json_lines(void **state)
{
    static const struct sample samples[] = {
        {"{\"id\":\"a\"}\n{\"id\":\"b\"}\n", "1:a{\"id\":\"a\"}\n2:b{\"id\":\"b\"}",
         .form = IDS_JSON},
        {"{\"userId\":\"a\", \"n\" : 1.50}\r\n\n\"b\"\n7\n",
         "1:a{\"userId\":\"a\",\"n\":1.50}\n3:b\n4:7", .keys = key_user},
        {"\"a\\u00fc\"\n\"b\"\n", "1:a\xc3\xbc\n2:b", .form = IDS_JSON},
        {"{\"batchid\":\"b\",\"courseid\":\"c\"}", "1:c|b{\"batchid\":\"b\",\"courseid\":\"c\"}",
         .keys = key_two},
        {"{\"batchid\":\"\",\"courseid\":\"c\"}", "1:c|{\"batchid\":\"\",\"courseid\":\"c\"}",
         .keys = key_two},
        {"{\"batchid\":\"b\"}\n\"x\"\n",
         "!line 1: the object has no courseid\n!line 2: a single value, but the key has several "
         "columns: an object is wanted",
         .keys = key_two},
        {"{\"userid\":[\"a\",\"b\",null]}\n\"c\"\n",
         "1:a\n1:b\n!line 1: the list holds something that is no id\n2:c", .keys = key_user},
        {"\"\\udc00\"\n\"b\"", "!line 1: not JSON: byte 8: half of a surrogate pair\n2:b",
         .form = IDS_JSON},
        {"{\"id\":null}\n{\"id\":\"\"}\n{\"id\":[]}\nnull\n[1]\n{\"id\":\"z\"\n\"\"\n",
         "!line 1: the object has no usable id\n!line 2: the object has no usable id\n!line 3: "
         "empty "
         "list\n!line 4: neither a string nor an object\n!line 5: neither a string nor an object\n"
         "!line 6: not JSON: byte 9: parse error: premature EOF\n!line 7: empty id"},
    };

    (void)state;
    CHECK_ALL(samples);
}

#define BODY(ids)                                                                                  \
    "{\"params\":{},\"request\":{\"objectType\":\"user\",\"operationFor\":\"es\",\"objectIds\":"   \
    "[" ids "]}}"
#define ENTRY(no, ids, answer)                                                                     \
    "Request No : " no "\nRequest : " BODY(ids) "\nResponse : " answer "\n\n"

static void failure_logs(void **state)
{
    static const struct sample samples[] = {
        {ENTRY("1", "\"a\",\"b\"", "{}") ENTRY("4", "\"c\"", ""), "2:a\n2:b\n6:c", .form = IDS_LOG},
        /* answers of several lines, with anything in them */
        {ENTRY("1", "\"a\"", "<html>\nRequest : " BODY("\"x\"") "\n</html>")
             ENTRY("2", "\"c\"", ""),
         "2:a\n8:c"},
        /* all on one line, and with other blanks */
        {"Request No : 1 Request : " BODY("\"a\"") " Response : x\nRequest No :2\r\nRequest "
                                                   ": " BODY(
                                                       " \"b\" , \"c\" ") "\r\nResponse : \r\n\r\n",
         "1:a\n3:b\n3:c"},
        /* over several lines */
        {"Request No : 1\nRequest :\n{ \"request\": {\n\"objectIds\" : [\n \"a\",\n "
         "\"b\"\n]}}\nResponse "
         ": x\n",
         "5:a\n6:b"},
        {ENTRY("1", "{\"userId\":\"a\",\"x\":1},\"b\"", ""), "2:a{\"userId\":\"a\",\"x\":1}\n2:b",
         .keys = key_user},
        {ENTRY("1", "{\"userId\":[\"a\",\"b\"]}", "x")
             ENTRY("2", "{\"userId\" : [\"c\"],\"y\":[{}]},\"d\"", ""),
         "2:a\n2:b\n6:c\n6:d", .keys = key_user},
        {ENTRY("1", "{\"courseid\":\"c\",\"batchid\":\"b\"}", ""),
         "2:c|b{\"courseid\":\"c\",\"batchid\":\"b\"}", .keys = key_two},
        {ENTRY("1", "\"a\\\"b\\u00fc\",7,null,\"c\"", ""),
         "2:a\"b\xc3\xbc\n2:7\n!line 2: neither a string nor an object\n2:c"},
        /* damaged entries */
        {"Request No : 1\nRequest : "
         "{\"params\":{},\"request\":{\"objectIds\":[\"a\",\"b\n\nRequest No : "
         "2\nRequest : " BODY("\"c\"") "\n",
         "2:a\n!line 2: the list of ids is cut off, or not JSON\n5:c"},
        {"Request No : 1\nRequest : {\"params\":\nResponse : \n\n" ENTRY("2", "\"c\"", ""),
         "!line 2: the request is cut off, or not JSON\n6:c"},
        {"Request No : 1\nRequest : {\"ids\":[\"objectIds\",1]}\n" ENTRY("2", "\"c\"", ""),
         "!line 2: the request has no objectIds\n4:c"},
        {"Request No : 1\nResponse : \n\nRequest No : 2\n\nRequest No : 3\nRequest : " BODY(
             "\"c\""),
         "7:c"},
    };

    (void)state;
    CHECK_ALL(samples);
}

static void refused(void **state)
{
    static const struct sample samples[] = {
        {"", "it holds no ids"},
        {"\n\r\n  \n", "it holds no ids"},
        {"\xef\xbb\xbf", "it holds no ids"},
        {"id\n", "it holds no ids"},
        {"\xef\xbb\xbfid\r\n\r\n", "it holds no ids"},
        {"Request No : 1\nRequest : " BODY("") "\nResponse : \n\n", "it holds no ids"},
        {"\xff\xfe"
         "a",
         "it is UTF-16: save it as UTF-8"},
        {"\x1f\x8b\x08", "it is compressed: zcat it, and give the ids as -"},
        {"PK\x03\x04zz", "it is a spreadsheet or zip archive: save it as CSV"},
        {"[\"a\",\"b\"]", "it begins with \"[\"; one JSON value a line is wanted, not one array "
                          "(jq -c '.[]' makes it "
                          "so)"},
        {"one,two\na,b\n", "no column \"three\" in the first line: one, two", .column = "three"},
        {"batchid\nb\n",
         "its header says batchid, but userid is wanted; --id-column says what the ids are, "
         "--csv-column which column holds them",
         .keys = key_user},
        {"courseid,userid\nb,c\n", "no column \"batchid\" in the first line: courseid, userid",
         .keys = key_two},
    };
    AUTO_STR char *path = path_of("ids");

    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        AUTO_STR char *want = NULL;
        struct err err = {0};

        put(path, samples[i].text, strlen(samples[i].text));
        want = xsprintf("id file %s: %s", path, samples[i].want);
        assert_null(open_sample(&samples[i], path, &err));
        assert_string_equal(err.text, want);
        assert_int_equal(err.kind, ERR_USER);
    }
}

static void not_there(void **state)
{
    AUTO_STR char *missing = path_of("nothing");
    AUTO_STR char *want = xsprintf("id file %s: No such file or directory", missing);
    AUTO_STR char *want_folder = xsprintf("id file %s: it is a folder", folder);
    const struct sample t = {0};
    struct err err = {0};

    (void)state;
    assert_null(open_sample(&t, missing, &err));
    assert_string_equal(err.text, want);
    assert_int_equal(err.kind, ERR_USER);
    assert_null(open_sample(&t, folder, &err));
    assert_string_equal(err.text, want_folder);
    assert_int_equal(err.kind, ERR_USER);
}

static void fingerprint(void **state)
{
    AUTO_STR char *path = path_of("ids");
    const struct sample t = {0};
    struct err err = {0};

    (void)state;
    put(path, "id\na\nb\nc", 8);
    struct ids *s = open_sample(&t, path, &err);
    assert_non_null(s);
    assert_int_equal(ids_file(s)->bytes, 8);
    assert_int_equal(ids_file(s)->count, 3);
    /* printf 'id\na\nb\nc' | sha256sum */
    assert_string_equal(ids_file(s)->sha256,
                        "4e5a49dfcf7c5a5dd2ac70443b0e5c0fda987cb20acffa9689fbd405ddc698c6");
    ids_close(s);
}

/* From every end reading goes on as if it had never stopped. */
static void seek(void **state)
{
    static const struct sample samples[] = {
        {"id\na\n\n\"b\nb\"\nc,d\ne", "", .keys = key_id},
        {"{\"userid\":\"a\"}\n\n{\"userid\":[\"b\",\"c\",\"d\"]}\nx\n\"e\"", "", .keys = key_user},
        {ENTRY("1", "\"a\", \"b\"", "x")
             ENTRY("2", "{\"userid\":[\"c\",\"d\"]},null,\"e\"", "y\nz"),
         "", .keys = key_user},
        {"Request No : 1\nRequest : {\"objectIds\":[\"a\",\"b\nRequest No : 2\nRequest : " BODY(
             "\"c\""),
         "", .keys = key_user},
    };
    AUTO_STR char *path = path_of("ids");

    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        struct err err = {0};
        struct buf whole;

        buf_init(&whole, 1 << 20);
        put(path, samples[i].text, strlen(samples[i].text));
        struct ids *s = open_sample(&samples[i], path, &err);
        assert_non_null(s);
        show(s, &whole, -1);
        for (int n = 0;; n++) {
            struct id_item item;
            struct buf b;
            uint64_t end = 0;
            int k = 0;

            buf_init(&b, 1 << 20);
            assert_true(ids_seek(s, 0, &err));
            show(s, &b, n);
            assert_true(ids_seek(s, 0, &err));
            for (; k < n; k++) {
                if (!ids_next(s, &item, &err) && err.kind != ERR_REJECT)
                    break;
                end = item.end;
            }
            assert_true(ids_seek(s, end, &err));
            show(s, &b, -1);
            assert_string_equal(buf_cstr(&b), buf_cstr(&whole));
            buf_fini(&b);
            if (k < n)
                break;
        }
        assert_false(ids_seek(s, 1 << 20, &err));
        assert_int_equal(err.kind, ERR_USER);
        ids_close(s);
        buf_fini(&whole);
    }
}

static void changed_meanwhile(void **state)
{
    AUTO_STR char *path = path_of("ids");
    AUTO_STR char *want =
        xsprintf("id file %s was changed while it was read; run again with --fresh", path);
    const struct sample t = {0};
    struct err err = {0};
    struct id_item item;

    (void)state;
    put(path, "a\nb\n", 4);
    struct ids *s = open_sample(&t, path, &err);
    assert_true(ids_next(s, &item, &err));
    put(path, "a\nb\nc\n", 6);
    assert_true(ids_next(s, &item, &err));
    assert_false(ids_next(s, &item, &err));
    assert_string_equal(err.text, want);
    assert_int_equal(err.kind, ERR_USER);
    ids_close(s);
}

static void long_lines(void **state)
{
    AUTO_STR char *path = path_of("ids");
    enum { LONG = 300000 };
    char *text = xalloc(LONG + 100);
    const struct sample t = {0};
    struct err err = {0};
    struct buf b;

    (void)state;
    memset(text, 'x', LONG);
    memcpy(text, "a\n", 2);
    memcpy(text + LONG, "\nb\n", 3);
    put(path, text, LONG + 3);
    struct ids *s = open_sample(&t, path, &err);
    buf_init(&b, 1 << 20);
    show(s, &b, -1);
    assert_string_equal(buf_cstr(&b), "1:a\n!line 2: longer than 65536 bytes\n3:b");
    ids_close(s);

    /* a quote that is never closed costs its line alone */
    memset(text, 'y', LONG);
    for (int i = 99; i < LONG; i += 100)
        text[i] = '\n';
    text[0] = '"';
    put(path, text, LONG);
    s = open_sample(&t, path, &err);
    struct id_item item;
    assert_false(ids_next(s, &item, &err));
    assert_string_equal(err.text, "line 1: a quote is not closed");
    int n = 0;
    while (ids_next(s, &item, &err))
        n++;
    assert_int_equal(n, LONG / 100 - 1);
    ids_close(s);

    /* a quoted record that the reader's window can't hold is not cut */
    memset(text, 'y', LONG);
    memcpy(text, "\"q\",", 4);
    for (int i = 70000; i < LONG; i += 100)
        text[i] = '\n';
    const struct sample second = {.column = "1"};
    put(path, text, LONG);
    s = open_sample(&second, path, &err);
    assert_false(ids_next(s, &item, &err));
    assert_string_equal(err.text, "line 1: longer than 65536 bytes");
    ids_close(s);
    buf_fini(&b);
    free(text);
}

/* Many ids, over many refills of the window, in each form. */
static void many(void **state)
{
    AUTO_STR char *path = path_of("ids");
    enum { N = 60000 };

    (void)state;
    for (int form = IDS_CSV; form <= IDS_LOG; form++) {
        const struct sample t = {.keys = key_user};
        struct err err = {0};
        struct id_item item;
        struct buf b;

        buf_init(&b, 16 << 20);
        for (int i = 0; i < N; i++) {
            if (form == IDS_CSV)
                buf_printf(&b, i % 3 ? "id-%07d\n" : "\"id-%07d\"\r\n", i);
            else if (form == IDS_JSON)
                buf_printf(&b, "{\"userid\":\"id-%07d\"}\n", i);
            else if (i % 20000 == 0)
                buf_printf(&b,
                           "%sRequest No : %d\nRequest : {\"request\":{\"objectIds\":[\"id-%07d\"",
                           i ? "]}}\nResponse : x\n\n" : "", i, i);
            else
                buf_printf(&b, ",\"id-%07d\"", i);
        }
        if (form == IDS_LOG)
            buf_add_str(&b, "]}}\nResponse : \n\n");
        put(path, b.p, b.len);
        struct ids *s = open_sample(&t, path, &err);
        assert_non_null(s);
        assert_int_equal(ids_file(s)->form, form);
        assert_int_equal(ids_file(s)->count, N);
        for (int i = 0; i < N; i++) {
            char want[16];
            snprintf(want, sizeof want, "id-%07d", i);
            assert_true(ids_next(s, &item, &err));
            assert_true(slice_is(item.parts[0], want));
        }
        assert_false(ids_next(s, &item, &err));
        assert_int_equal(err.kind, ERR_NONE);
        ids_close(s);
        buf_fini(&b);
    }
}

static void standard_input(void **state)
{
    AUTO_STR char *copy = path_of("spool");
    struct ids_options o = {.path = "-", .spool_path = copy, .key_names = key_id, .key_count = 1};
    struct err err = {0};
    struct buf b;
    int ends[2];
    int old = dup(STDIN_FILENO);

    (void)state;
    buf_init(&b, 1000);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "a\nb\n", 4), 4);
    close(ends[1]);
    dup2(ends[0], STDIN_FILENO);
    struct ids *s = ids_open(&o, &err);
    assert_non_null(s);
    show(s, &b, 1);
    ids_close(s);

    o.spooled = true; /* the run goes on: nothing more comes from the pipe */
    s = ids_open(&o, &err);
    assert_non_null(s);
    assert_true(ids_seek(s, 2, &err));
    show(s, &b, -1);
    assert_string_equal(buf_cstr(&b), "1:a\n2:b");
    ids_close(s);

    o.spooled = false;
    assert_null(ids_open(&o, &err));
    assert_string_equal(err.text, "id file -: it holds no ids");
    o.spool_path = NULL;
    assert_null(ids_open(&o, &err));
    assert_string_equal(err.text, "id file -: it can't be read twice");
    o.spool_path = "/nowhere/spool";
    assert_null(ids_open(&o, &err));
    assert_string_equal(err.text, "/nowhere/spool.part: No such file or directory");
    assert_int_equal(err.kind, ERR_SYSTEM);
    dup2(old, STDIN_FILENO);
    close(old);
    close(ends[0]);
    buf_fini(&b);
}

static void stopped_while_opening(void **state)
{
    AUTO_STR char *path = path_of("ids");
    struct cancel stop;
    struct ids_options o = {.path = path, .key_names = key_id, .key_count = 1, .cancel = &stop};
    struct err err = {0};

    (void)state;
    assert_true(cancel_init(&stop, &err));
    cancel_fire(&stop, 1);
    put(path, "a\nb\n", 4);
    assert_null(ids_open(&o, &err));
    assert_int_equal(err.kind, ERR_CANCEL);
    cancel_fini(&stop);
}

static void form_by_name(void **state)
{
    AUTO_STR char *path = path_of("ids.jsonl");
    const struct sample t = {0};
    struct err err = {0};
    struct buf b;

    (void)state;
    buf_init(&b, 1000);
    put(path, "\"id\"\n\"b\\\\c\"\n", 12);
    struct ids *s = open_sample(&t, path, &err);
    show(s, &b, -1);
    assert_string_equal(buf_cstr(&b), "1:id\n2:b\\c");
    ids_close(s);
    buf_fini(&b);
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/ids_test.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    static const char *const names[] = {"ids", "ids.jsonl", "spool"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        AUTO_STR char *path = path_of(names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(csv),
        cmocka_unit_test(json_lines),
        cmocka_unit_test(failure_logs),
        cmocka_unit_test(refused),
        cmocka_unit_test(not_there),
        cmocka_unit_test(fingerprint),
        cmocka_unit_test(seek),
        cmocka_unit_test(changed_meanwhile),
        cmocka_unit_test(long_lines),
        cmocka_unit_test(many),
        cmocka_unit_test(standard_input),
        cmocka_unit_test(stopped_while_opening),
        cmocka_unit_test(form_by_name),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
