/* SPDX-License-Identifier: Apache-2.0 */
/* orca_fuzz: load reports of answers and lines of agents under arbitrary bytes.
 *
 * Asserted: what is accepted is finite and within its bounds; the same bytes read the same twice.
 */
#include "base/assert.h"
#include "proto/agent_text.h"
#include "proto/orca.h"

#include <stdlib.h>
#include <string.h>

static void in_bounds(double v)
{
    fb_assert((v >= 0 && v <= 1e9) || v < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct orca o, again;
    struct agent_report r;
    char *copy = malloc(size ? size : 1); /* exact, so that a byte too far is seen */
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    struct span all = {copy, size};
    for (int field = ORCA_FIELD; field <= ORCA_FIELD_BIN; field++) {
        bool is_good = orca_parse((enum orca_field)field, all, &o);
        fb_assert(is_good == orca_parse((enum orca_field)field, all, &again));
        fb_assert(memcmp(&o, &again, sizeof o) == 0);
        in_bounds(o.utilisation);
        in_bounds(o.per_s);
        in_bounds(o.err_per_s);
        fb_assert(!is_good || o.utilisation >= 0 || o.per_s >= 0 || o.err_per_s >= 0);
    }
    if (agent_parse(all, &r)) {
        fb_assert(r.weight_pct >= 0);
        fb_assert(r.weight_pct <= 1000);
        fb_assert(r.has_weight || r.has_cap || r.admin || r.state);
    }
    free(copy);
    return 0;
}
