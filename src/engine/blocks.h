/*
 * engine/blocks.h - ids packed into blocks, journalled before anybody may send them.
 *
 * Producers (scan workers, the reader of a file) bring ids together with the marks they stand for;
 * one journal transaction holds the full blocks, the block still being filled and the marks. So
 * a killed run neither loses an id nor packs one twice. Consumers take full blocks; a block ends
 * with its verdict. Blocks waiting to be taken are bounded by bytes: producers wait.
 *
 * An id is JSON text, compact: "x" for a key of one column, ["a","b"] for several, {...} as it
 * came.
 *
 * Threads: any number of producers and consumers.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cancel.h"
#include "base/err.h"
#include "base/mem.h"
#include "journal/journal.h"

struct blocks_options {
    struct run *run;
    struct cancel *cancel; /* level 1: nothing more is given out */
    uint32_t block_ids;    /* ids per block */
    size_t block_bytes;    /* ids and the commas between them, at most */
    size_t waiting_bytes;  /* of full blocks not yet taken */
    bool passing; /* of a run that never goes on: blocks are not journalled, and not ended */
};

struct blocks;
struct blocks *blocks_new(const struct blocks_options *o);
void blocks_free(struct blocks *b);
AUTO_DEFINE(blocks);

/* Gives out again what an interrupted run had packed and not ended, cut to today's limits;
 * producers may start after it. */
bool blocks_reload(struct blocks *b, struct err *err);
/*
 * Adds ids in their order; an id equal to the one before it, or already in its block, is dropped
 * and counted ("duplicate"). Counts "ids" too. The tx (with the marks) is committed in any case,
 * also without ids. An id too long for a block is counted as "bad" and written to the failures.
 */
bool blocks_add(struct blocks *b, const struct slice *ids, size_t count, struct tx *tx,
                struct err *err);
/* No more ids: the last block, full or not, is given out; consumers end when all are taken. */
bool blocks_finish(struct blocks *b, struct err *err);
/* Producers failed or were stopped: consumers end at once; what is journalled stays for the next
 * run. */
void blocks_stop(struct blocks *b);

struct block {
    uint64_t no;
    uint32_t ids;
    struct slice body; /* ids with commas between */
};
void block_free(struct block *b);
AUTO_DEFINE(block);
/* Cuts the next id off the front of a block's body (compact JSON texts); false at the end. */
bool block_next_id(struct slice *rest, struct slice *id);
/* Waits for a full block; NULL when there will be none. The caller ends it with tx_block_end() in
 * the tx of its verdict, or by run_end_block(). */
struct block *blocks_take(struct blocks *b);
/* Ids in blocks so far: those reloaded and those added, less what was dropped. For the progress. */
uint64_t blocks_packed(struct blocks *b);
