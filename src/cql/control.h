/*
 * cql/control.h - the thread that keeps the cluster's topology true.
 *
 * It has a connection of its own, registered for events: a burst of them leads to one reading, a
 * second later. It reads everything again every five minutes, asks for a sign of life when it heard
 * nothing for 30 s, and moves to another node when its own is gone.
 * Threads: start and stop from one. Source: protocols 1.7 (events), 1.4 (keep-alive).
 */
#pragma once
#include "cql/cluster.h"

struct control;

/* NULL with ERR_SYSTEM. */
struct control *control_start(struct cql_cluster *c, struct err *err);
/* Waits for its end; every wait of its is cut short. NULL is fine. */
void control_stop(struct control *t);
