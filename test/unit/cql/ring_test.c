/* Who holds what, and how a scan is cut: small rings by hand, others by their properties. */
#include "cql/vectors.h"

#include "cql/ring.h"

static uint64_t seed = 42;

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Nodes "a", "b", ... with one token each, 10, 20, ... ; `racks` "dc/rack" for each. */
static struct ring *small_ring(const char *const *places, size_t count)
{
    static int64_t tokens[16];
    struct ring_node nodes[16] = {0};
    static char dcs[16][16], racks[16][16];

    for (size_t i = 0; i < count; i++) {
        const char *slash = strchr(places[i], '/');
        snprintf(dcs[i], 16, "%.*s", (int)(slash - places[i]), places[i]);
        snprintf(racks[i], 16, "%s", slash + 1);
        tokens[i] = (int64_t)(i + 1) * 10;
        nodes[i] = (struct ring_node){
            .dc = dcs[i], .rack = racks[i], .tokens = &tokens[i], .token_count = 1};
    }
    return ring_new(nodes, count);
}

static const char *replicas_text(const struct ring_range *range)
{
    static char text[64];
    size_t n = 0;

    for (uint32_t i = 0; i < range->replica_count; i++)
        text[n++] = (char)('a' + range->replicas[i]);
    text[n] = '\0';
    return text;
}

static void replicas_by_hand(void **state)
{
    (void)state;
    static const char *const one_rack[] = {"d/r", "d/r", "d/r", "d/r"};
    static const char *const two_racks[] = {"d/r1", "d/r1", "d/r1", "d/r2"};
    static const char *const three_racks[] = {"d/r1", "d/r1", "d/r2", "d/r2", "d/r3"};
    static const char *const two_dcs[] = {"d/r1", "e/r1", "d/r1", "e/r2", "d/r2", "e/r2"};
    const struct replication simple = {.kind = REPLICATION_SIMPLE, .factor = 3};
    const struct replication too_many = {.kind = REPLICATION_SIMPLE, .factor = 9};
    const struct replication every = {.kind = REPLICATION_EVERYWHERE};
    const struct replication topology = {
        .kind = REPLICATION_TOPOLOGY, .dc_count = 1, .dcs = {{"d", 3, 0}}};
    const struct replication transient = {
        .kind = REPLICATION_TOPOLOGY, .dc_count = 1, .dcs = {{"d", 3, 1}}};
    const struct replication both = {.kind = REPLICATION_TOPOLOGY,
                                     .dc_count = 3,
                                     .dcs = {{"d", 2, 0}, {"e", 2, 0}, {"x", 3, 0}}};
    const struct {
        const char *const *places;
        size_t count;
        const struct replication *how;
        int64_t token;
        const char *want;
    } rows[] = {
        {one_rack, 4, &simple, 10, "abc"},
        {one_rack, 4, &simple, 11, "bcd"},
        {one_rack, 4, &simple, 40, "dab"},
        {one_rack, 4, &simple, 41, "abc"}, /* behind the last token: the first's */
        {one_rack, 4, &simple, INT64_MIN, "abc"},
        {one_rack, 4, &simple, INT64_MAX, "abc"},
        {one_rack, 4, &too_many, 25, "cdab"},
        {one_rack, 4, &every, 25, "cdab"},
        {one_rack, 4, &topology, 25, "cda"},
        /* More replicas than racks: one repeat is taken as it comes, then the other rack. */
        {two_racks, 4, &topology, 10, "abd"},
        {two_racks, 4, &topology, 35, "dab"},
        {three_racks, 5, &topology, 10, "ace"},
        {three_racks, 5, &topology, 45, "eac"},
        {three_racks, 5, &transient, 10, "ac"},
        {two_dcs, 6, &both, 10, "abde"},
        {two_dcs, 6, &both, 25, "cdeb"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        AUTO(ring) struct ring *r = small_ring(rows[i].places, rows[i].count);
        AUTO(ring_map) struct ring_map *m = ring_map_new(r, rows[i].how);
        if (strcmp(replicas_text(ring_map_find(m, rows[i].token)), rows[i].want) != 0)
            fail_msg("row %zu: %s", i, replicas_text(ring_map_find(m, rows[i].token)));
    }
}

static void without_tokens(void **state)
{
    (void)state;
    const struct replication hows[] = {{.kind = REPLICATION_SIMPLE, .factor = 1},
                                       {.kind = REPLICATION_LOCAL},
                                       {.kind = REPLICATION_UNKNOWN}};
    static const char *const places[] = {"d/r"};

    for (size_t i = 0; i < 3; i++) {
        AUTO(ring) struct ring *r = i ? small_ring(places, 1) : ring_new(NULL, 0);
        AUTO(ring_map) struct ring_map *m = ring_map_new(r, &hows[i]);
        assert_int_equal(m->count, 1);
        assert_int_equal(m->ranges[0].replica_count, 0);
        struct cql_ranges ranges;
        struct token_range all = {.start = INT64_MIN, .end = INT64_MAX};
        ring_split(r, m, &(struct ring_split){.at_least = 8}, &all, 1, &ranges);
        assert_int_equal(ranges.count, 8);
        assert_int_equal(ranges.list[0].node, -1);
        cql_ranges_fini(&ranges);
    }
}

static void replication_options(void **state)
{
    (void)state;
    static const struct {
        const char *pairs; /* key=value key=value */
        enum replication_kind kind;
        int factor, transient;
        const char *dcs;
    } rows[] = {
        {"class=org.apache.cassandra.locator.SimpleStrategy replication_factor=3",
         REPLICATION_SIMPLE, 3, 0, ""},
        {"class=SimpleStrategy replication_factor=3/1", REPLICATION_SIMPLE, 3, 1, ""},
        {"class=org.apache.cassandra.locator.NetworkTopologyStrategy dc1=3 dc2=2/1",
         REPLICATION_TOPOLOGY, 0, 0, "dc1:3-0 dc2:2-1 "},
        {"dc1=1 class=NetworkTopologyStrategy", REPLICATION_TOPOLOGY, 0, 0, "dc1:1-0 "},
        {"class=org.apache.cassandra.locator.LocalStrategy", REPLICATION_LOCAL, 0, 0, ""},
        {"class=EverywhereStrategy", REPLICATION_EVERYWHERE, 0, 0, ""},
        {"class=com.example.Strange note=x", REPLICATION_UNKNOWN, 0, 0, ""},
        {"", REPLICATION_UNKNOWN, 0, 0, ""},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf cell;
        uint32_t n = 0;
        buf_init(&cell, 4096);
        buf_add_u32(&cell, 0);
        for (const char *p = rows[i].pairs; *p; n++) {
            size_t key = strcspn(p, "=");
            size_t value = strcspn(p + key + 1, " ");
            buf_add_u32(&cell, (uint32_t)key);
            buf_add(&cell, p, key);
            buf_add_u32(&cell, (uint32_t)value);
            buf_add(&cell, p + key + 1, value);
            p += key + 1 + value;
            p += *p == ' ';
        }
        cell.p[3] = (uint8_t)n;
        struct replication how;
        struct err err = {0};
        char dcs[200] = "";
        assert_true(replication_read(buf_slice(&cell), &how, &err));
        for (size_t d = 0; d < how.dc_count; d++)
            snprintf(dcs + strlen(dcs), sizeof dcs - strlen(dcs), "%s:%d-%d ", how.dcs[d].dc,
                     how.dcs[d].factor, how.dcs[d].transient);
        assert_int_equal(how.kind, rows[i].kind);
        assert_int_equal(how.factor, rows[i].factor);
        assert_int_equal(how.transient, rows[i].transient);
        assert_string_equal(dcs, rows[i].dcs);
        for (size_t cut = 0; cut < cell.len; cut++)
            assert_false(replication_read(slice_of(cell.p, cut), &how, &err));
        buf_fini(&cell);
    }
    const struct json *recorded =
        json_get(json_get(vectors_section("schema"), "keyspaces"), "rows");
    struct replication how;
    struct err err = {0};
    assert_true(replication_read(unhex(recorded->first->first->next->next->text), &how, &err));
    assert_int_equal(how.kind, REPLICATION_SIMPLE);
    assert_int_equal(how.factor, 1);
}

/* The plain rule of the specification, written another way: distinct nodes round the ring; a node
 * of a rack already met only once all racks were, or when there are more replicas than racks. */
struct random_ring {
    struct ring *ring;
    struct ring_node nodes[12];
    size_t node_count;
    int dc_nodes[2], dc_racks[2];
    int64_t tokens[12][16];
};

static void check_topology(const struct random_ring *x, const struct ring_range *range,
                           const char *dc, int factor, int dc_nodes, int dc_racks)
{
    int found = 0;
    const char *racks[64];
    int distinct = 0;

    for (uint32_t i = 0; i < range->replica_count; i++) {
        const struct ring_node *n = &x->nodes[range->replicas[i]];
        for (uint32_t k = 0; k < i; k++)
            assert_int_not_equal(range->replicas[i], range->replicas[k]);
        if (strcmp(n->dc, dc) != 0)
            continue;
        found++;
        bool met = false;
        for (int k = 0; k < distinct; k++)
            met = met || strcmp(racks[k], n->rack) == 0;
        if (!met)
            racks[distinct++] = n->rack;
    }
    assert_int_equal(found, factor < dc_nodes ? factor : dc_nodes);
    assert_int_equal(distinct, factor < dc_racks ? factor : dc_racks);
}

static int by_start(const void *a, const void *b)
{
    const struct token_range *x = a;
    const struct token_range *y = b;

    return (x->start > y->start) - (x->start < y->start);
}

static void make_random(struct random_ring *x)
{
    static const char *const dcs[] = {"east", "west"};
    static const char *const racks[] = {"r1", "r2", "r3", "r4"};
    size_t count = 1 + next_random() % 12;
    bool rack_used[2][4] = {0};

    *x = (struct random_ring){.node_count = count};
    for (size_t i = 0; i < count; i++) {
        size_t dc = next_random() % 2;
        size_t rack = next_random() % 4;
        size_t tokens = 1 + next_random() % 16;
        for (size_t k = 0; k < tokens; k++)
            x->tokens[i][k] = (int64_t)next_random();
        if (next_random() % 8 == 0)
            x->tokens[i][0] = INT64_MAX;
        if (next_random() % 8 == 0)
            x->tokens[i][0] = INT64_MIN + 1;
        x->nodes[i] = (struct ring_node){
            .dc = dcs[dc], .rack = racks[rack], .tokens = x->tokens[i], .token_count = tokens};
        x->dc_nodes[dc]++;
        x->dc_racks[dc] += !rack_used[dc][rack];
        rack_used[dc][rack] = true;
    }
    x->ring = ring_new(x->nodes, count);
}

/* Two nodes with the same token: then one of them may own nothing, and counts differ. */
static bool tokens_are_distinct(const struct random_ring *x)
{
    int ends = 0;

    for (size_t i = 0; i < x->node_count; i++) {
        const struct ring_node *n = &x->nodes[i];
        ends += n->tokens[0] == INT64_MAX || n->tokens[0] == INT64_MIN + 1;
    }
    return ends <= 1;
}

static void check_chain(const struct ring_map *m)
{
    assert_int_equal(m->ranges[0].start, INT64_MIN);
    assert_int_equal(m->ranges[m->count - 1].end, INT64_MAX);
    for (size_t i = 0; i < m->count; i++) {
        assert_true(m->ranges[i].start < m->ranges[i].end);
        if (i)
            assert_int_equal(m->ranges[i].start, m->ranges[i - 1].end);
        assert_ptr_equal(ring_map_find(m, m->ranges[i].end), &m->ranges[i]);
        assert_ptr_equal(ring_map_find(m, m->ranges[i].start + 1), &m->ranges[i]);
    }
}

/* What is wanted: the whole ring, or some intervals of it. */
static size_t random_intervals(struct token_range *of, size_t max)
{
    size_t n = 0;
    int64_t points[16];

    if (next_random() % 3 == 0) {
        of[0] = (struct token_range){.start = INT64_MIN, .end = INT64_MAX};
        return 1;
    }
    for (size_t i = 0; i < max * 2; i++)
        points[i] = (int64_t)next_random();
    if (next_random() % 4 == 0)
        points[1] = points[0] + 3;         /* very narrow */
    for (size_t i = 0; i < max * 2; i++) { /* sort */
        for (size_t k = i; k && points[k - 1] > points[k]; k--) {
            int64_t t = points[k];
            points[k] = points[k - 1];
            points[k - 1] = t;
        }
    }
    for (size_t i = 0; i + 1 < max * 2; i += 2) {
        if (points[i] < points[i + 1])
            of[n++] = (struct token_range){.start = points[i], .end = points[i + 1]};
    }
    return n;
}

static void check_split(const struct ring *r, const struct ring_map *m,
                        const struct token_range *of, size_t of_count, const struct ring_split *how)
{
    struct cql_ranges got;
    size_t k = 0;
    int64_t at = 0;

    ring_split(r, m, how, of, of_count, &got);
    assert_true(got.count >= of_count);
    /* Nodes take turns: between two ranges of one node, every node that has more to come is seen.
     */
    for (size_t i = 1; i < got.count; i++) {
        if (got.list[i].node == got.list[i - 1].node) {
            for (size_t rest = i; rest < got.count; rest++)
                assert_int_equal(got.list[rest].node, got.list[i].node);
        }
    }
    qsort(got.list, got.count, sizeof *got.list, by_start);
    for (size_t i = 0; i < got.count; i++) {
        const struct token_range *g = &got.list[i];
        assert_true(g->start < g->end);
        if (!at || at == of[k].end) { /* the next interval begins */
            if (i)
                k++;
            assert_int_equal(g->start, of[k].start);
        } else {
            assert_int_equal(g->start, at);
        }
        assert_true(g->end <= of[k].end);
        at = g->end;
        const struct ring_range *range = ring_map_find(m, g->end);
        assert_true(range->start <= g->start && g->end <= range->end);
        if (how->target_bytes)
            assert_true(g->estimated_bytes <= how->target_bytes + how->target_bytes / 1000 + 1 ||
                        (uint64_t)g->end - (uint64_t)g->start == 1);
        bool local = false;
        for (uint32_t n = 0; n < range->replica_count; n++)
            local = local || g->node == range->replicas[n];
        assert_true(local || (g->node == -1 && !range->replica_count));
    }
    assert_int_equal(k, of_count - 1);
    assert_int_equal(at, of[k].end);
    cql_ranges_fini(&got);
}

static void random_rings(void **state)
{
    (void)state;
    static const char *const dcs[] = {"east", "west"};

    for (int round = 0; round < 400; round++) {
        struct random_ring x;
        make_random(&x);
        struct replication how = {.kind = REPLICATION_TOPOLOGY, .dc_count = 2};
        for (int d = 0; d < 2; d++) {
            snprintf(how.dcs[d].dc, sizeof how.dcs[d].dc, "%s", dcs[d]);
            how.dcs[d].factor = (int)(next_random() % 5);
        }
        if (next_random() % 4 == 0)
            how = (struct replication){.kind = REPLICATION_SIMPLE, .factor = 2};
        AUTO(ring_map) struct ring_map *m = ring_map_new(x.ring, &how);
        check_chain(m);
        for (size_t i = 0;
             i < m->count && how.kind == REPLICATION_TOPOLOGY && tokens_are_distinct(&x); i++) {
            for (int d = 0; d < 2; d++)
                check_topology(&x, &m->ranges[i], dcs[d], how.dcs[d].factor, x.dc_nodes[d],
                               x.dc_racks[d]);
        }
        struct ring_estimate estimates[20];
        size_t estimate_count = next_random() % 20;
        for (size_t i = 0; i < estimate_count; i++)
            estimates[i] = (struct ring_estimate){(int64_t)next_random(), (int64_t)next_random(),
                                                  (int64_t)(next_random() % 5000),
                                                  (int64_t)(next_random() % 100000)};
        struct ring_split split = {.local_dc = round % 2 ? "east" : NULL,
                                   .target_bytes = next_random() % 2 ? 4 << 20 : 0,
                                   .at_least = next_random() % 40,
                                   .estimates = estimates,
                                   .estimate_count = estimate_count};
        struct token_range of[6];
        size_t of_count = random_intervals(of, 6);
        check_split(x.ring, m, of, of_count, &split);
        ring_free(x.ring);
    }
}

static void split_by_size(void **state)
{
    (void)state;
    static const char *const places[] = {"d/r", "d/r"};
    AUTO(ring) struct ring *r = small_ring(places, 2);
    const struct replication how = {.kind = REPLICATION_SIMPLE, .factor = 1};
    AUTO(ring_map) struct ring_map *m = ring_map_new(r, &how);
    const struct token_range all = {.start = INT64_MIN, .end = INT64_MAX};
    /* 100 MB in what a holds, nothing known of b's ten tokens. */
    const struct ring_estimate round_the_end = {20, 10, 1000, 100000};
    const struct ring_estimate tiny = {7, 7, 100, 3};
    struct cql_ranges got;

    ring_split(r, m,
               &(struct ring_split){.target_bytes = 10000000,
                                    .at_least = 4,
                                    .estimates = &round_the_end,
                                    .estimate_count = 1},
               &all, 1, &got);
    assert_in_range(got.count, 11, 13);
    assert_in_range(got.estimated_rows, 99999, 100001);
    assert_in_range(got.mean_partition_bytes, 999, 1001);
    assert_in_range(got.list[0].estimated_bytes, 8000000, 10000001);
    cql_ranges_fini(&got);

    /* Known to be tiny: no more than the replica sets ask for; unknown: as many as wanted. */
    ring_split(r, m, &(struct ring_split){.at_least = 32, .estimates = &tiny, .estimate_count = 1},
               &all, 1, &got);
    assert_int_equal(got.count, 3);
    assert_in_range(got.estimated_rows, 2, 3);
    cql_ranges_fini(&got);
    ring_split(r, m, &(struct ring_split){.at_least = 32}, &all, 1, &got);
    assert_in_range(got.count, 32, 34);
    assert_int_equal(got.estimated_rows, 0);
    assert_int_equal(got.list[0].estimated_bytes, 0);
    cql_ranges_fini(&got);
}

/* Estimates that no disk can hold: still a number of ranges that a memory can. */
static void estimates_out_of_this_world(void **state)
{
    (void)state;
    static const char *const places[] = {"d/r"};
    AUTO(ring) struct ring *r = small_ring(places, 1);
    const struct replication how = {.kind = REPLICATION_SIMPLE, .factor = 1};
    AUTO(ring_map) struct ring_map *m = ring_map_new(r, &how);
    const struct token_range all = {.start = INT64_MIN, .end = INT64_MAX};
    const struct ring_estimate estimates[] = {{0, 1, INT64_MAX, INT64_MAX}, {5, 4, 1, INT64_MAX}};
    struct cql_ranges got;

    for (size_t n = 1; n <= 2; n++) {
        ring_split(r, m,
                   &(struct ring_split){.target_bytes = 1 << 20,
                                        .at_least = 4,
                                        .estimates = estimates,
                                        .estimate_count = n},
                   &all, 1, &got);
        assert_in_range(got.count, 4, 4 << 20);
        cql_ranges_fini(&got);
    }
}

static void local_replicas_first(void **state)
{
    (void)state;
    static const char *const places[] = {"far/r", "near/r", "far/r"};
    AUTO(ring) struct ring *r = small_ring(places, 3);
    const struct replication how = {
        .kind = REPLICATION_TOPOLOGY, .dc_count = 2, .dcs = {{"far", 2, 0}, {"near", 1, 0}}};
    AUTO(ring_map) struct ring_map *m = ring_map_new(r, &how);
    const struct token_range all = {.start = INT64_MIN, .end = INT64_MAX};
    struct cql_ranges got;

    ring_split(r, m, &(struct ring_split){.local_dc = "near"}, &all, 1, &got);
    for (size_t i = 0; i < got.count; i++)
        assert_int_equal(got.list[i].node, 1);
    cql_ranges_fini(&got);
    ring_split(r, m, &(struct ring_split){.local_dc = "far"}, &all, 1, &got);
    for (size_t i = 0; i < got.count; i++)
        assert_int_not_equal(got.list[i].node, 1);
    cql_ranges_fini(&got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replicas_by_hand),
        cmocka_unit_test(without_tokens),
        cmocka_unit_test(replication_options),
        cmocka_unit_test(random_rings),
        cmocka_unit_test(split_by_size),
        cmocka_unit_test(local_replicas_first),
        cmocka_unit_test(estimates_out_of_this_world),
    };
    return cmocka_run_group_tests(tests, vectors_begin, vectors_end);
}
