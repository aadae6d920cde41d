/* SPDX-License-Identifier: Apache-2.0 */
/* The batch itself, without sockets: what would be written is written down here instead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "gateway/send_batch.c"

static struct worker worker;
static struct client clients[SEND_BATCH_MAX + 2];
static struct upstream upstreams[SEND_BATCH_MAX + 2];
static struct request request;
static struct chunk kept;
static char small[] = "HTTP/1.1 200 OK\r\n\r\n";

static const void *written[4 * SEND_BATCH_MAX];
static size_t written_count, kept_bytes;
static bool has_no_memory;
static void (*on_written)(const void *who); /* what the writing sets going */

static void note(const void *who)
{
    assert_true(written_count < FB_COUNT(written));
    written[written_count++] = who;
    if (on_written)
        on_written(who);
}

/* ---- what send_batch.c calls ---- */
void client_run(struct client *c)
{
    assert_false(c->is_send_due);
    c->out = NULL;
    note(c);
}

void upstream_send_now(struct upstream *up)
{
    assert_false(up->is_send_due);
    note(up);
}

bool chunk_append(struct chunk_store *store, struct chunk **c, struct span bytes)
{
    assert_ptr_equal(store, &worker.chunks);
    if (has_no_memory)
        return false;
    *c = &kept;
    kept_bytes += bytes.len;
    return true;
}

/* ---- tools ---- */
static int begin(void **state)
{
    (void)state;
    struct fb_err err;
    memset(&worker, 0, sizeof worker);
    memset(clients, 0, sizeof clients);
    memset(upstreams, 0, sizeof upstreams);
    for (size_t i = 0; i < FB_COUNT(clients); i++) {
        clients[i] = (struct client){.worker = &worker, .can_write = true};
        upstreams[i] = (struct upstream){.worker = &worker};
    }
    written_count = kept_bytes = 0;
    has_no_memory = false;
    on_written = NULL;
    send_batch_init(&worker.sends);
    return loop_new(&worker.loop, &err) == FB_OK ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    loop_free(worker.loop);
    return 0;
}

static bool answer_later(struct client *c)
{
    struct iovec iov = {small, sizeof small - 1};
    return client_send_later(c, &iov, 1);
}

static void turn(void)
{
    loop_turn(worker.loop, 0);
}

/* ---- tests ---- */
static void all_of_a_turn_is_written_at_its_end_requests_first(void **state)
{
    (void)state;
    assert_true(answer_later(&clients[0]));
    assert_true(upstream_send_later(&upstreams[0]));
    assert_true(answer_later(&clients[1]));
    assert_true(upstream_send_later(&upstreams[1]));
    assert_int_equal(written_count, 0);
    turn();
    const void *want[] = {&upstreams[0], &upstreams[1], &clients[0], &clients[1]};
    assert_int_equal(written_count, FB_COUNT(want));
    assert_memory_equal(written, want, sizeof want);
    turn();
    assert_int_equal(written_count, FB_COUNT(want)); /* once */
}

static void a_request_that_is_due_twice_is_written_once(void **state)
{
    (void)state;
    assert_true(upstream_send_later(&upstreams[0]));
    assert_true(upstream_send_later(&upstreams[0]));
    turn();
    assert_int_equal(written_count, 1);
}

static void an_answer_counts_for_its_request_with_all_its_parts(void **state)
{
    (void)state;
    struct iovec iov[2] = {{small, 5}, {small, 7}};
    clients[0].req = &request;
    request.sent_bytes = 100;
    assert_true(client_send_later(&clients[0], iov, 2));
    assert_int_equal(request.sent_bytes, 112);
    assert_int_equal(kept_bytes, 12);
    assert_ptr_equal(clients[0].out, &kept);
}

static void what_must_not_wait_is_refused(void **state)
{
    (void)state;
    static char large[CHUNK_SMALL_BYTES + 1];
    struct iovec iov = {large, sizeof large};
    assert_false(client_send_later(&clients[0], &iov, 1));
    clients[1].out = &kept; /* something stands before it */
    assert_false(answer_later(&clients[1]));
    clients[2].can_write = false;
    assert_false(answer_later(&clients[2]));
    clients[3].is_broken = true;
    assert_false(answer_later(&clients[3]));
    iov.iov_len--; /* the largest that may */
    assert_true(client_send_later(&clients[4], &iov, 1));
    turn();
    assert_int_equal(written_count, 1);
    assert_ptr_equal(written[0], &clients[4]);
}

static void without_memory_the_connection_is_broken_and_not_in_the_batch(void **state)
{
    (void)state;
    has_no_memory = true;
    assert_true(answer_later(&clients[0]));
    assert_true(clients[0].is_broken);
    assert_false(clients[0].is_send_due);
    turn();
    assert_int_equal(written_count, 0);
}

static void who_closes_is_taken_out(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_true(answer_later(&clients[i]));
        assert_true(upstream_send_later(&upstreams[i]));
    }
    send_batch_forget_client(&clients[1]);
    send_batch_forget_upstream(&upstreams[0]);
    send_batch_forget_upstream(&upstreams[9]); /* never was in it */
    send_batch_forget_client(&clients[9]);
    assert_false(clients[1].is_send_due);
    turn();
    const void *want[] = {&upstreams[1], &upstreams[2], &clients[0], &clients[2]};
    assert_int_equal(written_count, FB_COUNT(want));
    assert_memory_equal(written, want, sizeof want);
}

static void forget_the_others(const void *who)
{
    if (who != &upstreams[0])
        return;
    send_batch_forget_upstream(&upstreams[1]);
    send_batch_forget_client(&clients[0]);
}

static void a_write_may_close_those_that_stand_behind_it(void **state)
{
    (void)state;
    on_written = forget_the_others;
    assert_true(upstream_send_later(&upstreams[0]));
    assert_true(upstream_send_later(&upstreams[1]));
    assert_true(answer_later(&clients[0]));
    assert_true(answer_later(&clients[1]));
    turn();
    const void *want[] = {&upstreams[0], &clients[1]};
    assert_int_equal(written_count, FB_COUNT(want));
    assert_memory_equal(written, want, sizeof want);
}

static int rounds;

static void answer_again(const void *who)
{
    if (who == &clients[0] && rounds-- > 0) { /* the next request of a pipeline */
        assert_true(answer_later(&clients[0]));
        assert_true(upstream_send_later(&upstreams[0]));
    }
}

static void what_the_writing_sets_going_waits_for_the_next_turn(void **state)
{
    (void)state;
    on_written = answer_again;
    rounds = 2;
    assert_true(answer_later(&clients[0]));
    assert_true(answer_later(&clients[1]));
    turn();
    assert_int_equal(written_count, 2);
    assert_true(clients[0].is_send_due);
    turn();
    assert_int_equal(written_count, 4);
    assert_ptr_equal(written[2], &upstreams[0]);
    assert_ptr_equal(written[3], &clients[0]);
    turn();
    assert_int_equal(written_count, 6);
    turn();
    assert_int_equal(written_count, 6);
    assert_int_equal(worker.sends.client_count, 0);
    assert_int_equal(worker.sends.upstream_count, 0);
}

static void a_full_batch_says_write_it_now_and_is_empty_in_the_next_turn(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < SEND_BATCH_MAX; i++) {
        assert_true(answer_later(&clients[i]));
        assert_true(upstream_send_later(&upstreams[i]));
    }
    assert_false(answer_later(&clients[SEND_BATCH_MAX]));
    assert_false(upstream_send_later(&upstreams[SEND_BATCH_MAX]));
    assert_false(clients[SEND_BATCH_MAX].is_send_due);
    assert_null(clients[SEND_BATCH_MAX].out);
    assert_false(upstreams[SEND_BATCH_MAX].is_send_due);
    turn();
    assert_int_equal(written_count, 2 * SEND_BATCH_MAX);
    assert_true(answer_later(&clients[SEND_BATCH_MAX]));
    assert_true(upstream_send_later(&upstreams[SEND_BATCH_MAX]));
}

/* ---- refusals that rest ---- */
static struct request refused = {.reason = REASON_SHED_OVERLOAD};

static bool refuse_later(struct client *c)
{
    c->req = &refused;
    return answer_later(c);
}

static void rest_over(void)
{
    uint64_t until_us = fb_mono_us() + 20 * US_PER_S;
    while (worker.sends.resting_count > 0 && fb_mono_us() < until_us)
        loop_turn(worker.loop, 10);
}

static void refusals_rest_while_many_are_given_and_leave_together(void **state)
{
    (void)state;
    send_batch_rest(&worker.sends, true);
    loop_refresh_us(worker.loop);
    uint64_t from_us = fb_mono_us();
    assert_true(refuse_later(&clients[0]));
    assert_true(answer_later(&clients[1])); /* not a refusal */
    assert_true(refuse_later(&clients[2]));
    worker.sends.may_rest = false; /* what rests already goes on resting */
    assert_true(refuse_later(&clients[3]));
    turn();
    const void *want[] = {&clients[1], &clients[3], &clients[0], &clients[2]};
    assert_memory_equal(written, want, 2 * sizeof want[0]);
    rest_over();
    assert_int_equal(written_count, FB_COUNT(want));
    assert_memory_equal(written, want, sizeof want);
    assert_true(fb_mono_us() - from_us >= SEND_BATCH_REST_US);
}

static void who_closes_while_it_rests_is_taken_out(void **state)
{
    (void)state;
    send_batch_rest(&worker.sends, true);
    assert_true(refuse_later(&clients[0]));
    assert_true(refuse_later(&clients[1]));
    send_batch_forget_client(&clients[0]);
    assert_false(clients[0].is_send_due);
    rest_over();
    assert_int_equal(written_count, 1);
    assert_ptr_equal(written[0], &clients[1]);
}

static void refuse_again(const void *who)
{
    if (who == &clients[0] && rounds-- > 0)
        assert_true(refuse_later(&clients[0]));
}

static void a_pipeline_that_is_refused_again_rests_again(void **state)
{
    (void)state;
    send_batch_rest(&worker.sends, true);
    on_written = refuse_again;
    rounds = 2;
    assert_true(refuse_later(&clients[0]));
    rest_over();
    assert_int_equal(written_count, 3);
    assert_int_equal(rounds, -1);
}

static void more_than_may_rest_leave_with_the_turn(void **state)
{
    (void)state;
    send_batch_rest(&worker.sends, true);
    for (uint32_t i = 0; i < SEND_BATCH_MAX + 2; i++)
        assert_true(refuse_later(&clients[i]));
    assert_int_equal(worker.sends.resting_count, SEND_BATCH_MAX);
    assert_int_equal(worker.sends.client_count, 2);
    rest_over();
    turn();
    assert_int_equal(written_count, SEND_BATCH_MAX + 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(all_of_a_turn_is_written_at_its_end_requests_first),
        TEST(a_request_that_is_due_twice_is_written_once),
        TEST(an_answer_counts_for_its_request_with_all_its_parts),
        TEST(what_must_not_wait_is_refused),
        TEST(without_memory_the_connection_is_broken_and_not_in_the_batch),
        TEST(who_closes_is_taken_out),
        TEST(a_write_may_close_those_that_stand_behind_it),
        TEST(what_the_writing_sets_going_waits_for_the_next_turn),
        TEST(a_full_batch_says_write_it_now_and_is_empty_in_the_next_turn),
        TEST(refusals_rest_while_many_are_given_and_leave_together),
        TEST(who_closes_while_it_rests_is_taken_out),
        TEST(a_pipeline_that_is_refused_again_rests_again),
        TEST(more_than_may_rest_leave_with_the_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
