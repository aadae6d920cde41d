/* SPDX-License-Identifier: Apache-2.0 */
/* help and the reference page of the commands, from commands.def and options.def. */
#include "cli/cli_int.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *title, *words; /* of commands, in this order */
} groups[] = {
    {"Start", "run demo check"},
    {"Look", "status top tap doctor why decisions stream fleet events log"},
    {"Steer",
     "get set pin unpin freeze unfreeze reset mode drain undrain endpoint cache reload upgrade"},
    {"Keep and send", "connector letters key erase"},
    {"Try out", "replay simulate config"},
    {"About", "reference completion man token version"},
};

static bool is_in(const char *words, const char *word, size_t len)
{
    struct span rest = span_of(words), one;
    while (rest.len) {
        one = span_cut(rest, ' ', &rest);
        if (span_eq(one, (struct span){word, len}))
            return true;
    }
    return false;
}

static void usage_of(const struct cli_command_row *row, struct buf *out)
{
    buf_printf(out, "foldback %s%s%s", row->words, row->args[0] ? " " : "", row->args);
    if (row->options & ~CLI_GLOBAL)
        buf_puts(out, " [FLAGS]");
}

static void put_flags(uint64_t mask, struct buf *out)
{
    for (size_t i = 0; i < OPT_COUNT; i++) {
        const struct cli_option_row *o = &cli_options[i];
        char left[48];
        if (!(mask >> i & 1))
            continue;
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->arg[0] ? " " : "", o->arg);
        buf_printf(out, "  %-22s  %s\n", left, o->what);
    }
}

/* Examples first: most people look for the line to copy. */
static void put_command(const struct cli_command_row *row, struct buf *out)
{
    struct span line, rest = span_of(row->examples);
    buf_printf(out, "%s\n\nExamples:\n", row->what);
    while (rest.len) {
        line = span_cut(rest, '\n', &rest);
        buf_printf(out, "  %.*s\n", SPAN_ARG(line));
    }
    buf_puts(out, "\nUsage:\n  ");
    usage_of(row, out);
    buf_putc(out, '\n');
    if (row->options & ~CLI_GLOBAL) {
        buf_puts(out, "\nFlags:\n");
        put_flags(row->options & ~CLI_GLOBAL, out);
    }
    buf_puts(out, "\nFlags of every command:\n");
    put_flags(CLI_GLOBAL, out);
}

static void put_overview(struct buf *out)
{
    buf_puts(out, "foldback sits in front of HTTP services and tunes itself: it balances, limits, "
                  "queues and\nsheds by what it measures, and says why.\n\nExamples:\n"
                  "  foldback run --to :3000 --to :3001   proxy two local servers, no file needed\n"
                  "  foldback demo                        see it work on real traffic\n"
                  "  foldback doctor                      what is wrong, and what to do next\n");
    for (size_t g = 0; g < FB_COUNT(groups); g++) {
        buf_printf(out, "\n%s:\n", groups[g].title);
        for (size_t i = 0; i < cli_command_count; i++)
            if (is_in(groups[g].words, cli_commands[i].words, strcspn(cli_commands[i].words, " ")))
                buf_printf(out, "  %-16s  %s\n", cli_commands[i].words, cli_commands[i].what);
    }
    buf_puts(out, "\nFlags of every command:\n");
    put_flags(CLI_GLOBAL, out);
    buf_puts(out, "\nExit codes: 0 ok, 1 the check or action failed, 2 usage or config error, "
                  "3 daemon not\nreachable, 4 not permitted, 5 timed out.\n"
                  "`foldback help COMMAND` shows examples and flags of one command.\n");
}

void cli_help(const struct cli_command_row *command)
{
    struct buf out;
    buf_init(&out, MIB);
    if (command)
        put_command(command, &out);
    else
        put_overview(&out);
    cli_flush(&out);
    buf_fini(&out);
}

/* ---- reference ---- */
static void put_flag_rows(uint64_t mask, struct buf *out)
{
    buf_puts(out, "| flag | meaning |\n| --- | --- |\n");
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (mask >> i & 1)
            buf_printf(out, "| `--%s%s%s` | %s%s |\n", cli_options[i].name,
                       cli_options[i].arg[0] ? " " : "", cli_options[i].arg, cli_options[i].what,
                       cli_options[i].is_list ? " May be repeated." : "");
}

void cli_reference(struct buf *out)
{
    buf_puts(out, "# Commands\n\nExit codes: 0 ok, 1 the check or action failed, 2 usage or config "
                  "error, 3 daemon not reachable, 4 not permitted, 5 timed out.\n\n"
                  "## Flags of every command\n\n");
    put_flag_rows(CLI_GLOBAL, out);
    for (size_t i = 0; i < cli_command_count; i++) {
        const struct cli_command_row *row = &cli_commands[i];
        buf_printf(out, "\n## foldback %s\n\n%s\n\n    ", row->words, row->what);
        usage_of(row, out);
        buf_puts(out, "\n\nExamples:\n\n");
        struct span line, rest = span_of(row->examples);
        while (rest.len) {
            line = span_cut(rest, '\n', &rest);
            buf_printf(out, "    %.*s\n", SPAN_ARG(line));
        }
        if (row->options & ~CLI_GLOBAL) {
            buf_putc(out, '\n');
            put_flag_rows(row->options & ~CLI_GLOBAL, out);
        }
    }
}

int cmd_reference(const struct cli_call *call)
{
    static const char *const pages[] = {"config",  "commands", "events", "knobs",    "facts",
                                        "metrics", "reasons",  "errors", "features", "asyncapi"};
    struct buf out;
    const char *page = call->arg_count ? call->arg[0] : NULL;
    bool is_known = true;
    buf_init(&out, 16 * MIB);
    if (!page) {
        for (size_t i = 0; i < FB_COUNT(pages); i++)
            buf_printf(&out, "foldback reference %s\n", pages[i]);
    } else if (strcmp(page, "commands") == 0) {
        cli_reference(&out);
    } else {
        is_known = call->hooks->reference && call->hooks->reference(page, &out);
    }
    if (is_known && call->is_json) {
        json_t *root = page ? json_pack("{s:s, s:s}", "page", page, "markdown", buf_str(&out))
                            : json_pack("{s:[]}", "pages");
        for (size_t i = 0; i < FB_COUNT(pages) && !page; i++)
            json_array_append_new(json_object_get(root, "pages"), json_string(pages[i]));
        cli_print_json(root);
        json_decref(root);
    } else if (is_known) {
        cli_flush(&out);
    }
    buf_fini(&out);
    if (is_known)
        return 0;
    const char *close = cli_closest(page, pages, FB_COUNT(pages));
    return cli_usage(call, "has no page \"%s\"; %s%s", page,
                     close ? "did you mean " : "`foldback reference` lists them",
                     close ? close : "");
}
