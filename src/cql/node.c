#include "cql/node.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"

enum { AVOID_FIRST_MS = 1000, AVOID_MOST_MS = 30000, DOWN_MOST_MS = 10 * 60 * 1000 };

void node_book_init(struct node_book *b)
{
    pthread_mutex_init(&b->lock, NULL);
    b->first = NULL;
}

void node_book_fini(struct node_book *b)
{
    for (struct node *n = b->first; n;) {
        struct node *next = n->next;
        free(n->dc);
        free(n->rack);
        free(n->host);
        free(n->advertised);
        free(n->address);
        free(n);
        n = next;
    }
    pthread_mutex_destroy(&b->lock);
}

void node_failed(struct node *n, struct clock *clock)
{
    int failures = atomic_fetch_add(&n->failures, 1);
    int64_t wait = AVOID_FIRST_MS << (failures < 5 ? failures : 5);

    if (wait > AVOID_MOST_MS)
        wait = AVOID_MOST_MS;
    atomic_store(&n->avoid_until_ms, clock_mono_ms(clock) + wait);
}

void node_is_down(struct node *n, struct clock *clock)
{
    atomic_store(&n->down_until_ms, clock_mono_ms(clock) + DOWN_MOST_MS);
}

void node_worked(struct node *n)
{
    if (atomic_load_explicit(&n->failures, memory_order_relaxed) == 0 &&
        atomic_load_explicit(&n->down_until_ms, memory_order_relaxed) == 0)
        return;
    atomic_store(&n->failures, 0);
    atomic_store(&n->avoid_until_ms, 0);
    atomic_store(&n->down_until_ms, 0);
}

bool node_avoided(const struct node *n, struct clock *clock)
{
    int64_t now = clock_mono_ms(clock);

    return atomic_load(&n->down_until_ms) > now || atomic_load(&n->avoid_until_ms) > now;
}

static bool split_port(const char *text, char *host, size_t size, long *port)
{
    const char *colon = strrchr(text, ':');
    const char *end = text + strlen(text);
    int64_t n;

    *port = -1;
    if (colon && (text[0] == '[' ? colon[-1] == ']' : strchr(text, ':') == colon)) {
        if (!text_to_i64(slice_str(colon + 1), 1, 65535, &n))
            return false;
        *port = (long)n;
        end = colon;
    }
    if (text[0] == '[' && end > text + 1 && end[-1] == ']') {
        text++;
        end--;
    }
    if (end == text || (size_t)(end - text) >= size)
        return false;
    memcpy(host, text, (size_t)(end - text));
    host[end - text] = '\0';
    return true;
}

bool address_split(const char *text, char *host, size_t size, uint16_t *port)
{
    long p;

    if (!split_port(text, host, size, &p))
        return false;
    if (p > 0)
        *port = (uint16_t)p;
    return true;
}

void address_map(const char *const *map, char *host, size_t size, uint16_t *port)
{
    for (; map && *map; map++) {
        char from[256];
        char to[256];
        char left[256];
        long from_port;
        long to_port;
        const char *equals = strchr(*map, '=');

        if (!equals || (size_t)(equals - *map) >= sizeof left)
            continue;
        snprintf(left, sizeof left, "%.*s", (int)(equals - *map), *map);
        if (!split_port(left, from, sizeof from, &from_port) ||
            !split_port(equals + 1, to, sizeof to, &to_port))
            continue;
        if (strcmp(from, host) != 0 || (from_port > 0 && from_port != *port))
            continue;
        snprintf(host, size, "%s", to);
        if (to_port > 0)
            *port = (uint16_t)to_port;
        return;
    }
}

char *address_text(const char *host, unsigned port)
{
    return strchr(host, ':') ? xsprintf("[%s]:%u", host, port) : xsprintf("%s:%u", host, port);
}

static char *slice_dup(struct slice s)
{
    return xstrndup(s.p ? (const char *)s.p : "", s.n);
}

static bool same_node(const struct node *n, const struct found_node *f)
{
    return memcmp(n->host_id, f->host_id.p, 16) == 0 && slice_is(f->dc, n->dc) &&
           slice_is(f->rack, n->rack) && strcmp(n->advertised, f->advertised) == 0;
}

struct node *node_book_put(struct node_book *b, const struct found_node *f)
{
    struct node *n;

    pthread_mutex_lock(&b->lock);
    for (n = b->first; n; n = n->next) {
        if (same_node(n, f) &&
            (!f->contact || (strcmp(n->host, f->host) == 0 && n->port == f->port)) &&
            (n->contact || f->contact || (strcmp(n->host, f->host) == 0 && n->port == f->port)))
            break;
    }
    if (!n) {
        n = xalloc(sizeof *n);
        memcpy(n->host_id, f->host_id.p, 16);
        n->dc = slice_dup(f->dc);
        n->rack = slice_dup(f->rack);
        n->host = xstrdup(f->host);
        n->port = f->port;
        n->advertised = xstrdup(f->advertised);
        n->address = address_text(f->host, f->port);
        n->contact = f->contact;
        n->next = b->first;
        b->first = n;
    }
    pthread_mutex_unlock(&b->lock);
    return n;
}
