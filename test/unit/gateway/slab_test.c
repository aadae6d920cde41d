/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/slab.h"

#include "base/sanitize.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void what_was_given_last_is_taken_first(void **state)
{
    (void)state;
    struct slab s;
    if (FB_IS_SANITIZED)
        skip();
    slab_init(&s, 64, 10);
    void *a = slab_take(&s), *b = slab_take(&s);
    slab_give(&s, a);
    slab_give(&s, b);
    assert_ptr_equal(slab_take(&s), b);
    assert_ptr_equal(slab_take(&s), a);
    slab_give(&s, a);
    slab_give(&s, b);
    assert_int_equal(s.used_count, 0);
    slab_fini(&s);
}

static void a_free_list_keeps_no_more_than_its_maximum(void **state)
{
    (void)state;
    struct slab s;
    void *p[20];
    slab_init(&s, 64, 5);
    for (int i = 0; i < 20; i++)
        p[i] = slab_take(&s);
    for (int i = 0; i < 20; i++)
        slab_give(&s, p[i]);
    assert_int_equal(s.free_count, FB_IS_SANITIZED ? 0 : 5);
    slab_fini(&s);
}

static void a_chunk_grows_through_its_sizes_and_keeps_its_bytes(void **state)
{
    (void)state;
    struct chunk_store s;
    struct chunk *c = NULL;
    chunk_store_init(&s);
    for (int i = 0; i < 10000; i++) {
        char text[8] = {(char)('a' + i % 26), 'x', 'y', 'z'};
        assert_true(chunk_append(&s, &c, (struct span){text, 4}));
    }
    struct span all = chunk_span(c);
    assert_int_equal(all.len, 40000);
    assert_int_equal(c->kind, CHUNK_LARGE);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(all.at[4 * i], 'a' + i % 26);
    chunk_give(&s, c);
    assert_int_equal(s.small.used_count, 0);
    assert_int_equal(s.body.used_count, 0);
    chunk_store_fini(&s);
}

static void bytes_taken_from_the_front_do_not_come_back(void **state)
{
    (void)state;
    struct chunk_store s;
    struct chunk *c = NULL;
    chunk_store_init(&s);
    assert_true(chunk_append(&s, &c, SPAN("hello world")));
    c->from = 6;
    assert_true(chunk_append(&s, &c, SPAN("!")));
    assert_true(span_eq(chunk_span(c), SPAN("world!")));
    c->from = c->to;
    assert_true(chunk_append(&s, &c, SPAN("new")));
    assert_true(span_eq(chunk_span(c), SPAN("new")));
    assert_int_equal(c->from, 0);
    chunk_give(&s, c);
    chunk_store_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_given_last_is_taken_first),
        cmocka_unit_test(a_free_list_keeps_no_more_than_its_maximum),
        cmocka_unit_test(a_chunk_grows_through_its_sizes_and_keeps_its_bytes),
        cmocka_unit_test(bytes_taken_from_the_front_do_not_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
