/*
 * tools/lint/analyzer.h - what clang-tidy can't see in one file: these two are always false.
 *
 * Put in front of every file but base/err.c by test/lib/run.py.
 */
#pragma once
#include "base/err.h"

#define err_set(...) ((void)err_set(__VA_ARGS__), false)
#define err_wrap(...) ((void)err_wrap(__VA_ARGS__), false)
