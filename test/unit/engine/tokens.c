/* Tokens for tests that want to choose them: two partitions may share one. */
#include <stdio.h>
#include <stdlib.h>

#include "cql/cql.h"
#include "stores.h"

int64_t number_of(const char *p)
{
    return strtoll(p, NULL, 10);
}

int64_t cql_token(struct slice key)
{
    char text[24];

    snprintf(text, sizeof text, "%.*s", (int)key.n, (const char *)key.p);
    return number_of(text);
}

void cql_partition_key(const struct slice *components, size_t n, struct buf *out)
{
    assert_int_equal(n, 1);
    buf_add_slice(out, components[0]);
}
