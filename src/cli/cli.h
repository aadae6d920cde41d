/* SPDX-License-Identifier: Apache-2.0 */
/* cli: the command line: one table of commands, their options and examples; help, man page and
 * completion come from it.
 *
 * Commands that ask a running foldback do it over the admin API with the token of its state folder.
 * Commands that need stages that cli/ may not know (run, replay, demo, log) are handed in by main/
 * as hooks. Exit codes: 0 ok, 1 the check or action failed, 2 usage or config error, 3 daemon not
 * reachable, 4 not permitted, 5 timed out.  Threads: main thread. */
#ifndef FB_CLI_CLI_H
#define FB_CLI_CLI_H
#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLI_LIST_MAX 64

struct cli_run_args {
    const char *config;             /* --config FILE, NULL none */
    const char *from[CLI_LIST_MAX]; /* --from ADDRESS */
    const char *to[CLI_LIST_MAX];   /* --to ADDRESS */
    size_t from_count, to_count;
    const char *state; /* --state DIR, NULL: default */
    const char *admin; /* --admin ADDRESS, NULL: default */
    bool is_quiet;
};
struct cli_replay_args {
    const char *state;     /* state folder that holds log/ */
    const char *config;    /* another configuration, NULL: as recorded */
    uint64_t from_offset;  /* 0: from the start of the log */
    uint64_t until_offset; /* UINT64_MAX: to the end */
    bool is_verify, is_json;
};
struct cli_demo_args {
    const char *scenario; /* "flash-sale", "live-sports", "collab" */
    uint32_t seconds;     /* 0: the scenario's own, 120 */
    bool is_headless;     /* no banner about the dashboard, no waiting */
    bool is_json;         /* one JSON object on stdout at the end */
    const char *report;   /* HTML file, NULL: ./foldback-demo-SCENARIO.html */
    const char *state;    /* folder, NULL: a temporary one */
    const char *self;     /* path of this program, for children */
};
struct cli_log_args {
    const char *verb; /* "check" | "stats" | "repair" */
    const char *state;
    bool is_applied; /* repair: do it, else say what would be done */
    bool is_json;
};
struct cli_query_args {
    const char *sql;           /* NULL: list tables */
    const char *table;         /* of the list, NULL: all */
    const char *state, *dir;   /* <dir> wins */
    const char *format;        /* NULL: table, or JSON with is_json */
    const char *since, *until; /* as typed, may be NULL */
    bool is_redacted, is_json;
};
struct cli_export_args {
    const char *format; /* NULL: jsonl */
    const char *types;  /* "request,decision", NULL: all */
    const char *state, *dir, *since, *until, *filter;
    const char *output; /* file, NULL: stdout */
    const char *region; /* NULL: all */
    uint64_t from_offset;
    bool is_following, is_redacted, is_json;
};
struct cli_key_args {
    const char *verb; /* "list" | "rotate" | "rewrap" | "prune" */
    const char *state;
    const char *master; /* rewrap: the new one, NULL: as it is */
    bool is_json;
};
struct cli_letters_args {
    const char *verb; /* "list" | "show" | "remove" | "find" */
    const char *state;
    const char *name; /* connector or handler, NULL: all */
    bool is_json;
    /* find: calls <found> for the owner of the letter <id>, NULL: for each that has letters. */
    const char *id;
    void (*found)(void *arg, const char *name);
    void *arg;
};
struct cli_erase_args {
    const char *state, *subject;
    bool is_dry, is_json;
};
struct cli_connector_args {
    const char *config, *name; /* name NULL: all */
    uint32_t timeout_ms; /* 0: libraries and what they read are looked at, no broker is asked */
    bool is_json;
    /* Instead of printing; may be NULL. */
    void (*step)(void *arg, const char *connector, bool is_good, const char *text);
    void *arg;
};
struct cli_hooks {
    int (*run)(const struct cli_run_args *args);
    int (*replay)(const struct cli_replay_args *args);
    int (*demo)(const struct cli_demo_args *args);
    int (*log)(const struct cli_log_args *args);
    int (*connector_check)(const struct cli_connector_args *args);
    int (*query)(const struct cli_query_args *args);
    int (*export)(const struct cli_export_args *args);
    int (*key)(const struct cli_key_args *args);
    int (*letters)(const struct cli_letters_args *args);
    int (*erase)(const struct cli_erase_args *args);
    /* Reference page by name ("config", "events", "knobs", "facts", "metrics", "reasons",
     * "errors"), Markdown; false: no such page.  Pages of tables that cli/ may not include; the
     * others are the CLI's own ("commands"). */
    bool (*reference)(const char *page, struct buf *out);
};

int cli_main(int argc, char **argv, const struct cli_hooks *hooks);
#endif
