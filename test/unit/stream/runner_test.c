/* SPDX-License-Identifier: Apache-2.0 */
/* Sinks: what answers that got lost, crashes and logs that were put back do to the events. */
#include "runner_try.h"

static bool has(uint64_t offset)
{
    for (uint32_t i = 0; i < peer.count; i++)
        if (peer.got[i] == offset)
            return true;
    return false;
}

#define SINK "events: [request], from: start, delay: 1ms"

static void with_a_mark_each_event_arrives_once_whatever_gets_lost(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    peer.keeps_mark = true;
    peer.lose_each = 3;
    peer.refuse_each = 5;
    connectors_begin(&w, SINK);
    append_slowly(&w, 300);
    UNTIL(&w, PEER(peer.count) >= 300);
    UNTIL(&w, status(&w).state == CONNECTOR_RUNNING && status(&w).lag_events == 0);
    assert_int_equal(peer.count, 300);
    for (uint32_t i = 0; i < 300; i++)
        assert_int_equal(peer.got[i], i);
    connectors_finish(&w);
    world_end(&w);
}

static void without_a_mark_each_event_arrives_at_least_once(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    peer.lose_each = 3;
    connectors_begin(&w, SINK);
    append_slowly(&w, 100);
    UNTIL(&w, PEER(has(99)));
    connectors_finish(&w);
    for (uint32_t i = 0; i < 100; i++)
        assert_true(has(i));
    world_end(&w);
}

static void set_offset(struct world *w, uint64_t offset)
{
    struct state *st;
    struct fb_err err;
    assert_int_equal(state_open(&st, w->state_dir, NULL, &err), FB_OK);
    assert_int_equal(state_offset_set(st, "connector:k", offset, &err), FB_OK);
    state_close(st);
}

static void after_a_crash_the_mark_decides_unless_it_is_beyond_the_log(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    peer.keeps_mark = true;
    connectors_begin(&w, SINK);
    append(&w, 50);
    UNTIL(&w, PEER(peer.count) == 50);
    connectors_finish(&w);
    set_offset(&w, 20); /* as a kill leaves it: what was delivered since is not in it */
    connectors_begin(&w, SINK);
    append(&w, 50);
    UNTIL(&w, PEER(peer.count) >= 100);
    connectors_finish(&w);
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(peer.got[i], i);
    peer.is_of_before = true;
    peer.mark.offset = 5000; /* of a log that was longer: an old copy of the state was put back */
    set_offset(&w, 90);
    connectors_begin(&w, SINK);
    UNTIL(&w, PEER(peer.count) >= 110);
    assert_int_equal(peer.got[100], 90);
    assert_int_equal(status(&w).displaced, 1);
    connectors_finish(&w);
    world_end(&w);
}

/* As a copy that is put back: the log of <kept> events, and another start of foldback writes on. */
static void put_back(struct world *w, uint32_t kept)
{
    struct fb_err err;
    struct log_conf conf = log_dir_conf();
    log_close(w->log);
    assert_int_equal(nftw(w->log_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    assert_int_equal(log_open(&w->log, w->log_dir, &conf, NULL, &err), FB_OK);
    w->next = 0;
    append(w, kept);
    assert_int_equal(log_flush(w->log, 10000), FB_OK);
    log_close(w->log);
    conf.epoch++;
    assert_int_equal(log_open(&w->log, w->log_dir, &conf, NULL, &err), FB_OK);
}

static void displaced_to(struct world *w, uint64_t from)
{
    char text[80];
    UNTIL(w, status(w).displaced == 1);
    struct connector_status s = status(w);
    snprintf(text, sizeof text, "position 100 is of another log");
    assert_non_null(strstr(s.displaced_text, text));
    assert_non_null(strstr(s.displaced_text, "connector reset k --at start"));
    UNTIL(w, PEER(peer.count) > 100);
    assert_int_equal(PEER(peer.got[100]), from);
}

/* Found at the start and once; never trusted later, when the log has grown past it: by the note of
 * a start without this connector, or, when state.db came back later than the log, by the epoch. */
static void a_position_beyond_the_log_that_was_put_back_is_told_and_leaves_nothing_out(void **state)
{
    static const char *const keys[] = {SINK, "events: [request], from: end, delay: 1ms"};
    (void)state;
    for (size_t k = 0; k < 3 * FB_COUNT(keys); k++) {
        struct world w;
        bool is_grown = k >= FB_COUNT(keys); /* before the connector begins */
        const char *text = keys[k % FB_COUNT(keys)];
        world_begin(&w);
        append(&w, 100);
        connectors_begin(&w, SINK);
        UNTIL(&w, PEER(peer.count) == 100);
        connectors_finish(&w);
        put_back(&w, 60);
        if (is_grown) {
            struct fb_err err;
            if (k / FB_COUNT(keys) == 1)
                assert_int_equal(anchor_scan(w.state_dir, w.next, &err), FB_OK);
            append(&w, 80);
            assert_int_equal(log_flush(w.log, 10000), FB_OK);
        }
        connectors_begin(&w, text);
        append(&w, 80);
        displaced_to(&w, text == keys[0] ? 0 : is_grown ? 140 : 60);
        UNTIL(&w, PEER(has(w.next - 1)));
        connectors_finish(&w);
        connectors_begin(&w, text); /* the next start is like any other */
        append(&w, 1);
        UNTIL(&w, PEER(has(w.next - 1)));
        assert_int_equal(status(&w).displaced, 0);
        connectors_finish(&w);
        world_end(&w);
    }
}

static void a_mark_of_before_is_not_trusted_when_the_log_has_grown_past_it(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    peer.keeps_mark = true;
    append(&w, 100);
    connectors_begin(&w, SINK);
    UNTIL(&w, PEER(peer.count) == 100);
    connectors_finish(&w);
    put_back(&w, 60);
    set_offset(&w, 60); /* its state was put back, too */
    peer.is_of_before = true;
    peer.refuse_each = 2;
    connectors_begin(&w, SINK);
    append_slowly(&w, 80);
    UNTIL(&w, PEER(has(139)));
    assert_int_equal(status(&w).displaced, 1);
    UNTIL(&w, status(&w).lag_events == 0);
    connectors_finish(&w);
    for (uint32_t i = 60; i < 140; i++)
        assert_int_equal(peer.got[100 + i - 60], i);
    world_end(&w);
}

static void a_reset_makes_the_mark_void(void **state)
{
    struct world w;
    struct fb_err err;
    struct connector_order order = {.verb = CONNECTOR_RESET, .name = "k", .offset = LOG_FROM_START};
    struct connector_order at_start = order;
    at_start.has_place = true;
    (void)state;
    world_begin(&w);
    peer.keeps_mark = true;
    connectors_begin(&w, SINK);
    append(&w, 30);
    UNTIL(&w, PEER(peer.count) == 30);
    assert_int_equal(connectors_order(w.cs, &order, &err), FB_E_RANGE); /* all of it? nobody said */
    assert_int_equal(connectors_order(w.cs, &at_start, &err), FB_OK);
    UNTIL(&w, PEER(peer.count) == 60);
    assert_int_equal(peer.got[30], 0);
    connectors_finish(&w);
    world_end(&w);
}

static void who_was_fenced_waits_for_a_person(void **state)
{
    struct world w;
    struct fb_err err;
    struct connector_order order = {.verb = CONNECTOR_RESUME, .name = "k"};
    (void)state;
    world_begin(&w);
    peer.keeps_mark = peer.is_fenced = true;
    connectors_begin(&w, SINK);
    append(&w, 10);
    UNTIL(&w, status(&w).state == CONNECTOR_MISCONFIGURED);
    assert_non_null(strstr(status(&w).last_error, "another one took over"));
    assert_int_equal(PEER(peer.count), 0);
    pthread_mutex_lock(&peer.lock);
    peer.is_fenced = false;
    pthread_mutex_unlock(&peer.lock);
    assert_int_equal(connectors_order(w.cs, &order, &err), FB_OK);
    UNTIL(&w, PEER(peer.count) == 10);
    assert_int_equal(PEER(peer.fenced_opens), 0); /* a person said so: it is not told */
    connectors_finish(&w);
    world_end(&w);
}

static void a_call_that_waits_is_said_at_once(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    peer.is_troubled = true;
    connectors_begin(&w, SINK);
    append(&w, 10);
    UNTIL(&w, status(&w).state == CONNECTOR_FAILING);
    assert_non_null(strstr(status(&w).last_error, "nobody answers"));
    assert_true(status(&w).failing_us > 0);
    connectors_finish(&w);
    world_end(&w);
}

static void a_sink_that_has_nothing_to_send_says_whether_it_could(void **state)
{
    const struct connector_order order = {.verb = CONNECTOR_PAUSE, .name = "k"};
    const struct connector_order back = {.verb = CONNECTOR_RESUME, .name = "k"};
    struct world w;
    struct fb_err err;
    (void)state;
    world_begin(&w);
    peer.is_away = true;
    connectors_begin(&w, SINK);
    UNTIL(&w, status(&w).state == CONNECTOR_FAILING);
    assert_non_null(strstr(status(&w).last_error, "nobody is there"));
    pthread_mutex_lock(&peer.lock);
    peer.is_away = false;
    pthread_mutex_unlock(&peer.lock);
    UNTIL(&w, status(&w).state == CONNECTOR_RUNNING);
    assert_int_equal(PEER(peer.sends), 0);
    uint64_t checks = PEER(peer.checks);
    assert_int_equal(connectors_order(w.cs, &order, &err), FB_OK);
    UNTIL(&w, status(&w).state == CONNECTOR_PAUSED);
    assert_int_equal(connectors_order(w.cs, &back, &err), FB_OK);
    UNTIL(&w, status(&w).state == CONNECTOR_RUNNING);
    assert_int_equal(PEER(peer.checks), checks + 1); /* once per begin, not while it idles */
    connectors_finish(&w);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_a_mark_each_event_arrives_once_whatever_gets_lost),
        cmocka_unit_test(without_a_mark_each_event_arrives_at_least_once),
        cmocka_unit_test(after_a_crash_the_mark_decides_unless_it_is_beyond_the_log),
        cmocka_unit_test(
            a_position_beyond_the_log_that_was_put_back_is_told_and_leaves_nothing_out),
        cmocka_unit_test(a_mark_of_before_is_not_trusted_when_the_log_has_grown_past_it),
        cmocka_unit_test(a_reset_makes_the_mark_void),
        cmocka_unit_test(who_was_fenced_waits_for_a_person),
        cmocka_unit_test(a_call_that_waits_is_said_at_once),
        cmocka_unit_test(a_sink_that_has_nothing_to_send_says_whether_it_could),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
