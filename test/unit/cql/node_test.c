#include "cql/node.h"

#include "base/cmocka_all.h"

static void addresses_are_split(void **state)
{
    static const struct {
        const char *text;
        const char *host; /* NULL: not an address */
        uint16_t port;
    } cases[] = {
        {"db", "db", 9042},
        {"db:9142", "db", 9142},
        {"10.0.0.3:1", "10.0.0.3", 1},
        {"[2001:db8::1]:9142", "2001:db8::1", 9142},
        {"[2001:db8::1]", "2001:db8::1", 9042},
        {"2001:db8::1", "2001:db8::1", 9042},
        {"::1", "::1", 9042},
        {"", NULL, 0},
        {":9042", NULL, 0},
        {"db:", NULL, 0},
        {"db:0", NULL, 0},
        {"db:65536", NULL, 0},
        {"db:9042x", NULL, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char host[64];
        uint16_t port = 9042;
        bool ok = address_split(cases[i].text, host, sizeof host, &port);
        assert_int_equal(ok, cases[i].host != NULL);
        if (ok) {
            assert_string_equal(host, cases[i].host);
            assert_int_equal(port, cases[i].port);
        }
    }
    char small[4];
    uint16_t port = 1;
    assert_false(address_split("abcd", small, sizeof small, &port));
}

static void addresses_are_mapped(void **state)
{
    static const char *const map[] = {"10.0.0.1:9042=proxy:19042", "10.0.0.1=other", "db=[::1]:7",
                                      "10.0.0.2=10.9.9.9", NULL};
    static const struct {
        const char *host;
        uint16_t port;
        const char *to;
        uint16_t to_port;
    } cases[] = {
        {"10.0.0.1", 9042, "proxy", 19042},
        {"10.0.0.1", 9043, "other", 9043},
        {"db", 9042, "::1", 7},
        {"10.0.0.2", 9042, "10.9.9.9", 9042},
        {"10.0.0.3", 9042, "10.0.0.3", 9042},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char host[64];
        uint16_t port = cases[i].port;
        snprintf(host, sizeof host, "%s", cases[i].host);
        address_map(map, host, sizeof host, &port);
        assert_string_equal(host, cases[i].to);
        assert_int_equal(port, cases[i].to_port);
    }
}

static struct found_node found(const char *id, const char *host, bool contact)
{
    struct found_node f = {.host_id = slice_of(id, 16),
                           .dc = slice_str("dc1"),
                           .rack = slice_str("r1"),
                           .port = 9042,
                           .contact = contact,
                           .advertised = "10.0.0.1:9042"};

    snprintf(f.host, sizeof f.host, "%s", host);
    return f;
}

static void a_node_is_known_by_its_id_not_its_address(void **state)
{
    struct node_book book;

    (void)state;
    node_book_init(&book);
    struct found_node f = found("0123456789abcdef", "localhost", true);
    struct node *n = node_book_put(&book, &f);
    assert_string_equal(n->address, "localhost:9042");
    /* Seen from a peer with its advertised address: the one that worked stays. */
    f = found("0123456789abcdef", "10.0.0.1", false);
    assert_ptr_equal(node_book_put(&book, &f), n);
    f = found("fedcba9876543210", "10.0.0.1", false);
    struct node *other = node_book_put(&book, &f);
    assert_ptr_not_equal(other, n);
    /* It has moved: a new entry, and the old one still can be looked at. */
    f.advertised = "10.0.0.7:9042";
    snprintf(f.host, sizeof f.host, "10.0.0.7");
    struct node *moved = node_book_put(&book, &f);
    assert_ptr_not_equal(moved, other);
    assert_ptr_equal(node_book_put(&book, &f), moved);
    assert_string_equal(other->address, "10.0.0.1:9042");
    node_book_fini(&book);
}

static int64_t held_us(void *ctx)
{
    return *(int64_t *)ctx;
}

static void a_node_that_failed_is_avoided_for_longer_each_time(void **state)
{
    static const int64_t waits_ms[] = {1000, 2000, 4000, 8000, 16000, 30000, 30000};
    int64_t now_us = 1000000;
    struct clock clock = {.mono_us = held_us, .wall_us = held_us, .ctx = &now_us};
    struct node n = {.port = 1};

    (void)state;
    assert_false(node_avoided(&n, &clock));
    for (size_t i = 0; i < sizeof waits_ms / sizeof *waits_ms; i++) {
        node_failed(&n, &clock);
        now_us += waits_ms[i] * 1000 - 1000;
        assert_true(node_avoided(&n, &clock));
        now_us += 1000;
        assert_false(node_avoided(&n, &clock));
    }
    node_failed(&n, &clock);
    node_worked(&n);
    assert_false(node_avoided(&n, &clock));
    node_is_down(&n, &clock);
    assert_true(node_avoided(&n, &clock));
    node_worked(&n);
    assert_false(node_avoided(&n, &clock));
    node_is_down(&n, &clock);
    now_us += 600 * 1000000ll; /* nobody said UP: it is tried again */
    assert_false(node_avoided(&n, &clock));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_split),
        cmocka_unit_test(addresses_are_mapped),
        cmocka_unit_test(a_node_is_known_by_its_id_not_its_address),
        cmocka_unit_test(a_node_that_failed_is_avoided_for_longer_each_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
