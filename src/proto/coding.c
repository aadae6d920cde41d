/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/coding.h"

#include "proto/cache_control.h"

static const char *const names[] = {"", "identity", "gzip", "br", "zstd"};

const char *coding_name(enum coding coding)
{
    return names[coding];
}

static bool names_identity(const struct http1_head *request)
{
    for (uint32_t i = 0; i < request->field_count; i++) {
        struct span rest = request->fields[i].value, element, params;
        if (request->fields[i].id != HTTP1_H_ACCEPT_ENCODING)
            continue;
        while (http1_list_next(&rest, &element))
            if (span_ieq(span_trim(span_cut(element, ';', &params)), SPAN("identity")))
                return true;
    }
    return false;
}

enum coding coding_choose(const struct http1_head *request)
{
    struct cache_directives d;
    enum coding best = CODING_IDENTITY;
    if (!http1_has(request, HTTP1_H_ACCEPT_ENCODING))
        return CODING_IDENTITY;
    cache_directives_read(request, &d);
    if (d.flags & CACHE_NO_TRANSFORM)
        return CODING_IDENTITY;
    uint32_t most = 0;
    for (enum coding c = CODING_ZSTD; c > CODING_IDENTITY; c--) {
        uint32_t quality = cache_coding_quality(request, span_of(names[c]));
        if (quality > most) {
            most = quality;
            best = c;
        }
    }
    if (names_identity(request) && cache_coding_quality(request, SPAN("identity")) > most)
        return CODING_IDENTITY;
    return best;
}
