/* SPDX-License-Identifier: Apache-2.0 */
/* completion: scripts for bash, zsh and fish; commands, flags, and the names of the tables.
 *
 * Nothing is asked at completion time: pressing TAB never starts a program. */
#include "cli/cli_int.h"

#include "event/event.h"
#include "knob/knob.h"
#include "sim/scenario.h"

#include <stdio.h>
#include <string.h>

/* What may follow a command of one or two words: blank-separated. */
static void put_values(const char *command, struct buf *out)
{
    const struct sim_scenario *s;
    if (strcmp(command, "demo") == 0)
        buf_puts(out, "flash-sale live-sports collab");
    else if (strcmp(command, "mode") == 0)
        buf_puts(out, "observe recommend act");
    else if (strcmp(command, "events tables") == 0)
        for (uint8_t t = 1; t < EV_TYPE_END; t++) {
            if (ev_type_row(t)->name)
                buf_printf(out, "%s%s", t > 1 ? " " : "", ev_type_row(t)->name);
        }
    else if (strcmp(command, "completion") == 0)
        buf_puts(out, "bash zsh fish");
    else if (strcmp(command, "reference") == 0)
        buf_puts(out,
                 "config commands events knobs facts metrics reasons errors features asyncapi");
    else if (strcmp(command, "get") == 0 || strcmp(command, "set") == 0 ||
             strcmp(command, "pin") == 0 || strcmp(command, "unpin") == 0)
        for (uint16_t i = 0; i < KNOB_COUNT; i++) {
            if (knob_row(i)->name)
                buf_printf(out, "%s%s", i ? " " : "", knob_row(i)->name);
        }
    else if (strcmp(command, "simulate") == 0)
        for (size_t i = 0; (s = sim_scenario_at(i)) != NULL; i++)
            buf_printf(out, "%s%s", i ? " " : "", s->name);
}

/* What may follow a flag. */
static void put_flag_values(enum cli_option option, struct buf *out)
{
    const char *between = "";
    if (option == OPT_LOOP)
        for (uint16_t i = 1; i < LOOP_COUNT; i++, between = " ")
            buf_printf(out, "%s%s", between, loop_row(i)->name);
    else if (option == OPT_TYPE)
        for (uint8_t t = 0; t < EV_TYPE_END; t++) {
            if (!ev_type_row(t)->name)
                continue;
            buf_printf(out, "%s%s", between, ev_type_row(t)->name);
            between = " ";
        }
    else if (option == OPT_FORMAT)
        buf_puts(out, "table json jsonl csv parquet cloudevents");
    else if (option == OPT_WINDOW)
        buf_puts(out, "100ms 1s 10s 60s");
}

/* First words, each once; second words of a group. */
static void put_first_words(struct buf *out)
{
    for (size_t i = 0; i < cli_command_count; i++) {
        const char *w = cli_commands[i].words;
        size_t len = strcspn(w, " ");
        bool is_new = true;
        for (size_t k = 0; k < i && is_new; k++)
            is_new = strncmp(cli_commands[k].words, w, len) != 0 ||
                     (cli_commands[k].words[len] != ' ' && cli_commands[k].words[len]);
        if (is_new)
            buf_printf(out, "%s%.*s", i ? " " : "", (int)len, w);
    }
    buf_puts(out, " help");
}

static void put_second_words(const char *first, size_t len, struct buf *out)
{
    const char *between = "";
    for (size_t i = 0; i < cli_command_count; i++)
        if (strncmp(cli_commands[i].words, first, len) == 0 && cli_commands[i].words[len] == ' ') {
            buf_printf(out, "%s%s", between, cli_commands[i].words + len + 1);
            between = " ";
        }
}

static void put_flags(uint64_t mask, struct buf *out)
{
    const char *between = "";
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (mask >> i & 1) {
            buf_printf(out, "%s--%s", between, cli_options[i].name);
            between = " ";
        }
}

/* DIR too: shells complete folders on the way to files. */
static bool takes_file(enum cli_option o)
{
    return strcmp(cli_options[o].arg, "FILE") == 0 || strcmp(cli_options[o].arg, "DIR") == 0;
}

/* ---- bash, and zsh through its bashcompinit ---- */
static void put_bash_flag_cases(struct buf *out)
{
    for (size_t i = 0; i < OPT_COUNT; i++) {
        struct buf values;
        buf_init(&values, 4096);
        put_flag_values((enum cli_option)i, &values);
        if (values.len)
            buf_printf(out, "    --%s) COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")); return ;;\n",
                       cli_options[i].name, buf_str(&values));
        else if (takes_file((enum cli_option)i))
            buf_printf(out, "    --%s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n",
                       cli_options[i].name);
        else if (cli_options[i].arg[0])
            buf_printf(out, "    --%s) return ;;\n", cli_options[i].name);
        buf_fini(&values);
    }
}

static void put_bash(struct buf *out)
{
    buf_puts(out, "_foldback() {\n  local cur=${COMP_WORDS[COMP_CWORD]} "
                  "prev=${COMP_WORDS[COMP_CWORD-1]} words= flags=\n  COMPREPLY=()\n"
                  "  case $prev in\n");
    put_bash_flag_cases(out);
    buf_puts(out, "  esac\n  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    COMPREPLY=($(compgen -W \"");
    put_first_words(out);
    buf_puts(
        out,
        "\" -- \"$cur\"))\n    return\n  fi\n  case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n");
    /* two words first: they are the narrower pattern */
    for (int two = 1; two >= 0; two--)
        for (size_t i = 0; i < cli_command_count; i++) {
            const struct cli_command_row *row = &cli_commands[i];
            if ((strchr(row->words, ' ') != NULL) != two)
                continue;
            buf_printf(out, two ? "    \"%s\") words=\"" : "    \"%s \"*) words=\"", row->words);
            put_values(row->words, out);
            if (!two)
                put_second_words(row->words, strlen(row->words), out);
            buf_puts(out, "\" flags=\"");
            put_flags(row->options, out);
            buf_puts(out, "\" ;;\n");
        }
    buf_puts(out, "    \"config \"*) words=\"");
    put_second_words("config", 6, out);
    buf_puts(out, "\" ;;\n    \"events \"*) words=\"");
    put_second_words("events", 6, out);
    buf_puts(out, "\" ;;\n    \"log \"*) words=\"");
    put_second_words("log", 3, out);
    buf_puts(out, "\" ;;\n    \"help \"*) words=\"");
    put_first_words(out);
    buf_puts(out,
             "\" ;;\n  esac\n  case $cur in\n    -*) COMPREPLY=($(compgen -W \"$flags\" -- "
             "\"$cur\")) ;;\n    *) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
             "       [ -z \"$words\" ] && COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n  esac\n}\n");
}

/* ---- fish ---- */
/* In single quotes; what holds one is broken up. */
static void put_quoted(struct buf *out, const char *text)
{
    buf_putc(out, '\'');
    for (; *text; text++)
        buf_printf(out, *text == '\'' || *text == '\\' ? "\\%c" : "%c", *text);
    buf_putc(out, '\'');
}

/* fish knows first words only: second words and flags hang on them. */
static void put_fish_command(const struct cli_command_row *row, struct buf *out)
{
    const char *second = strchr(row->words, ' ');
    char first[64];
    snprintf(first, sizeof first, "%.*s", (int)strcspn(row->words, " "), row->words);
    struct buf values;
    buf_init(&values, 4096);
    put_values(row->words, &values);
    if (second)
        buf_printf(out, "complete -c foldback -n '__fish_seen_subcommand_from %s' -a %s -d ", first,
                   second + 1);
    else
        buf_printf(out, "complete -c foldback -n __fish_use_subcommand -a %s -d ", first);
    put_quoted(out, row->what);
    buf_putc(out, '\n');
    if (values.len)
        buf_printf(out, "complete -c foldback -n '__fish_seen_subcommand_from %s' -a '%s'\n", first,
                   buf_str(&values));
    for (size_t i = 0; i < OPT_COUNT; i++) {
        if (!((row->options & ~CLI_GLOBAL) >> i & 1))
            continue;
        buf_clear(&values);
        put_flag_values((enum cli_option)i, &values);
        buf_printf(out, "complete -c foldback -n '__fish_seen_subcommand_from %s' -l %s%s", first,
                   cli_options[i].name, cli_options[i].arg[0] ? " -r" : "");
        if (takes_file((enum cli_option)i))
            buf_puts(out, " -F");
        else if (values.len)
            buf_printf(out, " -a '%s'", buf_str(&values));
        buf_puts(out, " -d ");
        put_quoted(out, cli_options[i].what);
        buf_putc(out, '\n');
    }
    buf_fini(&values);
}

static void put_fish(struct buf *out)
{
    buf_puts(out, "complete -c foldback -f\n");
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (CLI_GLOBAL >> i & 1) {
            buf_printf(out, "complete -c foldback -l %s%s%s -d ", cli_options[i].name,
                       cli_options[i].arg[0] ? " -r" : "",
                       takes_file((enum cli_option)i) ? " -F" : "");
            put_quoted(out, cli_options[i].what);
            buf_putc(out, '\n');
        }
    for (size_t i = 0; i < cli_command_count; i++)
        put_fish_command(&cli_commands[i], out);
    buf_puts(out, "complete -c foldback -n '__fish_seen_subcommand_from config show check' -F\n");
}

int cmd_completion(const struct cli_call *call)
{
    const char *shell = call->arg[0];
    struct buf out;
    buf_init(&out, MIB);
    bool is_known = true;
    if (strcmp(shell, "bash") == 0) {
        put_bash(&out);
        buf_puts(&out, "complete -F _foldback foldback\n");
    } else if (strcmp(shell, "zsh") == 0) {
        buf_puts(&out, "#compdef foldback\nautoload -U +X bashcompinit && bashcompinit\n");
        put_bash(&out);
        buf_puts(&out, "complete -F _foldback foldback\n");
    } else if (strcmp(shell, "fish") == 0) {
        put_fish(&out);
    } else {
        is_known = false;
    }
    if (is_known)
        cli_flush(&out);
    buf_fini(&out);
    return is_known ? 0 : cli_usage(call, "knows bash, zsh and fish, not \"%s\"", shell);
}
