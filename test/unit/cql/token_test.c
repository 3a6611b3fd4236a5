/* Tokens and partition keys as the server computes them. */
#include "cql/vectors.h"

#include "cql/cql.h"
#include "cql/token.h"

static void every_recorded_key(void **state)
{
    (void)state;
    int count = 0;
    int composite = 0;

    json_each (v, vectors_section("tokens")) {
        struct slice key = vector_bytes(v, "key");
        assert_int_equal(cql_token(key), vector_int(v, "token"));
        count++;
        const struct json *components = json_get(v, "components");
        if (!components)
            continue;
        struct slice parts[8];
        size_t n = 0;
        struct buf b;
        json_each (c, components)
            parts[n++] = unhex(c->text);
        buf_init(&b, 1 << 20);
        cql_partition_key(parts, n, &b);
        assert_bytes(buf_slice(&b), key);
        buf_fini(&b);
        composite += n > 1;
    }
    assert_int_equal(count, 66);
    assert_true(composite >= 8);
    assert_int_equal(cql_token(slice_of("", 0)), INT64_MIN);
}

static void texts(void **state)
{
    (void)state;
    int64_t t;

    assert_true(token_parse(slice_str("-9223372036854775808"), &t));
    assert_int_equal(t, INT64_MIN);
    assert_true(token_parse(slice_str("9223372036854775807"), &t));
    assert_int_equal(t, INT64_MAX);
    assert_false(token_parse(slice_str("9223372036854775808"), &t));
    assert_false(token_parse(slice_str("00ff"), &t) && t != 0);
    assert_false(token_parse(slice_str(""), &t));
    assert_true(token_partitioner_known(slice_str("org.apache.cassandra.dht.Murmur3Partitioner")));
    assert_true(token_partitioner_known(slice_str("Murmur3Partitioner")));
    assert_false(token_partitioner_known(slice_str("org.apache.cassandra.dht.RandomPartitioner")));
    assert_false(token_partitioner_known(slice_str("NotMurmur3Partitioner")));
    assert_false(token_partitioner_known(slice_str("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_recorded_key),
        cmocka_unit_test(texts),
    };
    return cmocka_run_group_tests(tests, vectors_begin, vectors_end);
}
