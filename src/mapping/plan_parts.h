/*
 * mapping/plan_parts.h - what the files of a plan share; for them alone.
 *
 *   plan.c    a mapping against a table: what is read, ids, the loop over a row's fields
 *   steps.c   steps compiled: for each row a program of operations on slots
 *   make.c    programs run: values of the slots, keys of other tables
 *
 * A field whose value is the cell's is written from the row's bytes, however often it was copied or
 * renamed. What a step computes is a slot: a JSON text, made once per row. Threads: see plan.h.
 */
#pragma once
#include "base/arena.h"
#include "mapping/fetched.h"
#include "mapping/plan.h"
#include "mapping/timeform.h"

enum source { FROM_COLUMN, FROM_JSON, FROM_ID, FROM_SLOT };

/* What is known of a value before there is one; null may always be. */
enum shape {
    SHAPE_ANY,
    SHAPE_NULL,
    SHAPE_BOOL,
    SHAPE_NUMBER,
    SHAPE_STRING,
    SHAPE_ARRAY,
    SHAPE_OBJECT
};

/* One field of the document; or, in an operation, what it reads. */
struct field {
    const char *name; /* borrowed from mapping or schema */
    enum source source;
    struct select from; /* FROM_COLUMN */
    const char *json;   /* FROM_JSON */
    uint16_t slot;      /* FROM_SLOT */
    uint16_t cell;      /* FROM_COLUMN: known at the end */
    uint16_t level;     /* FROM_SLOT: rounds after which it is there */
    uint32_t step;      /* that wrote it; 0: the row */
    enum shape shape;
    const struct type *type;     /* FROM_COLUMN: of the cell */
    const struct timeform *time; /* FROM_COLUMN; NULL: the default form */
    const char *label;           /* of a child's: ,"name": */
    bool dropped;                /* a name only: never written, never preserved by `all` */
};

/* Fields while steps are applied, and at the end of them. */
struct fields {
    struct field *list;
    size_t count, cap;
};

struct field *fields_find(const struct fields *f, const char *name);
struct field *fields_put(struct fields *f, const char *name);
/* "; did you mean ..." for a field that is not there, or "". */
void fields_near(const struct fields *f, const char *name, char *out, size_t size);

/* A piece of a template: text, or (text NULL) the operation's ref of this number. */
struct piece {
    const char *text;
    size_t len;
    uint16_t ref;
};

struct template
{
    struct piece *list;
    size_t count;
};

/* A bound column of a read. */
struct key_part {
    struct template text;
    const struct type *type;
    const char *column;
};

struct condition {
    struct field field;
    struct slice *values; /* JSON texts */
    size_t count;
};

struct program;

/* One step that computes something. */
struct op {
    const struct mapping_step *step;
    uint32_t number; /* of the step in its list, from 1 */
    uint16_t slot;   /* that it writes; STEP_BIT_FLAGS: none */
    uint16_t level;  /* rounds of reads after which it can be done */
    bool for_keys;   /* a key needs what it makes */
    struct field *refs;
    uint16_t ref_count;

    struct key_part *key; /* of a read; else NULL */
    uint16_t key_count;
    uint16_t read, read_level; /* its number; the round that it is of */
    const struct type *take;   /* of the cell that a lookup takes: the first of its row */
    uint16_t take_cell;
    struct program *each; /* children, first, only */
    bool is_document;     /* its rows are those of the partition: without one there is no document,
                             where the mapping has conditions */
};

/* What is made of one row: the root's, or a child's. */
struct program {
    const struct schema *schema;
    uint16_t base; /* rounds after which its rows are there */
    struct fields fields;
    struct condition *where;
    size_t where_count;
    struct op *ops;
    size_t op_count, op_cap;
    uint16_t slot_count;
    uint16_t levels; /* rounds after which all of it can be done */
    bool has_reads;
    bool has_flags; /* bit_flags so far: fields whose names are not known before */
    uint16_t flags_level;

    /* Of a child. */
    struct select *selects;
    uint16_t select_count;
    int16_t clustering; /* cell of a clustering column: null in a partition without rows; -1 */
    bool omit_nulls;
};

/* The parts of a plan that steps have. */
struct steps {
    const struct mapping *mapping;
    struct arena mem; /* what is compiled */
    const struct plan_tables *tables;
    struct plan_read *reads;
    uint16_t read_count;
    uint16_t levels;
    struct timeform **forms;
    size_t form_count;
    struct timeform *epoch; /* of all timestamps without a form; NULL: the default */
    struct program root;
};

void steps_init(struct steps *s, const struct mapping *m, const struct plan_tables *tables);
void steps_fini(struct steps *s);

/* The form of values of a column: shape, type, time. */
void steps_column(const struct steps *s, const struct schema *schema, struct field *f);
/* Conditions on the row, and forms of its timestamps: before any step. */
bool steps_start(struct steps *s, struct program *p, const struct mapping_conditions *where,
                 struct err *err);
bool steps_times(struct steps *s, struct program *p, struct err *err);
/* The rows of the partition that a document is, as a field: before all other steps. */
bool steps_rows(struct steps *s, struct program *p, const struct schema *table, struct err *err);
/* All of a list, in order. */
bool steps_compile(struct steps *s, struct program *p, const struct mapping_steps *list,
                   struct err *err);
/* After that: which operations keys wait for. */
void steps_finish(struct program *p);
/* NULL: Elasticsearch takes it as the name of a field; else what it has. */
const char *plan_refused_name(const char *name);
bool mapping_names_has(const struct mapping_names *names, struct slice name);
/* Every column that conditions and operations read. */
void steps_each_column(struct program *p, void (*visit)(void *ctx, struct field *f), void *ctx);

/* ---- of one document */

struct extra {
    struct slice name;
    uint32_t step;
    struct extra *next;
};

/* What the programs of one document share. */
struct making {
    const struct plan *plan;
    const struct steps *steps;
    struct fetched *fetched;
    struct plan_work *work;
    struct slice id;
    struct json_counts *counts;
    int level; /* of plan_need(): rounds that are done; -1: all are, the document is made */
    struct err *err;
};

struct making_row {
    struct making *m;
    const struct program *program;
    const struct slice *cells;
    struct slice *slots; /* JSON texts; null: no such field */
    struct extra *extras;
};

bool make_begin(struct making_row *r, struct making *m, const struct program *p,
                const struct slice *cells);
/* False: m->err, and m->work->reason. */
bool make_run(struct making_row *r);
/* Keys of the round m->level. False: no room for them. */
bool make_need(struct making_row *r);
bool make_holds(struct making_row *r, bool *holds);
/* The row's flags say something else of the field. */
bool make_overridden(const struct making_row *r, const struct field *f);
/* The extras that are not fields, each with a comma in front. */
void make_add_extras(const struct making_row *r, const struct fields *fields, struct buf *out);
/* null and empty, as texts */
bool json_is_null(struct slice json);
bool json_is_empty(struct slice json);
