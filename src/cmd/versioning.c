#include "cmd/versioning.h"

#include <string.h>

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

bool versioning_note(struct journal *journal, struct elastic *e, const struct elastic_origin *index,
                     const struct plan *plan, const char *run, struct err *err)
{
    bool told = !index->versioning[0] || !strcmp(index->versioning, mode_of(plan));

    if (!told && !elastic_index_set_versioning(e, index->name, mode_of(plan), err))
        return false;
    return journal_note_target(journal, index->uuid, mode_of(plan), run, err);
}
