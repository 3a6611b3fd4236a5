#include "base/text.h"
#include "cql/cql.h"

static const struct {
    const char *name;
    enum cql_consistency value;
} consistencies[] = {
    {"ONE", CQL_ONE},
    {"TWO", CQL_TWO},
    {"THREE", CQL_THREE},
    {"QUORUM", CQL_QUORUM},
    {"ALL", CQL_ALL},
    {"LOCAL_QUORUM", CQL_LOCAL_QUORUM},
    {"LOCAL_ONE", CQL_LOCAL_ONE},
};

void cql_options_init(struct cql_options *o)
{
    *o = (struct cql_options){
        .port = 9042,
        .max_protocol = 5,
        .consistency = CQL_LOCAL_QUORUM,
        .connect_timeout_ms = 5000,
        .request_timeout_ms = 12000,
        .max_frame_bytes = 256 << 20,
    };
}

bool cql_consistency_parse(struct slice name, enum cql_consistency *out)
{
    for (size_t i = 0; i < sizeof consistencies / sizeof *consistencies; i++) {
        if (text_same_nocase(name, slice_str(consistencies[i].name))) {
            *out = consistencies[i].value;
            return true;
        }
    }
    return false;
}

const char *cql_consistency_name(enum cql_consistency c)
{
    for (size_t i = 0; i < sizeof consistencies / sizeof *consistencies; i++)
        if (consistencies[i].value == c)
            return consistencies[i].name;
    return "unknown";
}
