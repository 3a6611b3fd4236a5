#include "cmd/versioning.h"

#include <string.h>

#include "mapping/definition.h"

enum { MAPPING_MAX_BYTES = 64 << 20 }; /* as a tree */

static const char *mode_of(const struct plan *plan)
{
    return mapping_versioning_word(plan_versioning(plan));
}

bool versioning_check(struct journal *journal, struct elastic *e, const struct plan *plan,
                      bool change, struct elastic_origin *index, struct err *err)
{
    const char *mode = mode_of(plan);
    AUTO_STR char *noted = NULL;

    if (!elastic_index_origin(e, plan_index(plan), index, err) ||
        (journal && !journal_target(journal, index->uuid, &noted, err)))
        return false;
    bool made = index->versioning[0];
    const char *known = made ? index->versioning : noted;
    if (!known || !strcmp(known, mode) || change)
        return true;
    return err_set(err, ERR_USER,
                   "index %s %s versioning %s, this run would use %s, and their versions can't be "
                   "compared: take a new index, or, when no run under %s is at work any more, "
                   "--change-versioning (documents whose versions are later stay as they are)",
                   index->name, made ? "was made for" : "was written under", known, mode, known);
}

/* What else is in _meta stays. */
static bool tell_index(struct elastic *e, const char *index, const char *mode, struct err *err)
{
    const struct json *mappings = NULL;
    struct arena mem;
    struct buf body;

    arena_init(&mem, MAPPING_MAX_BYTES);
    buf_init(&body, MAPPING_MAX_BYTES);
    bool ok = elastic_index_mappings(e, index, &mem, &mappings, err);
    if (ok && !mappings)
        ok = err_set(err, ERR_USER, "its mapping can't be read"); /* what is in _meta would go */
    if (ok) {
        buf_add_str(&body, "{\"_meta\":");
        definition_write_meta(json_get(mappings, "_meta"), mode, &body);
        buf_add_byte(&body, '}');
        ok = body.full ? err_set(err, ERR_USER, "it is too large")
                       : elastic_index_put_mapping(e, index, buf_slice(&body), err);
    }
    buf_fini(&body);
    arena_fini(&mem);
    return ok || err_wrap(err,
                          "%s: can't note the versioning in the index's _meta (that takes the "
                          "right \"manage\")",
                          index);
}

bool versioning_note(struct journal *journal, struct elastic *e, const struct elastic_origin *index,
                     const struct plan *plan, const char *run, struct err *err)
{
    bool told = !index->versioning[0] || !strcmp(index->versioning, mode_of(plan));

    if (!told && !tell_index(e, index->name, mode_of(plan), err))
        return false;
    return journal_note_target(journal, index->uuid, mode_of(plan), run, err);
}
