/* SPDX-License-Identifier: Apache-2.0 */
/* man: the manual page in roff (man macros), from the same tables as the help. */
#include "cli/cli_int.h"

#include <stdio.h>

/* Text with roff's own characters escaped; a line that begins with a dot or a quote would be a
 * request. */
static void put_text(struct buf *out, const char *text)
{
    if (*text == '.' || *text == '\'')
        buf_puts(out, "\\&");
    for (; *text; text++) {
        if (*text == '\\')
            buf_puts(out, "\\e");
        else if (*text == '-')
            buf_puts(out, "\\-");
        else if (*text == '\'')
            buf_puts(out, "\\(aq");
        else
            buf_putc(out, *text);
    }
}

static void put_flags(uint64_t mask, struct buf *out)
{
    for (size_t i = 0; i < OPT_COUNT; i++) {
        const struct cli_option_row *o = &cli_options[i];
        if (!(mask >> i & 1))
            continue;
        buf_puts(out, ".TP\n\\fB\\-\\-");
        put_text(out, o->name);
        buf_printf(out, "\\fR%s\\fI%s\\fR\n", o->arg[0] ? " " : "", o->arg);
        put_text(out, o->what);
        buf_putc(out, '\n');
    }
}

/* One .SS per command, its examples unfilled, then its flags. */
static void put_command(const struct cli_command_row *row, struct buf *out)
{
    buf_puts(out, ".SS foldback ");
    put_text(out, row->words);
    buf_printf(out, "%s", row->args[0] ? " " : "");
    put_text(out, row->args);
    buf_putc(out, '\n');
    put_text(out, row->what);
    buf_puts(out, "\n.PP\n.EX\n");
    struct span line, rest = span_of(row->examples);
    while (rest.len) {
        char text[256];
        line = span_cut(rest, '\n', &rest);
        snprintf(text, sizeof text, "%.*s", SPAN_ARG(line));
        put_text(out, text);
        buf_putc(out, '\n');
    }
    buf_puts(out, ".EE\n");
    put_flags(row->options & ~CLI_GLOBAL, out);
}

int cmd_man(const struct cli_call *call)
{
    static const char *const codes[] = {
        "Ok.",
        "The check or the action failed.",
        "Wrong usage, or errors in the configuration.",
        "No foldback answers.",
        "Not permitted: the token is missing or wrong.",
        "It did not end in time.",
    };
    struct buf out;
    (void)call;
    buf_init(&out, MIB);
    buf_printf(&out,
               ".TH FOLDBACK 1 \"\" \"foldback %s\" \"User Commands\"\n.SH NAME\nfoldback \\- "
               "self\\-tuning HTTP reverse proxy\n.SH SYNOPSIS\n.B foldback\n\\fICOMMAND\\fR "
               "[\\fIARGUMENTS\\fR] [\\fIFLAGS\\fR]\n.SH DESCRIPTION\nfoldback sits in front of "
               "HTTP services.  It balances, limits, queues and sheds by what it measures, and "
               "says why.\n.SH FLAGS OF EVERY COMMAND\n",
               FB_VERSION);
    put_flags(CLI_GLOBAL, &out);
    buf_puts(&out, ".SH COMMANDS\n");
    for (size_t i = 0; i < cli_command_count; i++)
        put_command(&cli_commands[i], &out);
    buf_puts(&out, ".SH EXIT STATUS\n");
    for (size_t i = 0; i < FB_COUNT(codes); i++)
        buf_printf(&out, ".TP\n.B %zu\n%s\n", i, codes[i]);
    buf_puts(&out, ".SH ENVIRONMENT\n.TP\n.B NO_COLOR\nNo colour, whatever its value.\n"
                   ".SH FILES\n.TP\n.I foldback\\-state/admin.json\nAddress and token file of the "
                   "running foldback; also in /var/lib/foldback.\n");
    cli_flush(&out);
    buf_fini(&out);
    return 0;
}
