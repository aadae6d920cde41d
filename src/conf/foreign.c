/* SPDX-License-Identifier: Apache-2.0 */
/* Words of other proxies (foreign.def): who comes from there is told the word used here. */
#include "conf/conf_int.h"

#define LEVEL_ANY LEVEL_COUNT

static const struct {
    enum conf_level level;
    const char *word, *advice;
} rows[] = {
#define FOREIGN(where, its, ours) {.level = LEVEL_##where, .word = its, .advice = ours},
#include "conf/foreign.def"
#undef FOREIGN
};

const char *foreign_advice(struct span word, enum conf_level level)
{
    for (size_t i = 0; i < FB_COUNT(rows); i++)
        if ((rows[i].level == level || rows[i].level == LEVEL_ANY) &&
            span_eq(word, span_of(rows[i].word)))
            return rows[i].advice;
    return NULL;
}
