/* SPDX-License-Identifier: Apache-2.0 */
/* A tunnel between sources that never run dry, without sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "gateway/tunnel.c"

#define CLIENT_FD 1
#define UPSTREAM_FD 2
/* A turn without a bound would never end: the test ends it here. */
#define FAR_TOO_MANY 1000

static struct worker worker;
static struct client client;
static struct upstream upstream;
static struct request request;
static char scratch[CHUNK_BODY_BYTES];
static struct chunk kept;

static uint32_t from_client_reads, from_upstream_reads;
static bool does_client_send, does_upstream_send, is_spliced;
static bool has_ended;

static ssize_t count_read(int fd, size_t bytes)
{
    bool is_client = fd == CLIENT_FD;
    uint32_t *reads = is_client ? &from_client_reads : &from_upstream_reads;
    if (!(is_client ? does_client_send : does_upstream_send)) {
        errno = EAGAIN;
        return -1;
    }
    assert_true(++*reads < FAR_TOO_MANY);
    return (ssize_t)bytes;
}

/* ---- what tunnel.c calls ---- */
ssize_t link_recv(struct link *l, void *at, size_t room)
{
    assert_ptr_equal(at, scratch);
    assert_true(room <= sizeof scratch);
    return count_read(l->fd, room);
}

ssize_t link_write(struct link *l, struct iovec *iov, int count)
{
    assert_int_equal(l->fd, UPSTREAM_FD);
    assert_int_equal(count, 1);
    return (ssize_t)iov->iov_len;
}

void link_shutdown(struct link *l)
{
    (void)l;
}

bool chunk_append(struct chunk_store *store, struct chunk **c, struct span bytes)
{
    assert_ptr_equal(store, &worker.chunks);
    assert_null(*c);
    kept = (struct chunk){.to = (uint32_t)bytes.len};
    *c = &kept;
    return true;
}

void chunk_give(struct chunk_store *store, struct chunk *c)
{
    (void)store;
    assert_ptr_equal(c, &kept);
}

bool tcp_splice_fits(const struct request *req, const struct link *from, const struct link *to)
{
    (void)req, (void)from, (void)to;
    return is_spliced;
}

enum splice_step tcp_splice(struct worker *w, int from, int to, struct tcp_moved *moved)
{
    (void)w, (void)to;
    *moved = (struct tcp_moved){.bytes = CHUNK_BODY_BYTES};
    return count_read(from, CHUNK_BODY_BYTES) < 0 ? SPLICE_WAITS : SPLICE_MOVED;
}

void client_send(struct client *c, struct iovec *iov, int count)
{
    (void)iov, (void)count;
    assert_ptr_equal(c, &client);
}

void client_end_send(struct client *c)
{
    (void)c;
}

void client_wait(struct client *c)
{
    (void)c;
}

void request_arm(struct request *req)
{
    (void)req;
}

void service_first_byte(struct request *req)
{
    (void)req;
}

void service_done(struct request *req, enum gate_outcome outcome)
{
    (void)req, (void)outcome;
}

void upstream_close(struct upstream *up)
{
    loop_job_cancel(worker.loop, &up->again);
    has_ended = true;
}

void h2u_send(struct upstream *up)
{
    (void)up;
}

bool h2u_tunnel_read(struct request *req)
{
    (void)req;
    return true;
}

bool h2u_tunnel_end(struct request *req)
{
    (void)req;
    return true;
}

struct chunk *h2_stream_take(struct client *c)
{
    (void)c;
    return NULL;
}

bool h2_stream_has_ended(const struct client *c)
{
    (void)c;
    return false;
}

/* ---- tools ---- */
static void on_job(struct loop_job *job)
{
    assert_ptr_equal(job, &upstream.again);
    tunnel_run(&request);
}

static int begin(void **state)
{
    (void)state;
    struct fb_err err;
    worker = (struct worker){.in = scratch, .in_bytes = sizeof scratch};
    upstream = (struct upstream){.worker = &worker,
                                 .req = &request,
                                 .again = {.on_run = on_job},
                                 .link = {.fd = UPSTREAM_FD},
                                 .can_read = true,
                                 .can_write = true};
    client = (struct client){.worker = &worker,
                             .req = &request,
                             .kind = CLIENT_TCP,
                             .link = {.fd = CLIENT_FD},
                             .can_read = true,
                             .can_write = true};
    request = (struct request){.worker = &worker,
                               .client = &client,
                               .up = &upstream,
                               .protocol = EV_PROTOCOL_TCP,
                               .phase = REQUEST_TUNNEL};
    from_client_reads = from_upstream_reads = 0;
    does_client_send = does_upstream_send = true;
    is_spliced = has_ended = false;
    return loop_new(&worker.loop, &err) == FB_OK ? 0 : -1;
}

static int end_of_test(void **state)
{
    (void)state;
    loop_job_cancel(worker.loop, &upstream.again);
    loop_free(worker.loop);
    return 0;
}

/* ---- tests ---- */
static void each_direction_reads_a_few_times_and_goes_on_in_the_next_turn(void **state)
{
    (void)state;
    for (uint32_t way = 0; way < 2; way++) {
        is_spliced = way == 1;
        from_client_reads = from_upstream_reads = 0;
        tunnel_run(&request);
        assert_int_equal(from_client_reads, READS_PER_TURN);
        assert_int_equal(from_upstream_reads, READS_PER_TURN);
        for (uint32_t turn = 2; turn < 5; turn++) {
            loop_turn(worker.loop, 0);
            assert_int_equal(from_client_reads, turn * READS_PER_TURN);
            assert_int_equal(from_upstream_reads, turn * READS_PER_TURN);
        }
        loop_job_cancel(worker.loop, &upstream.again);
    }
}

static void events_of_the_same_turn_give_no_second_share(void **state)
{
    (void)state;
    tunnel_run(&request);
    tunnel_run(&request);
    tunnel_run(&request);
    assert_int_equal(from_client_reads, READS_PER_TURN);
    assert_int_equal(from_upstream_reads, READS_PER_TURN);
}

static void what_waits_is_written_also_while_the_reading_rests(void **state)
{
    (void)state;
    tunnel_run(&request);
    kept = (struct chunk){.to = 5};
    upstream.out = &kept;
    tunnel_run(&request);
    assert_null(upstream.out);
    assert_int_equal(from_client_reads, READS_PER_TURN);
}

static void a_direction_that_runs_dry_leaves_no_work_behind(void **state)
{
    (void)state;
    does_client_send = does_upstream_send = false;
    tunnel_run(&request);
    assert_false(upstream.again.is_queued);
    assert_false(client.can_read);
    assert_false(upstream.can_read);
}

static void a_reset_ends_the_tunnel_while_its_reading_rests(void **state)
{
    (void)state;
    tunnel_run(&request);
    client.is_broken = true;
    tunnel_run(&request);
    assert_true(has_ended);
    assert_false(upstream.again.is_queued);
    assert_int_equal(request.reason, REASON_TUNNEL_CUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            each_direction_reads_a_few_times_and_goes_on_in_the_next_turn, begin, end_of_test),
        cmocka_unit_test_setup_teardown(events_of_the_same_turn_give_no_second_share, begin,
                                        end_of_test),
        cmocka_unit_test_setup_teardown(what_waits_is_written_also_while_the_reading_rests, begin,
                                        end_of_test),
        cmocka_unit_test_setup_teardown(a_direction_that_runs_dry_leaves_no_work_behind, begin,
                                        end_of_test),
        cmocka_unit_test_setup_teardown(a_reset_ends_the_tunnel_while_its_reading_rests, begin,
                                        end_of_test),
    };
    return cmocka_run_group_tests_name("gateway/tunnel", tests, NULL, NULL);
}
