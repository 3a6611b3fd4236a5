/*
 * model/type.h - the type of a column, as a tree.
 *
 * Values of enum type_kind are CQL's own option ids (native_protocol_v5.spec, section 4.2.5.2),
 * with numbers of ours above them for what the wire calls "custom". Types are immutable and live in
 * the arena of whoever parsed them. Threads: shared freely.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

enum type_kind {
    TYPE_CUSTOM = 0x00, /* unknown to us: bytes; `name` is the Java class text */
    TYPE_ASCII = 0x01,
    TYPE_BIGINT = 0x02,
    TYPE_BLOB = 0x03,
    TYPE_BOOLEAN = 0x04,
    TYPE_COUNTER = 0x05,
    TYPE_DECIMAL = 0x06,
    TYPE_DOUBLE = 0x07,
    TYPE_FLOAT = 0x08,
    TYPE_INT = 0x09,
    TYPE_TIMESTAMP = 0x0b,
    TYPE_UUID = 0x0c,
    TYPE_TEXT = 0x0d,
    TYPE_VARINT = 0x0e,
    TYPE_TIMEUUID = 0x0f,
    TYPE_INET = 0x10,
    TYPE_DATE = 0x11,
    TYPE_TIME = 0x12,
    TYPE_SMALLINT = 0x13,
    TYPE_TINYINT = 0x14,
    TYPE_DURATION = 0x15,
    TYPE_LIST = 0x20, /* args[0] */
    TYPE_MAP = 0x21,  /* args[0] key, args[1] value */
    TYPE_SET = 0x22,  /* args[0] */
    TYPE_UDT = 0x30,  /* args, field_names, name */
    TYPE_TUPLE = 0x31,
    TYPE_VECTOR = 0x100, /* args[0], dimension */
    TYPE_EMPTY = 0x101,  /* EmptyType of compact tables: never a value */
};

struct type {
    enum type_kind kind;
    uint16_t arg_count;
    uint32_t dimension;              /* TYPE_VECTOR: number of elements */
    const struct type *const *args;  /* arg_count of them */
    const struct slice *field_names; /* TYPE_UDT: arg_count of them */
    struct slice name;               /* TYPE_UDT: its name; TYPE_CUSTOM: the class text */
};

/* Bytes of every value of the type, as vectors store it; 0: variable (protocols: vector elements).
 */
uint32_t type_fixed_bytes(const struct type *t);
/* Same shape, names of fields included. */
bool type_equal(const struct type *a, const struct type *b);
/* CQL text, such as map<text, frozen<list<int>>> (without "frozen", which the wire does not show).
 */
void type_add_text(struct buf *b, const struct type *t);
/* The one type of a simple kind. */
const struct type *type_simple(enum type_kind kind);
