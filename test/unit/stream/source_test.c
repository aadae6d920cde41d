/* SPDX-License-Identifier: Apache-2.0 */
/* Sources: what crashes, a full queue and rubbish do to the messages. */
#include "runner_try.h"

#define SOURCE "direction: source"
#define EXACT "direction: source, transactions: true"

static void in_order_and_once(const struct world *w, uint32_t count)
{
    assert_int_equal(w->count, count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal((uint32_t)w->value[i], i);
}

static void a_message_is_acknowledged_only_when_it_is_durable(void **state)
{
    static const char *const keys[] = {SOURCE, EXACT};
    (void)state;
    for (size_t k = 0; k < FB_COUNT(keys); k++) {
        struct world w;
        world_begin(&w);
        w.is_unsure = true;
        peer.messages = 100;
        connectors_begin(&w, keys[k]);
        UNTIL(&w, w.count == 100);
        assert_int_equal(PEER(peer.commits), 0);
        w.is_unsure = false;
        UNTIL(&w, PEER(strcmp(peer.committed, "99")) == 0);
        connectors_finish(&w);
        in_order_and_once(&w, 100);
        /* The next one begins at the last one, which is known. */
        connectors_begin(&w, keys[k]);
        pthread_mutex_lock(&peer.lock);
        peer.messages = 120;
        pthread_mutex_unlock(&peer.lock);
        UNTIL(&w, w.count == 120);
        assert_int_equal(status(&w).repeated, 1);
        connectors_finish(&w);
        in_order_and_once(&w, 120);
        world_end(&w);
    }
}

static void a_full_queue_holds_the_sender_back_and_loses_nothing(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    w.is_blind = true;
    peer.messages = 4000; /* twice what the queue holds */
    connectors_begin(&w, SOURCE);
    UNTIL(&w, PEER(peer.given) >= 1500);
    w.is_blind = false;
    UNTIL(&w, w.count == 4000);
    connectors_finish(&w);
    in_order_and_once(&w, 4000);
    world_end(&w);
}

static void set_waiting(uint64_t behind, uint64_t waits_us)
{
    pthread_mutex_lock(&peer.lock);
    peer.behind = behind;
    peer.waits_us = waits_us;
    pthread_mutex_unlock(&peer.lock);
}

static void how_old_is_what_waits_at_the_broker_is_told_as_far_as_it_says(void **state)
{
    struct world w;
    uint64_t hour_us = 3600 * US_PER_S;
    (void)state;
    world_begin(&w);
    peer.messages = 10;
    peer.wall_ms = (fb_wall_us() - hour_us) / US_PER_MS;
    connectors_begin(&w, SOURCE);
    UNTIL(&w, w.count == 10);
    /* By the times of what came, when the broker says nothing, or how many there are. */
    UNTIL(&w, status(&w).lag_us >= hour_us && status(&w).lag_events == UINT64_MAX);
    set_waiting(5, UINT64_MAX);
    UNTIL(&w, status(&w).lag_us >= hour_us && status(&w).lag_events == 5);
    set_waiting(0, UINT64_MAX);
    UNTIL(&w, status(&w).lag_us == 0 && status(&w).lag_events == 0);
    /* Nothing waited until now: what waits came since. */
    set_waiting(5, UINT64_MAX);
    UNTIL(&w, status(&w).lag_us > 0 && status(&w).lag_us < hour_us / 2);
    /* By the word of the broker. */
    set_waiting(UINT64_MAX, 2 * hour_us);
    UNTIL(&w, status(&w).lag_us >= 2 * hour_us);
    connectors_finish(&w);
    world_end(&w);
}

static void without_a_time_of_the_broker_what_waits_is_as_old_as_it_was_seen(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    peer.messages = 10;
    connectors_begin(&w, SOURCE);
    UNTIL(&w, w.count == 10);
    set_waiting(0, UINT64_MAX);
    UNTIL(&w, status(&w).lag_us == 0 && status(&w).lag_events == 0);
    set_waiting(5, UINT64_MAX); /* five that it does not get: the oldest waits on */
    UNTIL(&w, status(&w).lag_us > US_PER_S && status(&w).lag_events == 5);
    assert_true(status(&w).lag_us < PATIENCE_MS * US_PER_MS);
    set_waiting(0, UINT64_MAX);
    UNTIL(&w, status(&w).lag_us == 0 && status(&w).lag_events == 0);
    connectors_finish(&w);
    world_end(&w);
}

/* Every other number of the broker is no message: what waits grows older while some come. */
static void numbers_that_are_no_messages_do_not_hide_a_lag(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    peer_type.place = peer_place;
    peer.behind = 2000;
    peer.place.behind = 2000;
    connectors_begin(&w, SOURCE);
    for (uint32_t i = 1; i <= 60; i++) {
        peer_lock();
        peer.messages = i;
        peer.place = (struct connector_place){.came = 2 * i, .behind = 2000 - 2 * i};
        peer.behind = peer.place.behind;
        peer_unlock();
        UNTIL(&w, status(&w).lag_events == 2000 - 2 * i);
        nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    }
    UNTIL(&w, status(&w).lag_us > US_PER_S);
    uint64_t lag_us = status(&w).lag_us;
    assert_true(lag_us >= 50 * 30000);
    peer_lock();
    peer.place.era++; /* other partitions: nothing is known of them */
    peer_unlock();
    UNTIL(&w, status(&w).lag_us < lag_us);
    connectors_finish(&w);
    peer_type.place = NULL;
    world_end(&w);
}

static void rubbish_is_buried_and_what_lies_beside_it_taken(void **state)
{
    struct world w;
    char path[160];
    (void)state;
    world_begin(&w);
    peer.messages = 20;
    peer.bad_at = 7;
    connectors_begin(&w, EXACT);
    UNTIL(&w, w.count == 19);
    UNTIL(&w, PEER(strcmp(peer.committed, "19")) == 0);
    assert_int_equal(status(&w).bad, 1);
    snprintf(path, sizeof path, "%s/connectors/k.dead.jsonl", w.state_dir);
    assert_int_equal(access(path, R_OK), 0);
    connectors_finish(&w);
    world_end(&w);
}

/* The last one is rubbish, and nothing follows that would move the position. */
static void rubbish_at_the_end_is_not_buried_again_by_the_next_start(void **state)
{
    static const char *const keys[] = {SOURCE, EXACT};
    (void)state;
    for (size_t k = 0; k < FB_COUNT(keys); k++) {
        struct world w;
        world_begin(&w);
        peer.messages = 20;
        connectors_begin(&w, keys[k]);
        UNTIL(&w, PEER(strcmp(peer.committed, "19")) == 0);
        pthread_mutex_lock(&peer.lock);
        peer.bad_at = 20;
        peer.messages = 21;
        pthread_mutex_unlock(&peer.lock);
        UNTIL(&w, PEER(strcmp(peer.committed, "20")) == 0);
        assert_int_equal(status(&w).bad, 1);
        connectors_finish(&w);
        connectors_begin(&w, keys[k]);
        pthread_mutex_lock(&peer.lock);
        peer.messages = 22;
        pthread_mutex_unlock(&peer.lock);
        UNTIL(&w, PEER(strcmp(peer.committed, "21")) == 0);
        assert_int_equal(status(&w).bad, 0);
        assert_int_equal(status(&w).repeated, 1); /* the rubbish itself is known */
        connectors_finish(&w);
        world_end(&w);
    }
}

/* The log has the events, state.db not yet the positions: all of a put, a part of it, none of it.
 */
static void after_a_crash_what_the_log_has_is_not_taken_again(void **state)
{
    static const uint32_t kept[] = {41, 17, 1, 0}; /* the mark is one of them */
    (void)state;
    for (size_t k = 0; k < FB_COUNT(kept); k++) {
        struct world w;
        world_begin(&w);
        append(&w, 5);
        w.is_unsure = true;
        w.take_max = kept[k];
        connectors_begin(&w, EXACT);
        pthread_mutex_lock(&peer.lock);
        peer.messages = 40;
        pthread_mutex_unlock(&peer.lock);
        struct ingress_stats stats = {.events = 0};
        UNTIL(&w,
              (ingress_stats_read(w.ingress, &stats), stats.events == 41 && !stats.queued_bytes));
        uint32_t seen = w.count;
        connectors_finish(&w); /* as a kill: nobody told it that anything is durable */
        w.is_unsure = false;
        w.take_max = UINT32_MAX;
        connectors_begin(&w, EXACT);
        UNTIL(&w, PEER(strcmp(peer.committed, "39")) == 0);
        assert_int_equal(status(&w).repeated, seen > 0); /* it begins at the last that is known */
        connectors_finish(&w);
        in_order_and_once(&w, 40);
        world_end(&w);
    }
}

/* The crash lies within a message: of its events none is lost, none comes twice; and again while
 * they come the second time, with another message in between. */
static void of_a_message_that_a_crash_cut_only_the_rest_is_taken(void **state)
{
    static const uint32_t kept[] = {1 + 3 * 7, 1 + 3 * 7 + 1, 1 + 3 * 7 + 2, 2, 1};
    (void)state;
    for (size_t k = 0; k < FB_COUNT(kept); k++) {
        struct world w;
        struct ingress_stats stats = {.events = 0};
        world_begin(&w);
        w.is_unsure = true;
        w.take_max = kept[k];
        peer.messages = 10;
        peer.per_message = 3;
        connectors_begin(&w, EXACT);
        UNTIL(&w, (ingress_stats_read(w.ingress, &stats), stats.events >= 31));
        connectors_finish(&w);
        assert_int_equal(w.count, kept[k] - 1);
        w.take_max = 2; /* the mark of the next put and one event */
        connectors_begin(&w, EXACT);
        UNTIL(&w, (ingress_stats_read(w.ingress, &stats),
                   stats.events && stats.queued_bytes == 0 && w.take_max == 0));
        connectors_finish(&w);
        w.is_unsure = false;
        w.take_max = UINT32_MAX;
        connectors_begin(&w, EXACT);
        UNTIL(&w, PEER(strcmp(peer.committed, "9")) == 0);
        connectors_finish(&w);
        in_order_and_once(&w, 30);
        world_end(&w);
    }
}

static void reload(struct world *w, const char *keys)
{
    struct conf *was = w->conf;
    w->conf = conf_of(keys);
    connectors_apply(w->cs, w->conf);
    conf_unref(was);
}

/* The log takes nothing for a while: the connector of the new configuration waits for it too. */
static void after_a_reload_what_is_on_its_way_into_the_log_is_not_taken_again(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    w.is_blind = true;
    peer.messages = 40;
    connectors_begin(&w, EXACT);
    struct ingress_stats stats = {.events = 0};
    UNTIL(&w, (ingress_stats_read(w.ingress, &stats), stats.queued_bytes > 0));
    reload(&w, EXACT ", timeout: 7s");
    struct connector_status s;
    UNTIL(&w, (connectors_tick(w.cs), connectors_status(w.cs, &s, 1) == 1));
    UNTIL(&w, status(&w).state == CONNECTOR_FAILING);
    assert_non_null(strstr(status(&w).last_error, "so that nothing is taken twice"));
    assert_int_equal(PEER(peer.opens), 1);
    w.is_blind = false;
    UNTIL(&w, PEER(strcmp(peer.committed, "39")) == 0);
    UNTIL(&w, PEER(peer.opens) == 2);
    UNTIL(&w, status(&w).state == CONNECTOR_RUNNING);
    connectors_finish(&w);
    in_order_and_once(&w, 40);
    world_end(&w);
}

static void before_a_partition_is_given_back_what_came_from_it_is_marked(void **state)
{
    static const char *const keys[] = {SOURCE, EXACT};
    (void)state;
    for (size_t k = 0; k < FB_COUNT(keys); k++) {
        struct world w;
        world_begin(&w);
        peer.messages = 100;
        peer.gives_back = true;
        connectors_begin(&w, keys[k]);
        UNTIL(&w, PEER(peer.at_give_back) > 0);
        assert_int_equal(peer.at_give_back, 99);
        connectors_finish(&w);
        in_order_and_once(&w, 100);
        world_end(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(how_old_is_what_waits_at_the_broker_is_told_as_far_as_it_says),
        cmocka_unit_test(numbers_that_are_no_messages_do_not_hide_a_lag),
        cmocka_unit_test(without_a_time_of_the_broker_what_waits_is_as_old_as_it_was_seen),
        cmocka_unit_test(a_message_is_acknowledged_only_when_it_is_durable),
        cmocka_unit_test(a_full_queue_holds_the_sender_back_and_loses_nothing),
        cmocka_unit_test(rubbish_is_buried_and_what_lies_beside_it_taken),
        cmocka_unit_test(rubbish_at_the_end_is_not_buried_again_by_the_next_start),
        cmocka_unit_test(after_a_crash_what_the_log_has_is_not_taken_again),
        cmocka_unit_test(of_a_message_that_a_crash_cut_only_the_rest_is_taken),
        cmocka_unit_test(after_a_reload_what_is_on_its_way_into_the_log_is_not_taken_again),
        cmocka_unit_test(before_a_partition_is_given_back_what_came_from_it_is_marked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
