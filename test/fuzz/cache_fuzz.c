/* SPDX-License-Identifier: Apache-2.0 */
/* cache_fuzz: fields about caching under arbitrary bytes.
 *
 * Input: one byte that selects, then the value of a field (a whole head for select 0).
 * Asserted: seconds and ranges lie within their bounds; what is written is read again. */
#include "base/assert.h"
#include "proto/cache_control.h"

#include <stdlib.h>

static void assert_seconds(int64_t s)
{
    fb_assert(s >= CACHE_NO_SECONDS);
    fb_assert(s <= CACHE_SECONDS_MAX);
}

static void try_directives(const struct http1_head *head)
{
    struct cache_directives d;
    cache_directives_read(head, &d);
    for (int i = 0; i < 2; i++) {
        const int64_t all[] = {d.max_age,        d.s_maxage,  d.stale_while_revalidate,
                               d.stale_if_error, d.max_stale, d.min_fresh};
        for (size_t k = 0; k < FB_COUNT(all); k++)
            assert_seconds(all[k]);
        (void)cache_targeted_read(head, SPAN("cdn-cache-control"), &d);
    }
    assert_seconds(cache_age_read(head));
    fb_assert(cache_coding_quality(head, SPAN("br")) <= 1000);
}

static void try_head(struct span bytes)
{
    static const struct http1_limits limits = {512, 4096, 32};
    struct http1_field fields[32];
    struct http1_parser p;
    http1_response_begin(&p, &limits, fields, HTTP1_GET);
    if (http1_parse(&p, bytes) == HTTP1_DONE)
        try_directives(&p.head);
}

static void try_value(struct span value)
{
    struct http1_field fields[3] = {
        {.name = SPAN("cache-control"), .value = value, .id = HTTP1_H_CACHE_CONTROL},
        {.name = SPAN("age"), .value = value, .id = HTTP1_H_AGE},
        {.name = SPAN("cdn-cache-control"), .value = value}};
    struct http1_head head = {
        .fields = fields, .field_count = 3, .seen = HTTP1_SKIP(CACHE_CONTROL) | HTTP1_SKIP(AGE)};
    try_directives(&head);
    int64_t date_s = cache_date_parse(value, 1790000000);
    if (date_s != CACHE_NO_DATE) {
        char text[CACHE_DATE_BYTES];
        cache_date_format(date_s, text);
        int64_t again_s = cache_date_parse((struct span){text, sizeof text}, 1790000000);
        fb_assert(again_s == date_s || date_s < INT64_C(-62135596800));
    }
    uint64_t first = 0, last = 0;
    if (cache_range_parse(value, 1000, &first, &last) == CACHE_RANGE_PART) {
        fb_assert(first <= last);
        fb_assert(last < 1000);
    }
    (void)cache_etag_is_in(value, SPAN("\"a\""), true);
    (void)cache_etag_is_in(SPAN("\"a\", W/\"b\""), value, false);
    (void)cache_etag_is_valid(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size_t len = size - 1;
    char *copy = malloc(len ? len : 1); /* exact: one byte too far is seen */
    fb_assert(copy != NULL);
    if (len)
        memcpy(copy, data + 1, len);
    if (data[0] % 2 == 0)
        try_head((struct span){copy, len});
    else
        try_value((struct span){copy, len});
    free(copy);
    return 0;
}
