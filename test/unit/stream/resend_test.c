/* SPDX-License-Identifier: Apache-2.0 */
/* Dead letters that are sent again: what is delivered goes, all else stays. */
#include "runner_try.h"
#include "stream/connectors/letters.h"
#include "stream/connectors/resent.h"

/* Linked in the place of letters_go_through: what the disk does to a look at the files. */
static _Atomic uint32_t slow_ms;
/* ... and who removes all letters as soon as they were read. */
static _Atomic bool is_removing;
/* What the connector had to do: looks that write a file anew, lines of all other looks. */
static _Atomic uint64_t rewrites, lines_read;

static bool is_any(void *ctx, struct span text)
{
    (void)ctx, (void)text;
    return true;
}

enum fb_code __real_letters_go_through(const char *state_dir, struct letters *l,
                                       struct fb_err *err);
enum fb_code __wrap_letters_go_through(const char *state_dir, struct letters *l,
                                       struct fb_err *err);
enum fb_code __wrap_letters_go_through(const char *state_dir, struct letters *l, struct fb_err *err)
{
    enum fb_code code = __real_letters_go_through(state_dir, l, err);
    if (l->is_removing)
        atomic_fetch_add(&rewrites, 1);
    else
        atomic_fetch_add(&lines_read, l->lines);
    if (l->each && atomic_exchange(&is_removing, false)) {
        struct letters all = {.is_removing = true, .is_closed = true, .is_meant = is_any};
        assert_int_equal(__real_letters_go_through(state_dir, &all, err), FB_OK);
    }
    uint32_t ms = atomic_load(&slow_ms);
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
    return code;
}

#define SINK "events: [request], from: start, delay: 1ms, per: event"

static uint64_t letters_left(const struct world *w)
{
    struct letters l = {.is_closed = true};
    struct fb_err err;
    assert_int_equal(letters_go_through(w->state_dir, &l, &err), FB_OK);
    return l.lines;
}

static void set_poison(bool is_poison, uint32_t refuse_each)
{
    pthread_mutex_lock(&peer.lock);
    peer.is_poison = is_poison;
    peer.refuse_each = refuse_each;
    pthread_mutex_unlock(&peer.lock);
}

static void bury(struct world *w, uint32_t count)
{
    world_begin(w);
    set_poison(true, 0);
    connectors_begin(w, SINK);
    append_slowly(w, count);
    UNTIL(w, status(w).dead == count);
    assert_int_equal(letters_left(w), count);
    assert_int_equal(peer.count, 0);
}

static struct connector_resend send_all(struct world *w, const char *id)
{
    uint32_t number;
    struct fb_err err;
    assert_int_equal(connectors_resend(w->cs, "k", id, &number, &err), FB_OK);
    UNTIL(w, status(w).resend.number == number && status(w).resend.state >= RESEND_DONE);
    return status(w).resend;
}

static void what_is_delivered_goes_oldest_first(void **state)
{
    struct world w;
    (void)state;
    bury(&w, 100);
    set_poison(false, 0);
    struct connector_resend done = send_all(&w, "");
    assert_int_equal(done.state, RESEND_DONE);
    assert_int_equal(done.sent, 100);
    assert_int_equal(done.kept, 0);
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(peer.got[i], i);
    assert_int_equal(letters_left(&w), 0);
    append_slowly(&w, 10); /* it goes on */
    UNTIL(&w, PEER(peer.count) == 110);
    connectors_finish(&w);
    world_end(&w);
}

static void what_is_refused_stays(void **state)
{
    struct world w;
    (void)state;
    bury(&w, 20);
    struct connector_resend done = send_all(&w, "");
    assert_int_equal(done.state, RESEND_DONE);
    assert_int_equal(done.sent, 0);
    assert_int_equal(done.kept, 20);
    assert_non_null(strstr(done.text, "refused by the receiver again"));
    assert_int_equal(letters_left(&w), 20);
    connectors_finish(&w);
    world_end(&w);
}

static void when_the_receiver_goes_away_what_was_not_delivered_stays(void **state)
{
    struct world w;
    uint32_t sent = 0;
    (void)state;
    bury(&w, 40);
    pthread_mutex_lock(&peer.lock);
    peer.is_poison = false;
    peer.refuse_each = 7;
    pthread_mutex_unlock(&peer.lock);
    for (int i = 0; sent < 40; i++) {
        assert_true(i < 40);
        struct connector_resend done = send_all(&w, "");
        sent += (uint32_t)done.sent;
        assert_int_equal(done.state, sent < 40 ? RESEND_ENDED : done.state);
        assert_int_equal(letters_left(&w), 40 - sent);
    }
    assert_int_equal(peer.count, 40);
    for (uint32_t i = 0; i < 40; i++)
        assert_int_equal(peer.got[i], i);
    connectors_finish(&w);
    world_end(&w);
}

static void an_id_that_is_not_there_is_told_and_orders_have_bounds(void **state)
{
    struct world w;
    uint32_t number;
    struct fb_err err;
    (void)state;
    bury(&w, 10);
    set_poison(false, 0);
    struct connector_resend done = send_all(&w, "0123456789abcdef");
    assert_int_equal(done.state, RESEND_ENDED);
    assert_non_null(strstr(done.text, "has the id 0123456789abcdef"));
    assert_int_equal(connectors_resend(w.cs, "other", "", &number, &err), FB_E_NOT_FOUND);
    struct connector_order pause = {.verb = CONNECTOR_PAUSE, .name = "k"};
    assert_int_equal(connectors_order(w.cs, &pause, &err), FB_OK);
    assert_int_equal(connectors_resend(w.cs, "k", "", &number, &err), FB_E_CONFLICT);
    assert_non_null(strstr(err.text, "is paused"));
    assert_int_equal(letters_left(&w), 10);
    connectors_finish(&w);
    world_end(&w);
}

static void files_that_take_longer_to_read_than_a_slice_lasts_are_sent_all_the_same(void **state)
{
    struct world w;
    (void)state;
    bury(&w, 10);
    set_poison(false, 0);
    atomic_store(&slow_ms, 2100);
    struct connector_resend done = send_all(&w, "");
    atomic_store(&slow_ms, 0);
    assert_int_equal(done.state, RESEND_DONE);
    assert_int_equal(done.sent, 10);
    assert_int_equal(letters_left(&w), 0);
    connectors_finish(&w);
    world_end(&w);
}

static void what_was_removed_after_it_was_read_is_not_sent(void **state)
{
    struct world w;
    (void)state;
    bury(&w, 10);
    set_poison(false, 0);
    atomic_store(&is_removing, true);
    struct connector_resend done = send_all(&w, "");
    assert_int_equal(done.state, RESEND_DONE);
    assert_int_equal(done.sent, 0);
    assert_int_equal(peer.count, 0);
    assert_int_equal(letters_left(&w), 0);
    connectors_finish(&w);
    world_end(&w);
}

/* As if the clock had been set back after they were buried. */
static void letters_of_times_to_come_are_sent_too(void **state)
{
    struct world w;
    char path[120], text[64 * KIB];
    (void)state;
    bury(&w, 10);
    set_poison(false, 0);
    snprintf(path, sizeof path, "%s/connectors/k.dead.jsonl", w.state_dir);
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    size_t len = fread(text, 1, sizeof text - 1, file), changed = 0;
    text[len] = '\0';
    assert_true(len < sizeof text - 1);
    for (char *at = text; (at = strstr(at, "{\"time_ms\":1")); changed++)
        at[11] = '3', at += 11;
    assert_int_equal(changed, 10);
    rewind(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
    struct connector_resend done = send_all(&w, "");
    assert_int_equal(done.state, RESEND_DONE);
    assert_int_equal(done.sent, 10);
    assert_int_equal(letters_left(&w), 0);
    connectors_finish(&w);
    world_end(&w);
}

/* Offsets 0 and 1 fail by their records, the others are good. */
static void what_a_command_fails_at_stays_and_the_others_go(void **state)
{
    struct world w;
    (void)state;
    bury(&w, 20);
    peer_lock();
    peer.is_poison = false;
    peer.fails_below = 2;
    peer_unlock();
    uint64_t errors = status(&w).errors;
    struct connector_resend done = send_all(&w, "");
    assert_int_equal(done.state, RESEND_DONE);
    assert_int_equal(done.sent, 18);
    assert_int_equal(done.kept, 2);
    assert_int_equal(letters_left(&w), 2);
    assert_int_equal(peer.got[0], 2);
    assert_int_equal(status(&w).errors, errors); /* what is new goes on as before */
    assert_int_equal(status(&w).state, CONNECTOR_RUNNING);
    connectors_finish(&w);
    world_end(&w);
}

/* The receiver asserts that nothing is sent in a session that is over. */
static void a_receiver_that_keeps_a_mark_is_asked_for_it_behind_each_that_it_refused(void **state)
{
    struct world w;
    (void)state;
    bury(&w, 20);
    struct connector_order pause = {.verb = CONNECTOR_PAUSE, .name = "k"}, on = pause;
    struct fb_err err;
    on.verb = CONNECTOR_RESUME;
    assert_int_equal(connectors_order(w.cs, &pause, &err), FB_OK);
    UNTIL(&w, status(&w).state == CONNECTOR_PAUSED);
    peer_lock();
    peer.is_poison = false;
    peer.keeps_mark = true;
    peer.fails_below = 5;
    peer_unlock();
    assert_int_equal(connectors_order(w.cs, &on, &err), FB_OK);
    struct connector_resend done = send_all(&w, "");
    assert_int_equal(done.state, RESEND_DONE);
    assert_int_equal(done.sent, 15);
    assert_int_equal(done.kept, 5);
    assert_int_equal(letters_left(&w), 5);
    append_slowly(&w, 10);
    UNTIL(&w, PEER(peer.count) == 25);
    connectors_finish(&w);
    world_end(&w);
}

static void set_slow(uint32_t slow_ms)
{
    peer_lock();
    peer.slow_ms = slow_ms;
    peer_unlock();
}

/* More than 4 s for 80 of them: three slices. */
static void many_slices_are_one_rewrite_and_each_letter_is_read_once(void **state)
{
    struct world w;
    (void)state;
    bury(&w, 80);
    set_poison(false, 0);
    set_slow(60);
    atomic_store(&rewrites, 0);
    atomic_store(&lines_read, 0);
    struct connector_resend done = send_all(&w, "");
    set_slow(0);
    assert_int_equal(done.state, RESEND_DONE);
    assert_int_equal(done.sent, 80);
    assert_int_equal(peer.count, 80);
    assert_int_equal(atomic_load(&rewrites), 1);
    assert_int_equal(atomic_load(&lines_read), 160); /* for the newest time, and to be sent */
    assert_int_equal(letters_left(&w), 0);
    connectors_finish(&w);
    world_end(&w);
}

/* Else a kill in the slice has the events sent again, beside their letters. */
static void the_position_is_kept_before_the_first_letter_goes_out(void **state)
{
    struct world w;
    struct fb_err err;
    uint32_t number;
    (void)state;
    bury(&w, 10);
    append_slowly(&w, 10); /* within the 100 ms in which a position is kept once */
    UNTIL(&w, status(&w).dead == 20);
    set_poison(false, 0);
    set_slow(60);
    assert_int_equal(connectors_resend(w.cs, "k", "", &number, &err), FB_OK);
    UNTIL(&w, PEER(peer.count) >= 1);
    assert_int_equal(status(&w).offset, 20);
    set_slow(0);
    UNTIL(&w, status(&w).resend.number == number && status(&w).resend.state >= RESEND_DONE);
    assert_int_equal(letters_left(&w), 0);
    connectors_finish(&w);
    world_end(&w);
}

static bool is_of_offset_70(void *ctx, struct span line)
{
    (void)ctx;
    return memmem(line.at, line.len, "\"offset\":70,", 12) != NULL;
}

static void a_file_that_another_writes_anew_meanwhile_is_gone_on_with(void **state)
{
    struct world w;
    struct fb_err err;
    (void)state;
    bury(&w, 80);
    set_poison(false, 0);
    set_slow(60);
    uint32_t number;
    assert_int_equal(connectors_resend(w.cs, "k", "", &number, &err), FB_OK);
    UNTIL(&w, PEER(peer.count) >= 5);
    struct letters one = {.is_removing = true, .is_closed = true, .is_meant = is_of_offset_70};
    assert_int_equal(__real_letters_go_through(w.state_dir, &one, &err), FB_OK);
    assert_int_equal(one.meant, 1);
    UNTIL(&w, status(&w).resend.number == number && status(&w).resend.state >= RESEND_DONE);
    set_slow(0);
    assert_int_equal(status(&w).resend.state, RESEND_DONE);
    assert_int_equal(status(&w).resend.sent, 79);
    assert_int_equal(peer.count, 79);
    for (uint32_t i = 0; i < 79; i++)
        assert_int_equal(peer.got[i], i < 70 ? i : i + 1);
    assert_int_equal(letters_left(&w), 0);
    connectors_finish(&w);
    world_end(&w);
}

static void note_id(void *ctx, const struct letter_view *view)
{
    struct buf *ids = ctx;
    char id[LETTER_ID_BYTES];
    letter_line_id(view->stored, id);
    buf_puts(ids, id);
    buf_puts(ids, "\n");
}

/* The ids of 12 of 20, and half of one more. */
static void what_a_run_that_died_had_delivered_goes_and_is_not_sent_again(void **state)
{
    struct world w;
    char path[120];
    struct fb_err err;
    struct buf ids;
    (void)state;
    bury(&w, 20);
    struct connector_order pause = {.verb = CONNECTOR_PAUSE, .name = "k"}, on = pause;
    on.verb = CONNECTOR_RESUME;
    assert_int_equal(connectors_order(w.cs, &pause, &err), FB_OK);
    UNTIL(&w, status(&w).state == CONNECTOR_PAUSED);
    buf_init(&ids, 64 * KIB);
    struct letters all = {.is_closed = true, .each = note_id, .ctx = &ids};
    assert_int_equal(__real_letters_go_through(w.state_dir, &all, &err), FB_OK);
    snprintf(path, sizeof path, "%s/connectors/k.resent", w.state_dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(ids.at, 1, 12 * LETTER_ID_BYTES + 9, file), 12 * LETTER_ID_BYTES + 9);
    assert_int_equal(fclose(file), 0);
    buf_fini(&ids);
    set_poison(false, 0);
    assert_int_equal(connectors_order(w.cs, &on, &err), FB_OK);
    UNTIL(&w, letters_left(&w) == 8);
    UNTIL(&w, access(path, F_OK) != 0);
    struct connector_resend done = send_all(&w, "");
    assert_int_equal(done.state, RESEND_DONE);
    assert_int_equal(done.sent, 8);
    assert_int_equal(peer.count, 8);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(peer.got[i], 12 + i);
    assert_int_equal(letters_left(&w), 0);
    connectors_finish(&w);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_delivered_goes_oldest_first),
        cmocka_unit_test(what_is_refused_stays),
        cmocka_unit_test(when_the_receiver_goes_away_what_was_not_delivered_stays),
        cmocka_unit_test(files_that_take_longer_to_read_than_a_slice_lasts_are_sent_all_the_same),
        cmocka_unit_test(what_was_removed_after_it_was_read_is_not_sent),
        cmocka_unit_test(many_slices_are_one_rewrite_and_each_letter_is_read_once),
        cmocka_unit_test(the_position_is_kept_before_the_first_letter_goes_out),
        cmocka_unit_test(a_file_that_another_writes_anew_meanwhile_is_gone_on_with),
        cmocka_unit_test(what_a_run_that_died_had_delivered_goes_and_is_not_sent_again),
        cmocka_unit_test(letters_of_times_to_come_are_sent_too),
        cmocka_unit_test(what_a_command_fails_at_stays_and_the_others_go),
        cmocka_unit_test(a_receiver_that_keeps_a_mark_is_asked_for_it_behind_each_that_it_refused),
        cmocka_unit_test(an_id_that_is_not_there_is_told_and_orders_have_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
