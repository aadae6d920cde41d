/* SPDX-License-Identifier: Apache-2.0 */
/* conf: any text is either a whole configuration or a report with at least one error; what is
 * printed of it never breaks, and the promises of conf.h hold. */
#include "base/assert.h"
#include "conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

/* libfyaml 0.7.12 loses 4 KiB of its own on some broken quotes (corpus/conf/lost-quotes.yaml). What
 * we open of it is freed: the unit tests run without this. */
const char *__lsan_default_suppressions(void)
{
    return "leak:libfyaml.so\n";
}

static void check(const struct conf *c)
{
    fb_assert(c->listen_count > 0);
    fb_assert(c->service_count > 0);
    fb_assert(c->route_count > 0);
    for (size_t i = 0; i < c->service_count; i++) /* none: the API brings them */
        fb_assert(c->services[i].endpoint_count == 0 || c->services[i].endpoints[0].port > 0);
    for (size_t i = 0; i < c->route_count; i++) {
        fb_assert(c->routes[i].service < c->service_count);
        fb_assert(c->routes[i].name[0]);
        fb_assert(strlen(c->routes[i].name) < 104);
        for (size_t k = 0; k < i && i < 50; k++)
            fb_assert(strcmp(c->routes[i].name, c->routes[k].name) != 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf *c;
    struct conf_report report;
    struct buf out;
    struct span text = {(const char *)data, size};
    buf_init(&out, 64 * MIB);
    enum fb_code code = conf_parse(text, "fuzz.yaml", &c, &report);
    conf_report_print(&report, "fuzz.yaml", text, &out);
    fb_assert(code == FB_OK || code == FB_E_CONFIG);
    fb_assert((code == FB_OK) == (report.error_count == 0));
    if (code == FB_OK) {
        check(c);
        buf_clear(&out);
        conf_show(c, false, &out);
        conf_show(c, true, &out);
        fb_assert(conf_reload_needs_restart(c, c, &out) == 0);
    }
    conf_unref(c);
    conf_report_fini(&report);
    buf_fini(&out);
    return 0;
}
