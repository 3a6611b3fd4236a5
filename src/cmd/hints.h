/*
 * cmd/hints.h - what an operator can do about a failure, by its reason. Pure.
 */
#pragma once
#include <stdbool.h>

/* One sentence; never NULL. */
const char *hint_of(const char *reason);
/* Trying again cannot help: what is in the journal is not the whole key. */
bool hint_is_final(const char *reason);
