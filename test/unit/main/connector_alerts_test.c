/* SPDX-License-Identifier: Apache-2.0 */
#include "main/connector_alerts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct connector_word words[CONNECTOR_WORDS_MAX];
static struct connector_said said;
static struct connector_status status;
static struct connector_seen seen;

static int set_up(void **state)
{
    (void)state;
    said = (struct connector_said){.name = "out"};
    status = (struct connector_status){
        .name = "out", .state = CONNECTOR_RUNNING, .lag_alert_us = 60 * US_PER_S};
    seen = (struct connector_seen){
        .status = &status, .is_configured = true, .now_us = 1000 * US_PER_S};
    return 0;
}

static void expect(uint16_t reason, bool is_over)
{
    assert_int_equal(connector_words(&said, &seen, words), 1);
    assert_int_equal(words[0].reason, reason);
    assert_int_equal(words[0].is_over, is_over);
    assert_int_equal(connector_words(&said, &seen, words), 0); /* once */
}

static void what_fails_is_over_when_it_works_again(void **state)
{
    (void)state;
    status.state = CONNECTOR_FAILING;
    status.failing_us = US_PER_S;
    assert_int_equal(connector_words(&said, &seen, words), 0);
    status.failing_us = 11 * US_PER_S;
    expect(REASON_ALERT_CONNECTOR_FAILING, false);
    status.state = CONNECTOR_RUNNING;
    status.failing_us = 0;
    expect(REASON_ALERT_CONNECTOR_FAILING, true);
}

static void what_stood_at_a_restart_is_over_when_nothing_shows_it_any_more(void **state)
{
    (void)state;
    said.is_failing = said.is_lagging = true; /* heard from the timeline */
    status.state = CONNECTOR_STARTING;
    assert_int_equal(connector_words(&said, &seen, words), 0);
    seen.now_us += 20 * US_PER_S; /* it began, and has nothing to do */
    assert_int_equal(connector_words(&said, &seen, words), 2);
    assert_true(words[0].is_over && words[1].is_over);
    assert_int_equal(words[0].reason, REASON_ALERT_CONNECTOR_FAILING);
    assert_int_equal(words[1].reason, REASON_ALERT_CONNECTOR_LAGGING);
    assert_int_equal(connector_words(&said, &seen, words), 0);
}

static void what_fails_again_after_a_restart_is_not_over(void **state)
{
    (void)state;
    said.is_failing = true;
    status.state = CONNECTOR_STARTING;
    for (int i = 0; i < 60; i++) {
        assert_int_equal(connector_words(&said, &seen, words), 0);
        seen.now_us += US_PER_S;
        status.state = CONNECTOR_FAILING;
        status.failing_us += US_PER_S;
    }
    assert_true(said.is_failing);
}

static void of_a_connector_that_was_removed_nothing_stands(void **state)
{
    (void)state;
    said.is_failing = said.is_lagging = said.is_lost = said.is_dead = true;
    seen.status = NULL;
    seen.has_letters = true;
    assert_int_equal(connector_words(&said, &seen, words), 0); /* it changes, and comes again */
    seen.is_configured = false;
    assert_int_equal(connector_words(&said, &seen, words), 3);
    for (size_t i = 0; i < 3; i++) {
        assert_true(words[i].is_over);
        assert_int_not_equal(words[i].reason, REASON_ALERT_CONNECTOR_DEAD);
    }
    seen.has_letters = false; /* its letters stayed, now they are gone */
    expect(REASON_ALERT_CONNECTOR_DEAD, true);
}

static void dead_letters_are_told_until_their_file_is_gone(void **state)
{
    (void)state;
    status.dead = 3;
    seen.has_letters = true;
    expect(REASON_ALERT_CONNECTOR_DEAD, false);
    assert_non_null(strstr(words[0].text, "3 records"));
    status.dead = 0; /* a restart: the file still stands */
    assert_int_equal(connector_words(&said, &seen, words), 0);
    seen.has_letters = false;
    expect(REASON_ALERT_CONNECTOR_DEAD, true);
}

static void a_loss_is_over_an_hour_after_the_last_one(void **state)
{
    (void)state;
    status.lost = 5;
    expect(REASON_ALERT_CONNECTOR_LOST, false);
    seen.now_us += CONNECTOR_LOST_US - 1;
    status.lost = 6;
    expect(REASON_ALERT_CONNECTOR_LOST, false);
    seen.now_us += CONNECTOR_LOST_US - 1;
    assert_int_equal(connector_words(&said, &seen, words), 0);
    seen.now_us++;
    expect(REASON_ALERT_CONNECTOR_LOST, true);
}

static void a_lag_is_over_when_it_is_caught_up(void **state)
{
    (void)state;
    status.lag_us = 61 * US_PER_S;
    expect(REASON_ALERT_CONNECTOR_LAGGING, false);
    status.lag_us = 0;
    expect(REASON_ALERT_CONNECTOR_LAGGING, true);
}

static void a_source_is_behind_when_messages_wait_at_its_broker(void **state)
{
    (void)state;
    status.is_source = true;
    status.lag_us = 61 * US_PER_S;
    status.lag_events = 12;
    assert_int_equal(connector_words(&said, &seen, words), 0); /* one old message is no backlog */
    seen.now_us += 5 * US_PER_S;
    assert_int_equal(connector_words(&said, &seen, words), 1);
    assert_int_equal(words[0].reason, REASON_ALERT_CONNECTOR_LAGGING);
    assert_string_equal(words[0].text,
                        "connector out is 61 s behind: 12 messages wait at the broker");
    status.lag_us = 0;
    expect(REASON_ALERT_CONNECTOR_LAGGING, true);
    status.lag_us = 61 * US_PER_S;
    status.lag_events = UINT64_MAX;
    assert_int_equal(connector_words(&said, &seen, words), 0);
    seen.now_us += 5 * US_PER_S;
    assert_int_equal(connector_words(&said, &seen, words), 1);
    assert_string_equal(words[0].text, "connector out is 61 s behind: messages wait at the broker");
    status.lag_us = 0; /* of what waits while nobody asks nothing is known */
    status.state = CONNECTOR_PAUSED;
    assert_int_equal(connector_words(&said, &seen, words), 1);
    assert_true(words[0].is_over);
    assert_string_equal(words[0].text, "connector out is paused");
}

static void a_displaced_position_stands_for_an_hour(void **state)
{
    (void)state;
    status.displaced = 1;
    snprintf(status.displaced_text, sizeof status.displaced_text, "connector out: position 7");
    expect(REASON_ALERT_CONNECTOR_DISPLACED, false);
    seen.now_us += CONNECTOR_LOST_US - 1;
    assert_int_equal(connector_words(&said, &seen, words), 0);
    status.displaced = 2; /* again: the hour begins anew */
    expect(REASON_ALERT_CONNECTOR_DISPLACED, false);
    seen.now_us += CONNECTOR_LOST_US;
    expect(REASON_ALERT_CONNECTOR_DISPLACED, true);
    said.is_displaced = true; /* heard from the timeline of an earlier run */
    seen.is_configured = false;
    seen.status = NULL;
    expect(REASON_ALERT_CONNECTOR_DISPLACED, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_fails_is_over_when_it_works_again, set_up),
        cmocka_unit_test_setup(what_stood_at_a_restart_is_over_when_nothing_shows_it_any_more,
                               set_up),
        cmocka_unit_test_setup(what_fails_again_after_a_restart_is_not_over, set_up),
        cmocka_unit_test_setup(of_a_connector_that_was_removed_nothing_stands, set_up),
        cmocka_unit_test_setup(dead_letters_are_told_until_their_file_is_gone, set_up),
        cmocka_unit_test_setup(a_loss_is_over_an_hour_after_the_last_one, set_up),
        cmocka_unit_test_setup(a_lag_is_over_when_it_is_caught_up, set_up),
        cmocka_unit_test_setup(a_source_is_behind_when_messages_wait_at_its_broker, set_up),
        cmocka_unit_test_setup(a_displaced_position_stands_for_an_hour, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
