#include "base/hash.h"

#include "base/cmocka_all.h"

static void sha256_of_known_texts(void **state)
{
    char hex[SHA256_HEX_BYTES];
    struct sha256 *h = sha256_new();

    (void)state;
    hash_sha256_hex(slice_str(""), hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    hash_sha256_hex(slice_str("abc"), hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_add(h, slice_str("a"));
    sha256_add(h, slice_of("", 0));
    sha256_add(h, slice_str("bc"));
    sha256_end_hex(h, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_free(h);
}

static void fast_hashes_differ(void **state)
{
    (void)state;
    assert_true(hash_64(slice_str("a")) == hash_64(slice_str("a")));
    assert_true(hash_64(slice_str("a")) != hash_64(slice_str("b")));
    assert_true(hash_64(slice_str("")) != hash_64(slice_of("\0", 1)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_of_known_texts),
        cmocka_unit_test(fast_hashes_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
