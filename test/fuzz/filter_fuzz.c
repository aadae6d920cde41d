/* SPDX-License-Identifier: Apache-2.0 */
/* filter_fuzz: filter expressions and JSON bodies of the admin API, under arbitrary bytes.
 *
 * Input: byte 0 selects.  Even: a filter expression, evaluated on a request with its sample and on
 * a health event.  Odd: a JSON body.  Asserted: no crash, an error has a sentence, and what is
 * parsed twice means the same. */
#include "base/assert.h"
#include "event/filter.h"
#include "output/jsonin.h"

#include <stdio.h>

static const char *name_of(void *ctx, enum ev_kind kind, uint16_t number, uint64_t time_us)
{
    (void)ctx;
    (void)kind;
    (void)time_us;
    return number == 3 ? "shop /checkout/" : "";
}

static void fuzz_filter(struct span text)
{
    static struct filter f, again;
    struct fb_err err = {0};
    const struct filter_names names = {name_of, NULL};
    if (filter_parse(&f, text, &err) != FB_OK) {
        fb_assert(err.text[0] != '\0');
        return;
    }
    fb_assert(filter_parse(&again, text, &err) == FB_OK);
    struct ev_request r = EV_INIT(REQUEST, request, 1000);
    struct ev_sample s = EV_INIT(SAMPLE, sample, 1000);
    struct ev_health h = EV_INIT(HEALTH, health, 1000);
    r.route = 3;
    r.status = 503;
    r.total_us = 120000;
    snprintf(s.path, sizeof s.path, "/checkout/pay");
    bool is_hit = filter_matches(&f, &r.head, &s.head, &names);
    fb_assert(is_hit == filter_matches(&again, &r.head, &s.head, &names));
    (void)filter_matches(&f, &h.head, NULL, NULL);
}

static void fuzz_body(struct span text)
{
    static struct jsonin in;
    struct fb_err err = {0};
    if (jsonin_parse(&in, text, &err) != FB_OK) {
        fb_assert(err.text[0] != '\0');
        return;
    }
    fb_assert(in.count <= JSONIN_FIELDS_MAX);
    for (size_t i = 0; i < in.count; i++)
        fb_assert(strlen(in.field[i].key) < JSONIN_TEXT_MAX_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct span text = {(const char *)data + 1, size - 1};
    if (data[0] % 2 == 0)
        fuzz_filter(text);
    else
        fuzz_body(text);
    return 0;
}
