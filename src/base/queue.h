/*
 * base/queue.h - a bounded queue of pointers between threads.
 *
 * Threads: any number on both sides. The queue owns nothing it holds.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct queue;

struct queue *queue_new(size_t max_items);
void queue_free(struct queue *q);
/* Waits while full; false when the queue was closed (the item stays the caller's). */
bool queue_push(struct queue *q, void *item);
/* Does not wait: false when full or closed. */
bool queue_try_push(struct queue *q, void *item);
/* Waits while empty; NULL when closed and empty, or when timeout_ms (>= 0) have passed; -1 waits
 * for ever. */
void *queue_pop(struct queue *q, int timeout_ms);
/* No more pushes; poppers drain what is there. */
void queue_close(struct queue *q);
size_t queue_len(struct queue *q);
