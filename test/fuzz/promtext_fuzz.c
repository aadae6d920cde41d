/* SPDX-License-Identifier: Apache-2.0 */
/* The first line is rules, the rest pages with a zero byte between them, each fed in two ways: in
 * one piece and in small ones the same samples come, and facts are finite. */
#include "base/assert.h"
#include "event/scrape.h"

#include <math.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

struct seen {
    struct scrape *scrape;
    uint64_t samples, bytes;
};

static void on_sample(void *arg, const struct prom_sample *m)
{
    struct seen *s = arg;
    fb_assert(m->name.len > 0);
    fb_assert(m->name.len <= PROMTEXT_NAME_BYTES_MAX);
    fb_assert(span_starts(m->name, m->family));
    fb_assert(m->label_count <= PROMTEXT_LABELS_MAX);
    s->samples++;
    s->bytes += m->name.len;
    for (uint32_t i = 0; i < m->label_count; i++)
        s->bytes += m->label[i].value.len;
    if (s->scrape)
        scrape_take(s->scrape, m);
}

static void on_fact(void *arg, const char *name, double value)
{
    (void)arg;
    fb_assert(strlen(name) > 0);
    fb_assert(isfinite(value));
}

static bool read_page(struct seen *s, struct span text, bool is_openmetrics, size_t step)
{
    static struct promtext p;
    promtext_init(&p, is_openmetrics, on_sample, s);
    for (size_t at = 0; at < text.len; at += step)
        if (!promtext_feed(&p, (struct span){text.at + at, fb_min_u64(step, text.len - at)}))
            return false;
    return promtext_end(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct span rest, rules = span_cut((struct span){(const char *)bytes, len}, '\n', &rest);
    static const uint64_t key[2] = {1, 2};
    struct fb_err err;
    struct scrape *scrape = scrape_new(rules, key, &err);
    if (!scrape)
        scrape =
            scrape_new(SPAN("a\nb_total\nrate(c) as c\nh as h\nmax(d{e=\"f*\"}) as g"), key, &err);
    for (uint64_t at_us = 1000000; rest.len > 0; at_us += 1000000) {
        struct span page = span_cut(rest, '\0', &rest);
        for (int is_openmetrics = 0; is_openmetrics < 2; is_openmetrics++) {
            struct seen one = {scrape, 0, 0}, two = {NULL, 0, 0};
            scrape_begin(scrape);
            bool is_whole = read_page(&one, page, is_openmetrics, page.len + 1);
            fb_assert(read_page(&two, page, is_openmetrics, 3) == is_whole);
            fb_assert(one.samples == two.samples);
            fb_assert(one.bytes == two.bytes);
            if (is_whole && scrape_is_good(scrape))
                scrape_commit(scrape, at_us, on_fact, NULL);
            else
                scrape_abort(scrape);
        }
    }
    scrape_free(scrape);
    return 0;
}
