#include "cmd/hints.h"

#include <string.h>

/* clang-format off */
static const struct {
    const char *reason; /* ends with *: what begins so */
    const char *hint;
} hints[] = {
    /* the index does not take the document */
    {"mapper_parsing_exception", "the index's mapping does not take a value: change the mapping (new index) or the field, then retry"},
    {"document_parsing_exception", "the index's mapping does not take a value: change the mapping (new index) or the field, then retry"},
    {"strict_dynamic_mapping_exception", "the mapping is strict and lacks the field: add the field to it, or drop it from the documents, then retry"},
    {"illegal_argument_exception", "the index refuses the value (too long, too many fields, out of range): see the text, change mapping or field, then retry"},
    {"version_conflict_engine_exception", "somebody else wrote the document: retry"},
    {"routing_missing_exception", "the index asks for routing: give target.routing in the mapping"},
    {"cluster_block_exception", "the index was blocked for writing: take the block away, then retry"},
    {"es_rejected_execution_exception", "the server was too busy: retry, perhaps with --max-docs-per-s"},
    {"unavailable_shards_exception", "a primary shard was missing: retry when the index is not red"},
    {"process_cluster_event_timeout_exception", "the cluster was too busy to change the mapping: retry"},
    {"document_too_large", "the document is larger than the server or --memory takes: leave columns out, or raise http.max_content_length, then retry"},
    {"bad_document_id", "an _id can't be made (empty, or over 512 bytes): give target.id in the mapping"},
    {"bad_routing", "no routing value can be made of this row: see target.routing in the mapping"},
    /* versions and other writers */
    {"foreign_version", "another tool or a clock far ahead wrote a later version: delete these documents or use a new index; --max-skew when only clocks differ"},
    {"bad_version", "no cell of the row tells when it was written: such rows have no version under write_time"},
    {"contended", "others kept writing the document meanwhile: retry when it is calmer"},
    {"too_old", "reading and writing took too long: retry with fewer --workers"},
    /* the row */
    {"missing", "Cassandra has no such row: drop the failure, or sync the ids with --missing delete"},
    {"brake", "too many rows are missing at once, and the document was left: see that the table is whole, then retry with --reason brake"},
    {"bad_value", "a value can't be decoded or written: look at the row, mend it or leave the column out"},
    {"altered_value", "--strict-values refuses what JSON can't hold (NaN, bytes that are no UTF-8): mend the row, or retry a run without it"},
    {"unread_range", "these rows could not be read (often tombstones): repair or compact the table, then retry reads them"},
    {"read_failed", "Cassandra could not read the row: look at its logs, then retry"},
    /* ids */
    {"bad_id", "is no id of this table: mend it where it comes from, then drop the failure"},
    {"empty_id", "an empty id: mend it where it comes from, then drop the failure"},
    {"unknown_column", "the id names a column that the table has not"},
    {"no_partition_key", "the id does not hold the whole partition key: the row can't be found by it"},
    {"too_many_keys", "the id stands for too many keys: give it in parts"},
    {"too_long", "the id is too long for a call; only its beginning is kept, so that it can't be retried"},
    {"stored_unreadable", "the stored document can't be read to be preserved: delete it, then retry"},
    {"no_source", "the index keeps no _source, so that nothing can be preserved or compared: another index, or another versioning"},
    {"refused", "the call was refused as a whole: see the text, then retry"},
    /* the Sync API */
    {"http_400", "the Sync API does not take these ids: check object type and id form"},
    {"http_401", "the Sync API's key is wrong or missing: give --sync-api-key-file, then retry"},
    {"http_403", "the Sync API's key has no right to do this"},
    {"http_404", "no Sync API at that address: check --endpoint"},
    {"http_413", "the call was too large: a smaller --block-size, then retry"},
    {"http_429", "the server was too busy: a longer --pause, then retry"},
    {"http_4*", "the server does not take the call: see the text"},
    {"http_5*", "the server failed: look at its logs, then retry"},
    {"timeout", "no answer in time: whether it was done is not known; retry does no harm"},
    {"web_page", "a web page answered instead of the Sync API: check --endpoint"},
    {"response_code", "the Sync API answered with an error of its own: see the text"},
    {"not_confirmed", "the server worked, but did not confirm the id: see its logs, then retry"},
    {"server_error", "the server failed for this one: look at its logs, then retry"},
};
/* clang-format on */

static bool matches(const char *pattern, const char *reason)
{
    size_t n = strlen(pattern);

    return pattern[n - 1] == '*' ? strncmp(pattern, reason, n - 1) == 0
                                 : strcmp(pattern, reason) == 0;
}

const char *hint_of(const char *reason)
{
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        if (matches(hints[i].reason, reason))
            return hints[i].hint;
    return "see the text; retry when the cause is gone";
}

bool hint_is_final(const char *reason)
{
    return strcmp(reason, "too_long") == 0;
}
