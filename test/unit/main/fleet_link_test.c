/* SPDX-License-Identifier: Apache-2.0 */
/* The way to the other nodes, over a broker that takes its time: whoever leaves waits for nothing.
 */
#include "main/fleet_link.h"

#include "stream/connectors/load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
/* after the standard headers */
#include <cmocka.h>

static atomic_bool is_stuck;
static atomic_uint sends, opened, closed;
static char last_sent[64];

static void rest(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 5 * 1000 * 1000}, NULL);
}

static enum fb_code fake_open(struct connector **c, const struct connector_setup *setup,
                              struct fb_err *err)
{
    (void)setup;
    (void)err;
    *c = (struct connector *)&sends; /* anything but NULL */
    atomic_fetch_add(&opened, 1);
    return FB_OK;
}

static void fake_close(struct connector *c)
{
    (void)c;
    atomic_fetch_add(&closed, 1);
}

static enum fb_code fake_send(struct connector *c, struct connector_batch *batch,
                              struct fb_err *err)
{
    (void)c;
    (void)err;
    atomic_fetch_add(&sends, 1);
    while (atomic_load(&is_stuck))
        rest();
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct connector_record *r = &batch->at[i];
        memcpy(last_sent, r->value.at, r->value.len);
        last_sent[r->value.len] = '\0';
        batch->at[i].result = CONNECTOR_DELIVERED;
    }
    return FB_OK;
}

static enum fb_code fake_receive(struct connector *c, connector_each *each, void *arg,
                                 uint32_t timeout_ms, struct fb_err *err)
{
    (void)c;
    (void)each;
    (void)arg;
    (void)timeout_ms;
    (void)err;
    rest();
    return FB_E_TIMEOUT;
}

enum fb_code connector_load(const char *type, const char *package,
                            const struct connector_type **out, struct fb_err *err)
{
    static const struct connector_type fake = {.abi = CONNECTOR_ABI,
                                               .bytes = sizeof fake,
                                               .name = "file",
                                               .send_max = 1,
                                               .open = fake_open,
                                               .close = fake_close,
                                               .send = fake_send,
                                               .receive = fake_receive};
    (void)type;
    (void)package;
    (void)err;
    *out = &fake;
    return FB_OK;
}

static void until(atomic_uint *count, unsigned least)
{
    for (int i = 0; i < 6000 && atomic_load(count) < least; i++)
        rest();
    assert_true(atomic_load(count) >= least);
}

static struct fleet_link *open_link(void)
{
    static const char text[] = "listen: [\":8080\"]\n"
                               "services: { app: { endpoints: [\"127.0.0.1:9\"] } }\n"
                               "connectors: { bus: { type: file, direction: fleet, path: /x } }\n"
                               "fleet: { connector: bus }\n";
    struct conf *conf = NULL;
    struct conf_report report = {0};
    struct fb_err err;
    struct fleet_link *link = NULL;
    assert_int_equal(conf_parse(span_of(text), "t.yaml", &conf, &report), FB_OK);
    conf_report_fini(&report);
    struct fleet_link_setup setup = {.connector = &conf->connectors[0],
                                     .conf = conf,
                                     .node = "test",
                                     .state_dir = "/nonexistent",
                                     .node_id = 1};
    assert_int_equal(fleet_link_open(&link, &setup, &err), FB_OK);
    conf_unref(conf);
    return link;
}

static void leaving_does_not_wait_for_the_broker(void **state)
{
    (void)state;
    struct fleet_link *link = open_link();
    atomic_store(&is_stuck, true);
    fleet_link_send(link, SPAN("k"), SPAN("one"));
    until(&sends, 1);
    fleet_link_leave(link); /* the sender hangs: if this waited, nobody would let it go */
    assert_false(fleet_link_wait(50));
    struct fleet_link *next = open_link(); /* and the next one is there meanwhile */
    fleet_link_leave(next);
    assert_false(fleet_link_wait(50));
    atomic_store(&is_stuck, false);
    assert_true(fleet_link_wait(30000));
    assert_int_equal(atomic_load(&closed), atomic_load(&opened));
}

static void the_last_words_are_sent(void **state)
{
    (void)state;
    unsigned before = atomic_load(&opened);
    struct fleet_link *link = open_link();
    until(&opened, before + 2); /* who leaves before the broker was reached has nothing to tell */
    fleet_link_send(link, SPAN("k"), SPAN("goodbye"));
    fleet_link_leave(link);
    assert_true(fleet_link_wait(30000));
    assert_string_equal(last_sent, "goodbye");
    fleet_link_leave(NULL);
    assert_true(fleet_link_wait(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaving_does_not_wait_for_the_broker),
        cmocka_unit_test(the_last_words_are_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
