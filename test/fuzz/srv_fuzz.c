/* SPDX-License-Identifier: Apache-2.0 */
/* srv_fuzz: DNS answers under arbitrary bytes.
 *
 * Asserted: records are within their bounds, sorted, and hold names that a host may have. */
#include "base/assert.h"
#include "io/srv.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct srv_list list;
    char *copy = malloc(size ? size : 1);
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    bool is_good = srv_parse((struct span){copy, size}, &list);
    fb_assert(is_good || list.count == 0);
    fb_assert(list.count <= SRV_MAX);
    for (uint32_t i = 0; i < list.count; i++) {
        const struct srv *s = &list.at[i];
        fb_assert(s->port > 0);
        fb_assert(s->host[0] != '\0');
        fb_assert(memchr(s->host, '\0', sizeof s->host) != NULL);
        for (const char *c = s->host; *c; c++)
            fb_assert(isalnum((unsigned char)*c) || strchr("-_.", *c));
        fb_assert(i == 0 || list.at[i - 1].priority <= s->priority);
    }
    free(copy);
    return 0;
}
