/*
 * mapping/yaml.h - a YAML file as a tree with places, for the readers of mapping files.
 *
 * For mapping/file.c, vocabulary.c and yaml.c alone. Every function that returns false has set err
 * (ERR_USER, "FILE:LINE:COLUMN: ..."). What is taken lives in the mapping's arena. Threads: one
 * owner.
 */
#pragma once
#include <yaml.h>

#include "mapping/file.h"

/* One YAML file as a tree. */
struct yaml_tree {
    const char *path; /* of the mapping's arena */
    yaml_document_t doc;
};

/* While a mapping is read. */
struct mapping_reader {
    struct mapping *m;
    struct yaml_tree *tree; /* the file at hand */
    struct pending_rename *renames;
    unsigned depth; /* of steps within steps */
    /* Names of columns: the last dictionary said, and the pairs beside it. */
    const char *dictionary; /* path; NULL: none */
    const char *section;
    struct place dictionary_at;
    struct mapping_pairs own;
};

/* Names of another table: completed when the dictionary is known. */
struct pending_rename {
    struct pending_rename *next;
    const char *table;
    struct mapping_pairs own;
    struct mapping_pairs *out;
};

bool yaml_tree_load(struct yaml_tree *t, struct slice text, const char *path, struct err *err);
void yaml_tree_fini(struct yaml_tree *t);
bool yaml_file_read(const char *path, struct buf *out, struct err *err);

yaml_node_t *yaml_node(struct yaml_tree *t, int id);
const char *yaml_text(const yaml_node_t *n); /* of a scalar */
bool yaml_is_plain(const yaml_node_t *n, const char *word);
size_t yaml_pair_count(const yaml_node_t *n);
struct place yaml_place(const struct yaml_tree *t, const yaml_node_t *n);

/* The members of a map; iterates `pair`. */
#define each_pair(pair, n)                                                                         \
    for (yaml_node_pair_t *pair = (n)->data.mapping.pairs.start;                                   \
         pair < (n)->data.mapping.pairs.top; pair++)
#define each_item(item, n)                                                                         \
    for (yaml_node_item_t *item = (n)->data.sequence.items.start;                                  \
         item < (n)->data.sequence.items.top; item++)

/* Always false. */
bool yaml_fail(const struct yaml_tree *t, const yaml_node_t *n, struct err *err, const char *fmt,
               ...) __attribute__((format(printf, 4, 5)));
bool yaml_too_large(const struct yaml_tree *t, const yaml_node_t *n, struct err *err);
/* The word is one of `words`; else says what it is instead. */
bool yaml_check_word(const struct yaml_tree *t, const yaml_node_t *n, const char *what,
                     const char *word, const char *const *words, struct err *err);
/* A map with text keys, none of them twice. */
bool yaml_want_map(struct yaml_tree *t, const yaml_node_t *n, const char *what, struct err *err);
bool yaml_want_text(struct yaml_tree *t, const yaml_node_t *n, const char *what, const char **out,
                    struct err *err);

void *reader_take(struct mapping_reader *r, size_t bytes); /* zeroed */
bool reader_name(struct mapping_reader *r, const yaml_node_t *n, const char *what,
                 struct mapping_name *out, struct err *err);
/* One name or a list of them, none twice. */
bool reader_names(struct mapping_reader *r, const yaml_node_t *n, const char *what,
                  struct mapping_names *out, struct err *err);
/* A map of names to names; `skip` (may be NULL) is left out. */
bool reader_pairs(struct mapping_reader *r, const yaml_node_t *n, const char *from, const char *to,
                  const char *skip, struct mapping_pairs *out, struct err *err);
/* Any value, as JSON text. */
bool reader_const(struct mapping_reader *r, const yaml_node_t *n, const char **out,
                  struct err *err);
bool reader_conditions(struct mapping_reader *r, const yaml_node_t *n,
                       struct mapping_conditions *out, struct err *err);

/* vocabulary.c */
bool reader_steps(struct mapping_reader *r, const yaml_node_t *n, struct mapping_steps *out,
                  struct err *err);
/* The body of children, first, only and rows. */
bool reader_rows(struct mapping_reader *r, const yaml_node_t *n, const char *what,
                 const char *const *words, struct mapping_name *field, struct mapping_rows *out,
                 struct err *err);
