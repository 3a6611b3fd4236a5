#include "cql/ring.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/text.h"
#include "model/value.h"

enum { RING_MAX_BYTES = 1 << 30 };
static const double RANGES_MAX = 1 << 20;

struct ring_token {
    int64_t token;
    int32_t node;
};

struct ring {
    struct arena mem;
    struct ring_node *nodes; /* without their tokens */
    size_t node_count;
    struct ring_token *tokens; /* ascending, each once */
    size_t token_count;
};

static int by_token(const void *a, const void *b)
{
    const struct ring_token *x = a;
    const struct ring_token *y = b;

    if (x->token != y->token)
        return x->token < y->token ? -1 : 1;
    return (x->node > y->node) - (x->node < y->node);
}

static const char *copy_text(struct ring *r, const char *text)
{
    const char *copy = arena_strndup(&r->mem, text ? text : "", text ? strlen(text) : 0);

    ensure(copy);
    return copy;
}

struct ring *ring_new(const struct ring_node *nodes, size_t count)
{
    struct ring *r = xalloc(sizeof *r);
    size_t total = 0;
    size_t n = 0;

    arena_init(&r->mem, RING_MAX_BYTES);
    for (size_t i = 0; i < count; i++)
        total += nodes[i].token_count;
    r->nodes = arena_zalloc(&r->mem, (count + 1) * sizeof *r->nodes);
    r->tokens = arena_alloc(&r->mem, (total + 1) * sizeof *r->tokens);
    ensure(r->nodes && r->tokens);
    r->node_count = count;
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < nodes[i].token_count; k++)
            r->tokens[n++] = (struct ring_token){nodes[i].tokens[k], (int32_t)i};
        r->nodes[i] = (struct ring_node){.dc = copy_text(r, nodes[i].dc),
                                         .rack = copy_text(r, nodes[i].rack),
                                         .token_count = nodes[i].token_count};
    }
    qsort(r->tokens, n, sizeof *r->tokens, by_token);
    for (size_t i = 0; i < n; i++) {
        if (!r->token_count || r->tokens[r->token_count - 1].token != r->tokens[i].token)
            r->tokens[r->token_count++] = r->tokens[i];
    }
    return r;
}

void ring_free(struct ring *r)
{
    if (!r)
        return;
    arena_fini(&r->mem);
    free(r);
}

/* ---- replication ------------------------------------------------------------------------------
 */

/* "3", or "3/1": in all / of them transient. */
static bool read_factor(struct slice text, int *factor, int *transient)
{
    const uint8_t *slash = text.n ? memchr(text.p, '/', text.n) : NULL;
    struct slice all = slash ? slice_of(text.p, (size_t)(slash - text.p)) : text;
    int64_t total;
    int64_t part = 0;

    if (!text_to_i64(all, 0, 10000, &total))
        return false;
    if (slash && !text_to_i64(slice_of(slash + 1, text.n - all.n - 1), 0, total, &part))
        return false;
    *factor = (int)total;
    *transient = (int)part;
    return true;
}

static enum replication_kind read_class(struct slice name)
{
    static const struct {
        const char *name;
        enum replication_kind kind;
    } rows[] = {
        {"SimpleStrategy", REPLICATION_SIMPLE},
        {"NetworkTopologyStrategy", REPLICATION_TOPOLOGY},
        {"LocalStrategy", REPLICATION_LOCAL},
        {"EverywhereStrategy", REPLICATION_EVERYWHERE},
    };

    for (size_t i = name.n; i--;) {
        if (name.p[i] == '.') {
            name = slice_of(name.p + i + 1, name.n - i - 1);
            break;
        }
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (slice_is(name, rows[i].name))
            return rows[i].kind;
    }
    return REPLICATION_UNKNOWN;
}

static bool read_option(struct slice key, struct slice value, struct replication *how,
                        struct err *err)
{
    int factor;
    int transient;

    if (slice_is(key, "class")) {
        how->kind = read_class(value);
        return true;
    }
    if (!read_factor(value, &factor, &transient))
        return true; /* an option that is not about replicas */
    if (slice_is(key, "replication_factor")) {
        how->factor = factor;
        how->transient = transient;
        return true;
    }
    if (how->dc_count == REPLICATION_DC_MAX || key.n >= sizeof how->dcs->dc)
        return err_set(err, ERR_REJECT, "replication: more than %d data centres, or a long name",
                       REPLICATION_DC_MAX);
    struct replication_dc *dc = &how->dcs[how->dc_count++];
    memcpy(dc->dc, key.p, key.n);
    dc->dc[key.n] = '\0';
    dc->factor = factor;
    dc->transient = transient;
    return true;
}

bool replication_read(struct slice map_cell, struct replication *out, struct err *err)
{
    const struct type *const args[] = {type_simple(TYPE_TEXT), type_simple(TYPE_TEXT)};
    const struct type map = {.kind = TYPE_MAP, .arg_count = 2, .args = args};
    struct replication how = {.kind = REPLICATION_UNKNOWN};
    struct value_cursor c;
    const struct type *type;
    struct slice key;
    struct slice value;
    bool bad = !value_open(&map, map_cell, &c);

    while (!bad && value_next(&c, &type, &key, &bad)) {
        if (!value_next(&c, &type, &value, &bad))
            break;
        if (!read_option(key, value, &how, err))
            return false;
    }
    if (bad)
        return err_set(err, ERR_REJECT, "replication: not a map of texts");
    *out = how;
    return true;
}

/* ---- replicas ---------------------------------------------------------------------------------
 */

/* Where the nodes stand, as numbers, and what has been met on one walk round the ring. `met` stamps
 * hold the number of the walk, so that nothing is cleared between walks. */
struct walk {
    const struct ring *ring;
    uint32_t number;
    int32_t *dc_of;   /* node -> index in `dcs`; -1: not replicated to */
    int32_t *rack_of; /* node -> rack, counted over all data centres */
    uint32_t *node_met;
    uint32_t *rack_met;
    struct walk_dc {
        int nodes; /* that own tokens */
        int racks;
        int factor;
        int transient;
        int left; /* of this walk */
        int repeats_left;
    } *dcs;
    size_t dc_count;
};

static void walk_init(struct walk *w, const struct ring *r, const struct replication *how)
{
    size_t n = r->node_count;

    *w = (struct walk){.ring = r};
    w->dc_of = xalloc((n + 1) * sizeof *w->dc_of);
    w->rack_of = xalloc((n + 1) * sizeof *w->rack_of);
    w->node_met = xalloc((n + 1) * sizeof *w->node_met);
    w->rack_met = xalloc((n + 1) * sizeof *w->rack_met);
    w->dcs = xalloc((how->dc_count + 1) * sizeof *w->dcs);
    /* Without data centres (SimpleStrategy) all nodes are in one, each in a rack of its own. */
    bool topology = how->kind == REPLICATION_TOPOLOGY;
    w->dc_count = topology ? how->dc_count : 1;
    for (size_t d = 0; d < w->dc_count; d++) {
        w->dcs[d].factor = topology ? how->dcs[d].factor : how->factor;
        w->dcs[d].transient = topology ? how->dcs[d].transient : how->transient;
    }
    if (how->kind == REPLICATION_EVERYWHERE)
        w->dcs[0].factor = (int)n;

    int32_t racks = 0;
    for (size_t i = 0; i < n; i++) {
        const struct ring_node *node = &r->nodes[i];
        w->dc_of[i] = topology ? -1 : 0;
        for (size_t d = 0; topology && d < how->dc_count; d++) {
            if (strcmp(how->dcs[d].dc, node->dc) == 0)
                w->dc_of[i] = (int32_t)d;
        }
        w->rack_of[i] = -1;
        if (w->dc_of[i] < 0 || !node->token_count)
            continue;
        for (size_t k = 0; topology && k < i && w->rack_of[i] < 0; k++) {
            if (w->rack_of[k] >= 0 && w->dc_of[k] == w->dc_of[i] &&
                strcmp(r->nodes[k].rack, node->rack) == 0)
                w->rack_of[i] = w->rack_of[k];
        }
        struct walk_dc *dc = &w->dcs[w->dc_of[i]];
        dc->nodes++;
        if (w->rack_of[i] < 0) {
            w->rack_of[i] = racks++;
            dc->racks++;
        }
    }
}

static void walk_fini(struct walk *w)
{
    free(w->dc_of);
    free(w->rack_of);
    free(w->node_met);
    free(w->rack_met);
    free(w->dcs);
}

/*
 * Replicas of the range that ends at token number `from`, into `out`; yields their number.
 * NetworkTopologyStrategy: a data centre takes the next node of a rack not met before; nodes of
 * racks already met only as far as there are more replicas than racks.
 */
static uint32_t walk_ring(struct walk *w, size_t from, int32_t *out)
{
    const struct ring *r = w->ring;
    int wanted = 0;
    uint32_t n = 0;

    w->number++;
    for (size_t d = 0; d < w->dc_count; d++) {
        struct walk_dc *dc = &w->dcs[d];
        dc->left = dc->factor < dc->nodes ? dc->factor : dc->nodes;
        dc->repeats_left = dc->factor > dc->racks ? dc->factor - dc->racks : 0;
        wanted += dc->left;
    }
    for (size_t i = 0; i < r->token_count && wanted; i++) {
        int32_t node =
            r->tokens[from + i < r->token_count ? from + i : from + i - r->token_count].node;
        if (w->dc_of[node] < 0 || w->node_met[node] == w->number)
            continue;
        struct walk_dc *dc = &w->dcs[w->dc_of[node]];
        int32_t rack = w->rack_of[node];
        if (!dc->left)
            continue;
        if (w->rack_met[rack] == w->number) {
            if (!dc->repeats_left)
                continue;
            dc->repeats_left--;
        }
        w->rack_met[rack] = w->number;
        w->node_met[node] = w->number;
        /* The first ones are full replicas, the last ones transient. */
        int all = dc->factor < dc->nodes ? dc->factor : dc->nodes;
        int full = dc->factor - dc->transient < all ? dc->factor - dc->transient : all;
        if (all - dc->left < full)
            out[n++] = node;
        dc->left--;
        wanted--;
    }
    return n;
}

/* Appends (start, end] unless it is empty or only prolongs its neighbour. */
static void map_add(struct ring_map *m, size_t *pool_used, int64_t start, int64_t end,
                    const int32_t *replicas, uint32_t count)
{
    if (start == end)
        return;
    if (m->count && m->ranges[m->count - 1].replica_count == count &&
        (!count || memcmp(m->pool + *pool_used - count, replicas, count * sizeof *replicas) == 0)) {
        m->ranges[m->count - 1].end = end;
        return;
    }
    if (count)
        memcpy(m->pool + *pool_used, replicas, count * sizeof *replicas);
    *pool_used += count;
    m->ranges[m->count++] = (struct ring_range){.start = start, .end = end, .replica_count = count};
}

struct ring_map *ring_map_new(const struct ring *r, const struct replication *how)
{
    struct ring_map *m = xalloc(sizeof *m);
    size_t used = 0;
    bool known =
        r->token_count && (how->kind == REPLICATION_SIMPLE || how->kind == REPLICATION_TOPOLOGY ||
                           how->kind == REPLICATION_EVERYWHERE);

    m->ranges = xalloc((r->token_count + 2) * sizeof *m->ranges);
    if (!known) {
        map_add(m, &used, INT64_MIN, INT64_MAX, NULL, 0);
        return m;
    }
    struct walk w;
    walk_init(&w, r, how);
    size_t most = 0; /* replicas of a range */
    for (size_t d = 0; d < w.dc_count; d++)
        most += (size_t)(w.dcs[d].factor < w.dcs[d].nodes ? w.dcs[d].factor : w.dcs[d].nodes);
    m->pool = xalloc(((r->token_count + 2) * most + 1) * sizeof *m->pool);
    int32_t *first = xalloc((most + 1) * sizeof *first);
    int32_t *replicas = xalloc((most + 1) * sizeof *replicas);

    uint32_t first_count = walk_ring(&w, 0, first);
    int64_t start = INT64_MIN;
    for (size_t i = 0; i < r->token_count; i++) {
        uint32_t count = walk_ring(&w, i, replicas);
        map_add(m, &used, start, r->tokens[i].token, replicas, count);
        start = r->tokens[i].token;
    }
    /* What lies behind the last token belongs to the first. */
    map_add(m, &used, start, INT64_MAX, first, first_count);
    free(first);
    free(replicas);
    walk_fini(&w);

    used = 0;
    for (size_t i = 0; i < m->count; i++) {
        m->ranges[i].replicas = m->pool + used;
        used += m->ranges[i].replica_count;
    }
    return m;
}

void ring_map_free(struct ring_map *m)
{
    if (!m)
        return;
    free(m->ranges);
    free(m->pool);
    free(m);
}

/* Index of the range that holds the token; a range's end belongs to it. */
static size_t map_index(const struct ring_map *m, int64_t token)
{
    size_t low = 0;
    size_t high = m->count - 1;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (m->ranges[middle].end >= token)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

const struct ring_range *ring_map_find(const struct ring_map *m, int64_t token)
{
    return &m->ranges[map_index(m, token)];
}

/* ---- splitting --------------------------------------------------------------------------------
 */

static uint64_t width_of(int64_t start, int64_t end)
{
    return (uint64_t)end - (uint64_t)start;
}

/* Estimates as disjoint pieces in token order, with running sums in front of each. */
struct density {
    struct density_piece {
        int64_t start, end;
        double rows, bytes;               /* of the piece */
        double rows_before, bytes_before; /* of all pieces to the left */
        double width_before;
    } *pieces;
    size_t count;
    double rows_per_token, bytes_per_token; /* on average, for where nothing is known */
};

static int by_start(const void *a, const void *b)
{
    const struct density_piece *x = a;
    const struct density_piece *y = b;

    return (x->start > y->start) - (x->start < y->start);
}

static void density_put(struct density *d, int64_t start, int64_t end, double rows, double bytes)
{
    if (start < end)
        d->pieces[d->count++] =
            (struct density_piece){.start = start, .end = end, .rows = rows, .bytes = bytes};
}

static void density_init(struct density *d, const struct ring_split *how)
{
    *d = (struct density){.pieces = xalloc((how->estimate_count * 2 + 1) * sizeof *d->pieces)};
    for (size_t i = 0; i < how->estimate_count; i++) {
        const struct ring_estimate *e = &how->estimates[i];
        if (e->partitions < 0 || e->mean_partition_bytes < 0)
            continue;
        double rows = (double)e->partitions;
        double bytes = rows * (double)e->mean_partition_bytes;
        if (e->start < e->end) {
            density_put(d, e->start, e->end, rows, bytes);
            continue;
        }
        /* Round the end of the ring: two pieces. */
        double tail = (double)width_of(e->start, INT64_MAX);
        double head = (double)width_of(INT64_MIN, e->end);
        double share = tail + head > 0 ? tail / (tail + head) : 0;
        density_put(d, e->start, INT64_MAX, rows * share, bytes * share);
        density_put(d, INT64_MIN, e->end, rows * (1 - share), bytes * (1 - share));
    }
    qsort(d->pieces, d->count, sizeof *d->pieces, by_start);

    double rows = 0;
    double bytes = 0;
    double width = 0;
    size_t kept = 0;
    for (size_t i = 0; i < d->count; i++) {
        struct density_piece p = d->pieces[i];
        if (kept && p.start < d->pieces[kept - 1].end) { /* told twice: the first counts */
            int64_t from = d->pieces[kept - 1].end;
            if (from >= p.end)
                continue;
            double share = (double)width_of(from, p.end) / (double)width_of(p.start, p.end);
            p.rows *= share;
            p.bytes *= share;
            p.start = from;
        }
        p.rows_before = rows;
        p.bytes_before = bytes;
        p.width_before = width;
        rows += p.rows;
        bytes += p.bytes;
        width += (double)width_of(p.start, p.end);
        d->pieces[kept++] = p;
    }
    d->count = kept;
    d->rows_per_token = width > 0 ? rows / width : 0;
    d->bytes_per_token = width > 0 ? bytes / width : 0;
}

/* Sums over (INT64_MIN, token], known and supposed. */
static void density_upto(const struct density *d, int64_t token, double *rows, double *bytes)
{
    size_t low = 0;
    size_t high = d->count;
    double known = 0; /* width */

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (d->pieces[middle].start < token)
            low = middle + 1;
        else
            high = middle;
    }
    *rows = 0;
    *bytes = 0;
    if (low) {
        const struct density_piece *p = &d->pieces[low - 1];
        double whole = (double)width_of(p->start, p->end);
        double part = token < p->end ? (double)width_of(p->start, token) : whole;
        *rows = p->rows_before + p->rows * (part / whole);
        *bytes = p->bytes_before + p->bytes * (part / whole);
        known = p->width_before + part;
    }
    double unknown = (double)width_of(INT64_MIN, token) - known;
    if (unknown > 0) {
        *rows += unknown * d->rows_per_token;
        *bytes += unknown * d->bytes_per_token;
    }
}

static void density_of(const struct density *d, int64_t start, int64_t end, double *rows,
                       double *bytes)
{
    double rows_before;
    double bytes_before;

    density_upto(d, start, &rows_before, &bytes_before);
    density_upto(d, end, rows, bytes);
    *rows = *rows > rows_before ? *rows - rows_before : 0;
    *bytes = *bytes > bytes_before ? *bytes - bytes_before : 0;
}

/* A part of the wanted intervals inside one range of the map. */
struct span {
    int64_t start, end;
    int32_t node;
    double bytes;
    size_t pieces;
};

static int32_t first_local(const struct ring *r, const struct ring_range *range, const char *dc)
{
    for (uint32_t i = 0; dc && i < range->replica_count; i++) {
        if (strcmp(r->nodes[range->replicas[i]].dc, dc) == 0)
            return range->replicas[i];
    }
    return range->replica_count ? range->replicas[0] : -1;
}

static struct span *spans_new(const struct ring *r, const struct ring_map *m,
                              const struct ring_split *how, const struct density *d,
                              const struct token_range *of, size_t of_count, size_t *count)
{
    struct span *spans = xalloc((m->count + of_count + 1) * sizeof *spans);
    size_t n = 0;

    for (size_t i = 0; i < of_count; i++) {
        ensure(of[i].start < of[i].end && (!i || of[i - 1].end <= of[i].start));
        /* The first token of the interval is start + 1. */
        for (size_t k = map_index(m, of[i].start + 1); k < m->count; k++) {
            const struct ring_range *range = &m->ranges[k];
            int64_t start = range->start > of[i].start ? range->start : of[i].start;
            int64_t end = range->end < of[i].end ? range->end : of[i].end;
            if (start >= end)
                break;
            double rows;
            spans[n] = (struct span){
                .start = start, .end = end, .node = first_local(r, range, how->local_dc)};
            density_of(d, start, end, &rows, &spans[n].bytes);
            n++;
        }
    }
    *count = n;
    return spans;
}

/* How often each span is cut; yields the sum. */
static size_t spans_count_pieces(struct span *spans, size_t count, const struct ring_split *how)
{
    const double tiny_bytes = 64 << 10;
    const double most_pieces = 1 << 24;
    double width = 0;
    double bytes = 0;
    size_t sum = 0;

    for (size_t i = 0; i < count; i++) {
        width += (double)width_of(spans[i].start, spans[i].end);
        bytes += spans[i].bytes;
    }
    /* A piece of a table that is known to be small should hold more than a few rows. */
    double at_least = (double)how->at_least;
    if (bytes > 0 && at_least > bytes / tiny_bytes)
        at_least = bytes / tiny_bytes;
    for (size_t i = 0; i < count; i++) {
        double span_width = (double)width_of(spans[i].start, spans[i].end);
        double by_size = how->target_bytes ? spans[i].bytes / (double)how->target_bytes : 0;
        double by_share = at_least * (span_width / width);
        double pieces = by_size > by_share ? by_size : by_share;
        if (pieces > most_pieces)
            pieces = most_pieces;
        if (pieces > span_width)
            pieces = span_width;
        spans[i].pieces = (size_t)pieces;
        if ((double)spans[i].pieces < pieces || !spans[i].pieces)
            spans[i].pieces++;
        sum += spans[i].pieces;
    }
    return sum;
}

static uint64_t whole_number(double v)
{
    return v < 0x1p63 ? (uint64_t)v : (uint64_t)1 << 63;
}

/* Appends (start, end], cut in halves where more than the target is supposed to lie. */
static void ranges_add(struct cql_ranges *out, size_t *cap, const struct density *d,
                       uint64_t target_bytes, int32_t node, int64_t start, int64_t end)
{
    double rows;
    double bytes;
    uint64_t width = width_of(start, end);

    density_of(d, start, end, &rows, &bytes);
    if (target_bytes && bytes > (double)target_bytes && width > 1) {
        int64_t middle = (int64_t)((uint64_t)start + width / 2);
        ranges_add(out, cap, d, target_bytes, node, start, middle);
        ranges_add(out, cap, d, target_bytes, node, middle, end);
        return;
    }
    if (out->count == *cap) {
        *cap = *cap * 2 + 16;
        out->list = xrealloc(out->list, *cap * sizeof *out->list);
    }
    out->list[out->count++] = (struct token_range){
        .start = start,
        .end = end,
        .node = node,
        .estimated_bytes = whole_number(bytes),
        .estimated_rows = whole_number(rows),
    };
}

/* Nodes take turns: the first range of each, the second of each, ... */
static void ranges_take_turns(struct token_range *list, size_t count, size_t node_count)
{
    struct token_range *sorted = xalloc((count + 1) * sizeof *sorted);
    size_t *next = xalloc((count + 1) * sizeof *next);      /* 1 + index; 0: end */
    size_t *head = xalloc((node_count + 1) * sizeof *head); /* by node + 1 */
    size_t *tail = xalloc((node_count + 1) * sizeof *tail);
    size_t n = 0;

    for (size_t i = 0; i < count; i++) {
        size_t node = (size_t)(list[i].node + 1);
        if (tail[node])
            next[tail[node] - 1] = i + 1;
        else
            head[node] = i + 1;
        tail[node] = i + 1;
    }
    while (n < count) {
        for (size_t node = 0; node <= node_count; node++) {
            if (!head[node])
                continue;
            sorted[n++] = list[head[node] - 1];
            head[node] = next[head[node] - 1];
        }
    }
    memcpy(list, sorted, count * sizeof *list);
    free(sorted);
    free(next);
    free(head);
    free(tail);
}

void ring_split(const struct ring *r, const struct ring_map *m, const struct ring_split *how,
                const struct token_range *of, size_t of_count, struct cql_ranges *out)
{
    struct density d;
    size_t span_count;
    double rows;
    double bytes;

    density_init(&d, how);
    struct span *spans = spans_new(r, m, how, &d, of, of_count, &span_count);
    /* Estimates are what a server says: they can't make us cut a scan beyond all measure. */
    struct ring_split sane = *how;
    double most = 0;
    for (size_t i = 0; i < span_count; i++)
        most += spans[i].bytes / RANGES_MAX;
    if (sane.target_bytes && most > (double)sane.target_bytes)
        sane.target_bytes = most < 0x1p63 ? (uint64_t)most : 0;
    size_t count = spans_count_pieces(spans, span_count, &sane);

    *out = (struct cql_ranges){.list = xalloc((count + 1) * sizeof *out->list)};
    size_t cap = count;
    for (size_t i = 0; i < span_count; i++) {
        const struct span *s = &spans[i];
        uint64_t width = width_of(s->start, s->end);
        int64_t start = s->start;
        for (size_t k = 1; k <= s->pieces; k++) {
            uint64_t at = (uint64_t)((unsigned __int128)width * k / s->pieces);
            int64_t end = (int64_t)((uint64_t)s->start + at);
            ranges_add(out, &cap, &d, sane.target_bytes, s->node, start, end);
            start = end;
        }
    }
    ranges_take_turns(out->list, out->count, r->node_count);
    density_upto(&d, INT64_MAX, &rows, &bytes);
    out->estimated_rows = whole_number(rows);
    out->mean_partition_bytes = rows > 0 ? whole_number(bytes / rows) : 0;
    free(spans);
    free(d.pieces);
}

void cql_ranges_fini(struct cql_ranges *r)
{
    free(r->list);
    *r = (struct cql_ranges){0};
}
