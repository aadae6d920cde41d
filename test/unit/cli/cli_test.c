/* SPDX-License-Identifier: Apache-2.0 */
/* cli: the tables, the command line, what the hooks are given.  What commands print is tested with
 * golden files in test/e2e. */
#include "cli/cli_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

/* ---- the program, with hooks that note what they were given ---- */
static struct cli_run_args run_args;
static struct cli_replay_args replay_args;
static struct cli_demo_args demo_args;
static struct cli_log_args log_args;

static int take_run(const struct cli_run_args *args)
{
    run_args = *args;
    return 0;
}
static int take_replay(const struct cli_replay_args *args)
{
    replay_args = *args;
    return 1;
}
static int take_demo(const struct cli_demo_args *args)
{
    demo_args = *args;
    return 0;
}
static int take_log(const struct cli_log_args *args)
{
    log_args = *args;
    return 0;
}

/* cli_main keeps one call per process: each row runs in a child, and its notes come back by a
 * pipe. */
struct notes {
    int code;
    struct cli_run_args run;
    struct cli_replay_args replay;
    struct cli_demo_args demo;
    struct cli_log_args log;
};

#define WORDS_MAX 16
static const struct cli_hooks hooks = {
    .run = take_run, .replay = take_replay, .demo = take_demo, .log = take_log};

/* Texts of the notes are pointers into <words>, which parent and child share by address. */
static struct notes run_words(char *words)
{
    static char *argv[WORDS_MAX];
    struct notes notes = {0};
    int argc = 0, ends[2];
    argv[argc++] = "foldback";
    for (char *at = strtok(words, " "); at && argc < WORDS_MAX; at = strtok(NULL, " "))
        argv[argc++] = at;
    fflush(NULL);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)!freopen("/dev/null", "w", stdout);
        (void)!freopen("/dev/null", "w", stderr);
        notes.code = cli_main(argc, argv, &hooks);
        notes.run = run_args;
        notes.replay = replay_args;
        notes.demo = demo_args;
        notes.log = log_args;
        ssize_t n = write(ends[1], &notes, sizeof notes);
        _exit(n == (ssize_t)sizeof notes ? 0 : 9);
    }
    close(ends[1]);
    size_t got = 0;
    for (ssize_t n; got < sizeof notes; got += (size_t)n)
        if ((n = read(ends[0], (char *)&notes + got, sizeof notes - got)) <= 0)
            break;
    close(ends[0]);
    assert_int_equal(got, sizeof notes);
    return notes;
}
#define RUN(text) run_words(strcpy((char[256]){0}, text))

/* ---- tables ---- */
static void every_flag_is_taken_by_some_command(void **state)
{
    (void)state;
    uint64_t used = 0;
    for (size_t i = 0; i < cli_command_count; i++)
        used |= cli_commands[i].options;
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (!(used >> i & 1))
            fail_msg("no command takes --%s", cli_options[i].name);
    assert_true(used >> OPT_COUNT == 0);
}

static void every_command_takes_the_global_flags(void **state)
{
    (void)state;
    for (size_t i = 0; i < cli_command_count; i++)
        assert_true((cli_commands[i].options & CLI_GLOBAL) == CLI_GLOBAL);
}

static void every_command_says_what_it_does_and_how(void **state)
{
    (void)state;
    for (size_t i = 0; i < cli_command_count; i++) {
        const struct cli_command_row *row = &cli_commands[i];
        size_t len = strlen(row->what);
        char begin[64];
        assert_true(len > 10 && row->what[len - 1] == '.');
        snprintf(begin, sizeof begin, "foldback %s", row->words);
        if (strncmp(row->examples, begin, strlen(begin)) != 0)
            fail_msg("the examples of %s begin with \"%s\"", row->words, row->examples);
        assert_true(row->min <= row->max && row->max <= 8);
        assert_true((row->max > 0) == (row->args[0] != '\0'));
    }
}

static void every_flag_of_an_example_exists(void **state)
{
    (void)state;
    for (size_t i = 0; i < cli_command_count; i++)
        for (const char *at = cli_commands[i].examples; (at = strstr(at, " --")) != NULL; at += 3) {
            size_t len = strcspn(at + 3, " \n=");
            bool is_found = false;
            for (size_t o = 0; o < OPT_COUNT; o++)
                is_found |= (cli_commands[i].options >> o & 1) &&
                            strlen(cli_options[o].name) == len &&
                            strncmp(cli_options[o].name, at + 3, len) == 0;
            if (!is_found)
                fail_msg("%s: an example has --%.*s", cli_commands[i].words, (int)len, at + 3);
        }
}

static void names_are_there_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < cli_command_count; i++)
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(cli_commands[i].words, cli_commands[k].words);
    for (size_t i = 0; i < OPT_COUNT; i++) {
        size_t len = strlen(cli_options[i].what);
        assert_true(len > 5 && cli_options[i].what[len - 1] == '.');
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(cli_options[i].name, cli_options[k].name);
    }
}

static void the_reference_has_every_command_and_flag(void **state)
{
    struct buf out;
    (void)state;
    buf_init(&out, MIB);
    cli_reference(&out);
    const char *text = buf_str(&out);
    for (size_t i = 0; i < cli_command_count; i++) {
        char title[80];
        snprintf(title, sizeof title, "\n## foldback %s\n", cli_commands[i].words);
        assert_non_null(strstr(text, title));
    }
    for (size_t i = 0; i < OPT_COUNT; i++)
        assert_non_null(strstr(text, cli_options[i].what));
    buf_fini(&out);
}

/* ---- parsing ---- */
static void run_is_given_its_addresses(void **state)
{
    (void)state;
    struct notes n = RUN("run --from :8080 --to :3000 --to=:3001 -q --state dir --admin :1");
    assert_int_equal(n.code, 0);
    assert_int_equal(n.run.from_count, 1);
    assert_int_equal(n.run.to_count, 2);
    assert_true(n.run.is_quiet);
    assert_non_null(n.run.state);
    assert_non_null(n.run.admin);
    assert_null(n.run.config);
}

static void flags_may_stand_before_the_command(void **state)
{
    (void)state;
    struct notes n = RUN("--state / --json replay --verify");
    assert_int_equal(n.code, 1);
    assert_non_null(n.replay.state);
    assert_true(n.replay.is_json && n.replay.is_verify);
}

static void replay_goes_from_the_start_to_the_end_by_default(void **state)
{
    (void)state;
    struct notes n = RUN("replay --state /");
    assert_int_equal(n.replay.from_offset, 0);
    assert_true(n.replay.until_offset == UINT64_MAX);
    assert_false(n.replay.is_verify || n.replay.is_json);
    n = RUN("replay --state / --from-offset 7 --until-offset 9");
    assert_int_equal(n.replay.from_offset, 7);
    assert_int_equal(n.replay.until_offset, 9);
}

static void demo_is_given_its_length_and_this_program(void **state)
{
    (void)state;
    struct notes n = RUN("demo collab --seconds 30 --headless --json --report r.html");
    assert_int_equal(n.code, 0);
    assert_int_equal(n.demo.seconds, 30);
    assert_true(n.demo.is_headless && n.demo.is_json);
    assert_non_null(n.demo.report);
    assert_non_null(n.demo.self);
    assert_int_equal(RUN("demo").demo.seconds, 0);
}

static void log_is_given_its_verb(void **state)
{
    (void)state;
    assert_int_equal(RUN("log check --state /").code, 0);
    assert_non_null(RUN("log stats --state /").log.verb);
    assert_false(RUN("log repair --state /").log.is_applied);
    assert_true(RUN("log repair --apply --state /").log.is_applied);
    assert_string_equal(RUN("log repair --apply --state /").log.verb, "repair");
    struct notes missing = RUN("log check --state /nowhere");
    assert_int_equal(missing.code, 1);
    assert_null(missing.log.verb);
}

static void wrong_lines_are_code_2(void **state)
{
    static const char *const rows[] = {
        "nothing",
        "log",
        "log nothing",
        "run",
        "run --to",
        "run --to --from :1",
        "run --json=1 --to :1",
        "run --seconds 3 --to :1",
        "demo a b",
        "demo --seconds 4",
        "demo --seconds 3601",
        "demo --seconds 1e3",
        "replay --from-offset -1",
        "replay --from-offset 18446744073709551616",
        "completion csh",
        "reference nothing",
        "mode",
        "mode loud",
        "get nothing",
        "help nothing",
        "check --timeout 3601",
        "events tail --limit 0",
        "simulate s1 --seeds 0",
    };
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        char words[256];
        snprintf(words, sizeof words, "%s", rows[i]);
        int code = run_words(words).code;
        if (code != 2)
            fail_msg("\"%s\" ended with %d", rows[i], code);
    }
}

static void help_is_code_0_everywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < cli_command_count; i++) {
        char words[256];
        snprintf(words, sizeof words, "%s --help", cli_commands[i].words);
        assert_int_equal(run_words(words).code, 0);
        snprintf(words, sizeof words, "help %s", cli_commands[i].words);
        assert_int_equal(run_words(words).code, 0);
    }
}

static void a_flag_may_be_given_64_times_at_most(void **state)
{
    char *argv[2 + 2 * (CLI_LIST_MAX + 1)] = {"foldback", "run"};
    (void)state;
    for (size_t i = 0; i <= CLI_LIST_MAX; i++) {
        argv[2 + 2 * i] = "--to";
        argv[3 + 2 * i] = ":1";
    }
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        (void)!freopen("/dev/null", "w", stderr);
        int code = cli_main((int)FB_COUNT(argv), argv, &hooks);
        _exit(code == 2 && run_args.to_count == 0 ? 0 : 1);
    }
    int status = 1;
    assert_true(waitpid(child, &status, 0) == child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_flag_is_taken_by_some_command),
        cmocka_unit_test(every_command_takes_the_global_flags),
        cmocka_unit_test(every_command_says_what_it_does_and_how),
        cmocka_unit_test(every_flag_of_an_example_exists),
        cmocka_unit_test(names_are_there_once),
        cmocka_unit_test(the_reference_has_every_command_and_flag),
        cmocka_unit_test(run_is_given_its_addresses),
        cmocka_unit_test(flags_may_stand_before_the_command),
        cmocka_unit_test(replay_goes_from_the_start_to_the_end_by_default),
        cmocka_unit_test(demo_is_given_its_length_and_this_program),
        cmocka_unit_test(log_is_given_its_verb),
        cmocka_unit_test(wrong_lines_are_code_2),
        cmocka_unit_test(help_is_code_0_everywhere),
        cmocka_unit_test(a_flag_may_be_given_64_times_at_most),
    };
    return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}
