/* SPDX-License-Identifier: Apache-2.0 */
#include "io/loop.h"

#include "io/thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct end {
    struct loop_handle handle;
    struct loop *loop;
    struct end *kills;
    uint32_t calls, events;
};

static void on_ready(struct loop_handle *h, uint32_t events)
{
    struct end *e = FB_CONTAINER(h, struct end, handle);
    e->calls++;
    e->events |= events;
    if (e->kills)
        loop_remove(e->loop, &e->kills->handle);
}

static struct loop *new_loop(void)
{
    struct loop *l = NULL;
    struct fb_err err;
    assert_int_equal(loop_new(&l, &err), FB_OK);
    return l;
}

static void edge_triggered_handles_tell_once(void **state)
{
    (void)state;
    struct loop *l = new_loop();
    struct end e = {.handle = {.on_ready = on_ready, .fd = -1}, .loop = l};
    int p[2];
    assert_int_equal(pipe(p), 0);
    assert_int_equal(loop_add(l, &e.handle, p[0], LOOP_READ | LOOP_EDGE), FB_OK);
    assert_int_equal(write(p[1], "x", 1), 1);
    loop_turn(l, 0);
    loop_turn(l, 0);
    assert_int_equal(e.calls, 1);
    assert_true(e.events & LOOP_READ);
    close(p[1]);
    loop_turn(l, 0);
    assert_true(e.events & LOOP_END);
    loop_remove(l, &e.handle);
    assert_int_equal(e.handle.fd, -1);
    close(p[0]);
    loop_free(l);
}

static void level_triggered_handles_tell_again_until_changed(void **state)
{
    (void)state;
    struct loop *l = new_loop();
    struct end e = {.handle = {.on_ready = on_ready, .fd = -1}, .loop = l};
    int p[2];
    assert_int_equal(pipe(p), 0);
    assert_int_equal(loop_add(l, &e.handle, p[0], LOOP_READ), FB_OK);
    assert_int_equal(write(p[1], "x", 1), 1);
    loop_turn(l, 0);
    loop_turn(l, 0);
    assert_int_equal(e.calls, 2);
    loop_change(l, &e.handle, 0);
    loop_turn(l, 0);
    assert_int_equal(e.calls, 2);
    loop_remove(l, &e.handle);
    close(p[0]);
    close(p[1]);
    loop_free(l);
}

static void a_handle_removed_in_a_turn_is_not_called_in_it(void **state)
{
    (void)state;
    struct loop *l = new_loop();
    struct end a = {.handle = {.on_ready = on_ready, .fd = -1}, .loop = l};
    struct end b = a;
    a.kills = &b;
    b.kills = &a;
    int p[2];
    assert_int_equal(pipe(p), 0);
    int other = dup(p[0]);
    assert_int_equal(loop_add(l, &a.handle, p[0], LOOP_READ), FB_OK);
    assert_int_equal(loop_add(l, &b.handle, other, LOOP_READ), FB_OK);
    assert_int_equal(write(p[1], "x", 1), 1);
    loop_turn(l, 0);
    assert_int_equal(a.calls + b.calls, 1);
    close(p[0]);
    close(p[1]);
    close(other);
    loop_free(l);
}

struct task {
    struct loop_job job;
    struct loop_message message;
    struct loop *loop;
    uint32_t runs, order;
};
static uint32_t order;

static void on_run(struct loop_job *j)
{
    struct task *t = FB_CONTAINER(j, struct task, job);
    t->order = ++order;
    if (t->runs++ == 0)
        loop_defer(t->loop, j);
}

static void on_message(struct loop_message *m)
{
    struct task *t = FB_CONTAINER(m, struct task, message);
    t->order = ++order;
    t->runs++;
}

static void jobs_run_once_in_order_and_may_ask_again_for_the_next_turn(void **state)
{
    (void)state;
    struct loop *l = new_loop();
    struct task a = {.job = {.on_run = on_run}, .loop = l}, b = a, c = a;
    order = 0;
    loop_defer(l, &a.job);
    loop_defer(l, &b.job);
    loop_defer(l, &a.job);
    loop_defer(l, &c.job);
    loop_job_cancel(l, &c.job);
    loop_turn(l, 0);
    assert_int_equal(a.runs, 1);
    assert_true(a.order < b.order);
    loop_turn(l, 1000);
    assert_int_equal(a.runs, 2);
    assert_int_equal(c.runs, 0);
    loop_free(l);
}

#define MESSAGES 20000

static void *post_all(void *arg)
{
    struct task *tasks = arg;
    for (int i = 0; i < MESSAGES; i++)
        loop_post(tasks[i].loop, &tasks[i].message);
    return NULL;
}

static void messages_of_another_thread_all_come_in_order(void **state)
{
    (void)state;
    struct loop *l = new_loop();
    struct task *tasks = calloc(MESSAGES, sizeof *tasks);
    pthread_t thread;
    order = 0;
    for (int i = 0; i < MESSAGES; i++)
        tasks[i] = (struct task){.message = {.on_message = on_message}, .loop = l};
    assert_int_equal(thread_start(&thread, "poster", post_all, tasks), FB_OK);
    while (tasks[MESSAGES - 1].runs == 0)
        loop_turn(l, 100);
    pthread_join(thread, NULL);
    for (int i = 0; i < MESSAGES; i++)
        assert_int_equal(tasks[i].order, i + 1);
    free(tasks);
    loop_free(l);
}

static struct spin lock;
static uint64_t counter;

static void *count(void *arg)
{
    for (int i = 0; i < 100000; i++) {
        spin_lock(&lock);
        counter++;
        spin_unlock(&lock);
    }
    return arg;
}

static void the_spin_lock_excludes(void **state)
{
    (void)state;
    pthread_t t[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(thread_start(&t[i], "count", count, NULL), FB_OK);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(counter, 300000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edge_triggered_handles_tell_once),
        cmocka_unit_test(level_triggered_handles_tell_again_until_changed),
        cmocka_unit_test(a_handle_removed_in_a_turn_is_not_called_in_it),
        cmocka_unit_test(jobs_run_once_in_order_and_may_ask_again_for_the_next_turn),
        cmocka_unit_test(messages_of_another_thread_all_come_in_order),
        cmocka_unit_test(the_spin_lock_excludes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
