/*
 * mapping/fit.h - will an index take the documents? Its mapping against columns, and against whole
 * documents.
 *
 * What can be told without writing: fields that a strict mapping lacks, objects where values are
 * wanted, numbers out of range, texts that are no date. What can't be told (formats, analysers,
 * plug-ins) is left out, never guessed. Pure. Threads: any. Source: protocols section 4.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "mapping/file.h"
#include "model/schema.h"

enum fit_grade {
    FIT_WARN, /* some values may be refused, or are not searchable */
    FIT_FAIL, /* would be refused */
};

struct fit_finding {
    enum fit_grade grade;
    char field[128]; /* with dots; cut */
    char text[192];
};

enum { FIT_FINDINGS = 64 };

struct fit {
    struct fit_finding list[FIT_FINDINGS]; /* a field is named once */
    size_t count;
    size_t left_out; /* beyond that */
};

/* mappings: {"dynamic", "properties"} of the index; NULL: it has none, everything fits. */
/* The columns of the documents, as far as the mapping passes them on unchanged. */
void fit_columns(const struct json *mappings, const struct mapping *m, const struct schema *s,
                 struct fit *out);
/* One document as it would be sent. */
void fit_document(const struct json *mappings, const struct json *document, struct fit *out);
