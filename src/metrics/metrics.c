#include "metrics/metrics.h"

#include <inttypes.h>

enum kind { COUNTER, GAUGE };

static const struct {
    const char *name;
    enum kind kind;
    const char *help;
} table[METRIC_COUNT] = {
#define METRIC(name, kind, help) {"cass2es_" #name, kind, help},
#include "metrics/metrics.def"
#undef METRIC
};

void metrics_write(struct metrics *m, struct buf *out)
{
    for (int i = 0; i < METRIC_COUNT; i++) {
        buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRId64 "\n", table[i].name,
                   table[i].help, table[i].name, table[i].kind == COUNTER ? "counter" : "gauge",
                   table[i].name, metrics_get(m, (enum metric)i));
    }
}
