/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli_int.h"

#include "base/assert.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct cli_option_row cli_options[OPT_COUNT] = {
#define OPTION(oid, oname, oarg, olist, owhat)                                                     \
    [OPT_##oid] = {.name = oname, .arg = oarg, .what = owhat, .is_list = olist},
#include "cli/options.def"
#undef OPTION
};

/* OPTS(A, B) -> a mask of 1 to 11 flags; OPTS(NONE) is 0.  ISO C wants at least one argument. */
#define BIT_OF(o) ((o) < OPT_COUNT ? 1ull << ((unsigned)(o)&63u) : 0ull)
#define BIT(o) BIT_OF(OPT_##o)
#define OPTS_1(a) BIT(a)
#define OPTS_2(a, b) BIT(a) | BIT(b)
#define OPTS_3(a, b, c) BIT(a) | BIT(b) | BIT(c)
#define OPTS_4(a, b, c, d) BIT(a) | BIT(b) | BIT(c) | BIT(d)
#define OPTS_5(a, b, c, d, e) BIT(a) | BIT(b) | BIT(c) | BIT(d) | BIT(e)
#define OPTS_6(a, b, c, d, e, f) BIT(a) | BIT(b) | BIT(c) | BIT(d) | BIT(e) | BIT(f)
#define OPTS_7(a, ...) BIT(a) | OPTS_6(__VA_ARGS__)
#define OPTS_8(a, ...) BIT(a) | OPTS_7(__VA_ARGS__)
#define OPTS_9(a, ...) BIT(a) | OPTS_8(__VA_ARGS__)
#define OPTS_10(a, ...) BIT(a) | OPTS_9(__VA_ARGS__)
#define OPTS_11(a, ...) BIT(a) | OPTS_10(__VA_ARGS__)
#define PICK(x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, name, ...) name
#define OPTS(...)                                                                                  \
    (PICK(__VA_ARGS__, OPTS_11, OPTS_10, OPTS_9, OPTS_8, OPTS_7, OPTS_6, OPTS_5, OPTS_4, OPTS_3,   \
          OPTS_2, OPTS_1, 0)(__VA_ARGS__))
_Static_assert(OPT_COUNT < 64, "a mask of flags has 64 bits");
const struct cli_command_row cli_commands[] = {
#define COMMAND(cid, cwords, cargs, cmin, cmax, copts, cwhat, cexamples)                           \
    {.words = cwords,                                                                              \
     .args = cargs,                                                                                \
     .what = cwhat,                                                                                \
     .examples = cexamples,                                                                        \
     .min = cmin,                                                                                  \
     .max = cmax,                                                                                  \
     .options = CLI_GLOBAL | (copts),                                                              \
     .run = cmd_##cid},
#include "cli/commands.def"
#undef COMMAND
};
const size_t cli_command_count = FB_COUNT(cli_commands);

static const struct cli_command_row *find_command(char **argv, int argc, int *used);
static int parse(struct cli_call *call, int argc, char **argv);
static bool join_target(struct cli_call *call);
static int too_many(const struct cli_call *call);
static int unknown_command(char **argv, int argc, bool is_help);
static int parse_option(struct cli_call *call, char **argv, int argc, int *at);

/* Order: flags before the command, the command itself, its flags and arguments in any order.
 * `help`,
 * --help and --version are looked at first, so that they work whatever else is wrong. */
int cli_main(int argc, char **argv, const struct cli_hooks *hooks)
{
    static struct cli_call call; /* one command per process */
    call.hooks = hooks;
    /* global flags may stand before the command: move past them to find it */
    int first = 1;
    while (first < argc && argv[first][0] == '-') {
        bool takes = false;
        const char *name = argv[first] + strspn(argv[first], "-");
        for (size_t i = 0; i < OPT_COUNT; i++)
            if (CLI_GLOBAL >> i & 1 && strcmp(name, cli_options[i].name) == 0)
                takes = cli_options[i].arg[0] != '\0';
        first += takes ? 2 : 1;
    }
    if (argc == 1 ||
        (first >= argc && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))) {
        cli_help(NULL);
        return argc == 1 ? 2 : 0;
    }
    if (first >= argc && strcmp(argv[1], "--version") == 0) {
        printf("foldback %s\n", FB_VERSION);
        return 0;
    }
    if (first < argc && strcmp(argv[first], "help") == 0) {
        int used = 0;
        const struct cli_command_row *of =
            first + 1 < argc ? find_command(argv + first + 1, argc - first - 1, &used) : NULL;
        if (first + 1 < argc && !of)
            return unknown_command(argv + first + 1, argc - first - 1, true);
        cli_help(of);
        return 0;
    }
    int used = 0;
    call.command = first < argc ? find_command(argv + first, argc - first, &used) : NULL;
    if (!call.command)
        return unknown_command(argv + first, first < argc ? argc - first : 0,
                               first + 1 < argc && (strcmp(argv[first + 1], "--help") == 0 ||
                                                    strcmp(argv[first + 1], "-h") == 0));
    /* flags before the command and everything behind it */
    int count = 0;
    char **rest = calloc((size_t)argc + 1, sizeof *rest);
    fb_assert(rest);
    for (int i = 1; i < argc; i++)
        if (i < first || i >= first + used)
            rest[count++] = argv[i];
    int code = parse(&call, count, rest);
    if (code < 0)
        code = call.command->run(&call);
    free(rest);
    return code;
}

/* Two words win over one: "decisions show" is no `decisions` with an argument. */
static const struct cli_command_row *find_command(char **argv, int argc, int *used)
{
    for (int words = argc >= 2 ? 2 : 1; words >= 1; words--) {
        char text[128];
        snprintf(text, sizeof text, words == 2 ? "%s %s" : "%s", argv[0],
                 words == 2 ? argv[1] : "");
        for (size_t i = 0; i < cli_command_count; i++)
            if (strcmp(cli_commands[i].words, text) == 0) {
                *used = words;
                return &cli_commands[i];
            }
    }
    return NULL;
}

static bool is_in_group(const struct cli_command_row *row, const char *group)
{
    size_t len = strlen(group);
    return len && strncmp(row->words, group, len) == 0 && row->words[len] == ' ';
}

/* "config" alone, or "config chek": what there is, and the nearest. */
static int unknown_of_group(const char *group, const char *second)
{
    const char *seconds[64], *close;
    size_t n = 0;
    for (size_t i = 0; i < cli_command_count && n < FB_COUNT(seconds); i++)
        if (is_in_group(&cli_commands[i], group))
            seconds[n++] = cli_commands[i].words + strlen(group) + 1;
    close = second ? cli_closest(second, seconds, n) : NULL;
    if (close) {
        fprintf(stderr, "foldback: there is no command \"%s %s\"; did you mean `foldback %s %s`?\n",
                group, second, group, close);
        return 2;
    }
    if (second)
        fprintf(stderr, "foldback: there is no command \"%s %s\"; %s has", group, second, group);
    else
        fprintf(stderr, "foldback: %s needs a second word:", group);
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, " %s", seconds[i]);
    fputc('\n', stderr);
    return 2;
}

/* A word that is no command: a group ("config") lists its members, anything else gets the nearest
 * name. */
static int unknown_command(char **argv, int argc, bool is_help)
{
    const char *words[128], *word = argc > 0 ? argv[0] : "";
    size_t n = 0;
    bool is_group = false;
    for (size_t i = 0; i < cli_command_count && n < FB_COUNT(words); i++) {
        words[n++] = cli_commands[i].words;
        is_group |= is_in_group(&cli_commands[i], word);
    }
    bool has_second = argc > 1 && argv[1][0] && argv[1][0] != '-';
    if (is_group && is_help && !has_second) {
        for (size_t i = 0; i < cli_command_count; i++)
            if (is_in_group(&cli_commands[i], word))
                printf("foldback %-16s  %s\n", cli_commands[i].words, cli_commands[i].what);
        return 0;
    }
    if (is_group)
        return unknown_of_group(word, has_second ? argv[1] : NULL);
    if (!word[0]) {
        fprintf(stderr, "foldback: a command is missing; `foldback help` lists them\n");
        return 2;
    }
    const char *close = cli_closest(word, words, n);
    fprintf(stderr, "foldback: there is no command \"%s\"; ", word);
    if (close)
        fprintf(stderr, "did you mean `foldback %s`?\n", close);
    else
        fprintf(stderr, "`foldback help` lists them\n");
    return 2;
}

/* -1: go on with the command; else the exit code. */
static int parse(struct cli_call *call, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        /* "-5" is a value, "-" a name */
        if (argv[i][0] == '-' && argv[i][1] && !isdigit((unsigned char)argv[i][1])) {
            int code = parse_option(call, argv, argc, &i);
            if (code)
                return code;
        } else if (call->arg_count < FB_COUNT(call->arg)) {
            call->arg[call->arg_count++] = argv[i];
        } else {
            return cli_usage(call, "too many arguments");
        }
    }
    if (call->option[OPT_HELP]) {
        cli_help(call->command);
        return 0;
    }
    if (call->arg_count < call->command->min)
        return cli_usage(call, "needs %s", call->command->args);
    if (call->arg_count > call->command->max && !join_target(call))
        return too_many(call);
    call->is_json = call->option[OPT_JSON] != NULL;
    const char *term = getenv("TERM");
    call->has_color = isatty(STDOUT_FILENO) && !getenv("NO_COLOR") && !call->option[OPT_NO_COLOR] &&
                      term && strcmp(term, "dumb") != 0;
    return -1;
}

/* `drain shop 10.0.0.1:80` for `drain 'shop 10.0.0.1:80'`: `endpoint add` takes them apart as well.
 */
static bool join_target(struct cli_call *call)
{
    const char *words = call->command->words;
    if (call->arg_count != 2 ||
        (strcmp(words, "drain") != 0 && strcmp(words, "undrain") != 0 && strcmp(words, "why") != 0))
        return false;
    int len = snprintf(call->target, sizeof call->target, "%s %s", call->arg[0], call->arg[1]);
    call->arg[0] = call->target;
    call->arg_count = 1;
    return len > 0 && (size_t)len < sizeof call->target;
}

static int too_many(const struct cli_call *call)
{
    const char *extra = call->arg[call->command->max];
    if (call->command->options >> OPT_CONFIG & 1)
        return cli_usage(call, "does not know what to do with \"%s\"; a file is --config %s", extra,
                         extra);
    return cli_usage(call, "does not know what to do with \"%s\"", extra);
}

/* One flag and its value; 0, or the exit code of what is wrong.  --name VALUE, --name=VALUE; no
 * abbreviations: a flag added later must not change what an old script means. */
static int parse_option(struct cli_call *call, char **argv, int argc, int *at)
{
    const char *word = argv[*at];
    if (strcmp(word, "-h") == 0)
        word = "--help";
    if (strcmp(word, "-q") == 0)
        word = "--quiet";
    const char *name = word + strspn(word, "-"), *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const char *names[OPT_COUNT];
    size_t n = 0;
    for (size_t i = 0; i < OPT_COUNT; i++) {
        const struct cli_option_row *row = &cli_options[i];
        if (!(call->command->options >> i & 1))
            continue;
        names[n++] = row->name;
        if (strlen(row->name) != len || strncmp(row->name, name, len) != 0)
            continue;
        const char *value = "";
        if (row->arg[0]) {
            bool is_next = *at + 1 < argc && strncmp(argv[*at + 1], "--", 2) != 0;
            value = equals ? equals + 1 : is_next ? argv[++*at] : NULL;
            if (!value)
                return cli_usage(call, "--%s needs %s", row->name, row->arg);
        } else if (equals) {
            return cli_usage(call, "--%s takes no value", row->name);
        }
        if (row->is_list) {
            if (call->list_count[i] == CLI_LIST_MAX)
                return cli_usage(call, "--%s may be given %d times at most", row->name,
                                 CLI_LIST_MAX);
            call->list[i][call->list_count[i]++] = value;
        }
        call->option[i] = value;
        return 0;
    }
    char typed[64];
    snprintf(typed, sizeof typed, "%.*s", (int)len, name);
    const char *close = cli_closest(typed, names, n);
    if (close)
        return cli_usage(call, "has no flag --%s; did you mean --%s?", typed, close);
    return cli_usage(call, "has no flag --%s", typed);
}

/* Levenshtein, one row at a time; words of 64 letters and more are far from everything. */
static size_t distance(const char *a, const char *b)
{
    size_t row[64], n = strlen(b);
    if (n >= FB_COUNT(row))
        return 64;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t left_up = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t up = row[j], best = left_up + (a[i - 1] != b[j - 1]);
            best = up + 1 < best ? up + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            left_up = up;
            row[j] = best;
        }
    }
    return row[n];
}

/* A third of the letters may be wrong, of a short word one: "staus" finds status, "nope" not top.
 */
const char *cli_closest(const char *typed, const char *const *words, size_t count)
{
    const char *best = NULL;
    size_t len = strlen(typed), best_distance = len <= 2 ? 1 : len <= 5 ? 2 : (len + 2) / 3 + 1;
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(typed, words[i]);
        if (d < best_distance) {
            best = words[i];
            best_distance = d;
        }
    }
    return best;
}

bool cli_number(const struct cli_call *call, enum cli_option option, uint64_t min, uint64_t max,
                uint64_t *value)
{
    const char *text = call->option[option];
    if (!text)
        return true;
    uint64_t v;
    if (!span_to_u64(span_of(text), &v) || v < min || v > max) {
        cli_usage(call, "--%s must be a whole number in %llu..%llu, got \"%s\"",
                  cli_options[option].name, (unsigned long long)min, (unsigned long long)max, text);
        return false;
    }
    *value = v;
    return true;
}

bool cli_seconds(const struct cli_call *call, enum cli_option option, uint64_t min, uint64_t max,
                 uint64_t *value)
{
    static const char units[] = "smhd";
    static const uint32_t unit_s[] = {1, 60, 3600, 86400};
    const char *text = call->option[option];
    if (!text)
        return true;
    struct span digits = span_of(text);
    const char *unit = digits.len > 1 ? strchr(units, text[digits.len - 1]) : NULL;
    uint64_t v, one_s = unit ? unit_s[unit - units] : 1;
    digits.len -= unit != NULL;
    if (!span_to_u64(digits, &v) || v > max / one_s || v * one_s < min) {
        cli_usage(call,
                  "--%s must be a whole number of seconds in %llu..%llu, or such as 15m, 2h or 3d, "
                  "got \"%s\"",
                  cli_options[option].name, (unsigned long long)min, (unsigned long long)max, text);
        return false;
    }
    *value = v * one_s;
    return true;
}

int cli_fail(const struct fb_err *err)
{
    fprintf(stderr, "foldback: %s\n", err->text);
    return fb_error_row(err->code)->exit_code;
}

int cli_usage(const struct cli_call *call, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "foldback: %s ", call->command->words);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "; see `foldback help %s`\n", call->command->words);
    va_end(args);
    return 2;
}
