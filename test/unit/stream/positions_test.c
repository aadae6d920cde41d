/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>

#include "stream/connectors/positions.h"

static void a_full_table_gives_up_what_was_set_longest_ago(void **state)
{
    (void)state;
    struct positions p;
    char topic[32];
    positions_init(&p, false);
    for (uint32_t i = 0; i < POSITIONS_PARTITIONS_MAX; i++) {
        snprintf(topic, sizeof topic, "file#%u", i);
        assert_true(positions_set(&p, topic, 0, "10"));
    }
    assert_true(positions_set(&p, "file#0", 0, "20")); /* in use */
    assert_true(positions_set(&p, "new", 0, "1"));
    assert_int_equal(p.count, POSITIONS_PARTITIONS_MAX);
    assert_string_equal(positions_get(&p, "new", 0), "1");
    assert_string_equal(positions_get(&p, "file#0", 0), "20");
    assert_null(positions_get(&p, "file#1", 0));
    assert_string_equal(positions_get(&p, "file#2", 0), "10");
    positions_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_table_gives_up_what_was_set_longest_ago),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
