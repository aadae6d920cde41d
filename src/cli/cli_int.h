/* SPDX-License-Identifier: Apache-2.0 */
/* cli_int: a parsed command line, and what the commands share. */
#ifndef FB_CLI_CLI_INT_H
#define FB_CLI_CLI_INT_H
#include "base/error.h"
#include "cli/cli.h"
#include "cli/client.h"

#include <jansson.h>

enum cli_option {
#define OPTION(id, name, arg, is_list, what) OPT_##id,
#include "cli/options.def"
#undef OPTION
    OPT_COUNT,
    OPT_NONE = OPT_COUNT /* in OPTS(NONE): a command with the global flags only */
};
struct cli_call;
struct cli_option_row {
    const char *name, *arg, *what;
    bool is_list;
};
struct cli_command_row {
    const char *words, *args, *what, *examples;
    uint8_t min, max;
    uint64_t options; /* bit per enum cli_option, global ones included */
    int (*run)(const struct cli_call *call);
};

struct cli_call {
    const struct cli_hooks *hooks;
    const struct cli_command_row *command;
    const char *option[OPT_COUNT]; /* value, "" for a flag that is there, NULL when absent */
    const char *list[OPT_COUNT][CLI_LIST_MAX];
    size_t list_count[OPT_COUNT];
    const char *arg[8];
    size_t arg_count;
    char target[256]; /* SERVICE ADDRESS in one, when they were given as two */
    bool is_json, has_color;
};

extern const struct cli_command_row cli_commands[];
extern const size_t cli_command_count;
extern const struct cli_option_row cli_options[OPT_COUNT];
#define CLI_GLOBAL                                                                                 \
    (1ull << OPT_HELP | 1ull << OPT_STATE | 1ull << OPT_ADMIN | 1ull << OPT_TOKEN_FILE |           \
     1ull << OPT_JSON | 1ull << OPT_TIMEOUT | 1ull << OPT_NO_COLOR)

/* A number option in min..max, or <fallback> when absent; prints the error and returns false when
 * it is none. */
bool cli_number(const struct cli_call *call, enum cli_option option, uint64_t min, uint64_t max,
                uint64_t *value);
/* The same for a length in seconds, also written as 15m, 2h or 3d. */
bool cli_seconds(const struct cli_call *call, enum cli_option option, uint64_t min, uint64_t max,
                 uint64_t *value);
/* Prints "foldback: TEXT" and what to do; returns the exit code. */
int cli_fail(const struct fb_err *err);
int cli_usage(const struct cli_call *call, const char *fmt, ...) FB_PRINTF(2, 3);
/* --loop is absent or names a loop; else prints the error. */
bool cli_knows_loop(const struct cli_call *call);
/* Closest of <words> to <typed> within a third of its length, or NULL. */
const char *cli_closest(const char *typed, const char *const *words, size_t count);

/* One API call; on 0 *root is the parsed answer (json_decref it; NULL for an empty one).  Otherwise
 * prints the error and returns its exit code. */
int cli_api(const struct cli_call *call, const char *method, const char *path, const json_t *body,
            json_t **root);
/* The same, silent; with FB_E_RANGE *root is the parsed problem. */
struct client_call;
enum fb_code cli_ask(const struct cli_call *call, const struct client_call *one, json_t **root,
                     struct fb_err *err);
/* A GET, silent: the sentence is in <err>. */
enum fb_code cli_get(const struct cli_call *call, const char *path, json_t **root,
                     struct fb_err *err);
/* The state folder of a command that reads its files itself; 0, or the exit code of what is wrong
 * with it: closed to this user, or not there. */
int cli_state(const struct cli_call *call, const char **dir);
/* A client with the addresses and the time-out of the command line. */
enum fb_code cli_client(const struct cli_call *call, struct client *c, struct fb_err *err);
/* Prints <root> as JSON, indented; returns 0. */
int cli_print_json(const json_t *root);
/* One line of JSON, flushed. */
void cli_print_json_line(const json_t *root);
/* "?name=value" or "&name=value", encoded; nothing when <value> is NULL. */
void cli_query(struct buf *path, const char *name, const char *value);
/* Writes what <out> holds to stdout and flushes. */
void cli_flush(struct buf *out);

/* Text of a member, "" when absent; number, NAN when absent or null; truth, false when absent. */
const char *cli_str(const json_t *o, const char *key);
double cli_num(const json_t *o, const char *key);
bool cli_is(const json_t *o, const char *key);
/* Name of the member "target" of a decision, knob or alert. */
const char *cli_target(const json_t *o);

/* Numbers for people; "-" for NAN.  The text is in <room>, or a constant. */
#define CLI_ROOM 32
const char *cli_ms(double v, char room[CLI_ROOM]);        /* "12.3 ms" */
const char *cli_count(double v, char room[CLI_ROOM]);     /* 12.5, 1200 */
const char *cli_rate(double v, char room[CLI_ROOM]);      /* "12.5/s" */
const char *cli_pct(double ratio, char room[CLI_ROOM]);   /* 0.123 -> "12.3 %" */
const char *cli_bytes(double v, char room[CLI_ROOM]);     /* "3.4 MiB" */
const char *cli_ago(double seconds, char room[CLI_ROOM]); /* "2 h 5 min" */
/* "\033[31m" and so on, "" without colour. */
enum cli_color { CLI_PLAIN, CLI_BOLD, CLI_RED, CLI_GREEN, CLI_YELLOW, CLI_DIM };
const char *cli_paint(const struct cli_call *call, enum cli_color color);

/* An endpoint, service or route by its full or short name ("10.0.0.1:80" for "shop 10.0.0.1:80").
 * <only>: one kind, NULL any.  Errors: NOT_FOUND, also when two things have this short name. */
#define CLI_NAME 256
struct cli_found {
    const char *kind; /* "endpoint", "service" or "route" */
    char name[CLI_NAME];
    size_t count;
};
enum fb_code cli_resolve(const struct cli_call *call, const char *name, const char *only,
                         struct cli_found *found, struct fb_err *err);

/* Reads an event stream until <on_message> returns false; the exit code.  <raw> is the data as it
 * came, <data> the same parsed, borrowed.  A stream that the other end closes is code 3. */
typedef bool cli_on_message(void *arg, const char *name, const json_t *data, struct span raw);
struct cli_follow {
    cli_on_message *on_message;
    bool (*on_idle)(void *arg); /* NULL, or: nothing came for 100 ms; false stops */
    void *arg;
};
int cli_follow(const struct cli_call *call, const char *path, const struct cli_follow *follow);

/* Parts of pictures that status and top share: append to <out>. */
void show_services(const json_t *services, bool has_color, struct buf *out);
void show_endpoints(const json_t *endpoints, bool has_color, struct buf *out);
/* Nothing while every service has one version. */
void show_signals(const json_t *signals, bool has_color, struct buf *out);
void show_versions(const json_t *versions, bool has_color, struct buf *out);
void show_summary(const json_t *status, struct buf *out);

/* Checks of `foldback check`, in probe.c. */
enum probe_state { PROBE_OK, PROBE_WARN, PROBE_FAIL };
struct probe {
    char check[16], text[400], hint[240]; /* hint "" when ok */
    enum probe_state state;
};
#define PROBES_MAX 96
struct probes {
    struct probe at[PROBES_MAX];
    size_t count;
};
struct probe *probe_add(struct probes *p, enum probe_state state, const char *check,
                        const char *fmt, ...) FB_PRINTF(4, 5);
/* What to do next about it; dropped when it is ok. */
void probe_hint(struct probe *x, const char *hint);
struct conf;
/* <is_ours>: the running foldback has this configuration, so its ports are held by it. */
void probe_ports(struct probes *p, const struct conf *conf, bool is_ours);
void probe_endpoints(struct probes *p, const struct conf *conf, uint32_t timeout_ms);
void probe_certs(struct probes *p, const struct conf *conf);
/* What a gateway would refuse at its start; <line> 0: no place.  <state>: the folder that the start
 * would have, NULL: the one of the file.  Returns how many. */
typedef void check_start_fn(void *arg, uint32_t line, const char *text);
size_t check_start(const struct conf *conf, const char *state, check_start_fn *fn, void *arg);
/* The same for the ways in besides the admin API. */
size_t check_ingest(const struct conf *conf, check_start_fn *fn, void *arg);
void probe_ingest(struct probes *p, const struct cli_call *call, const struct conf *conf,
                  bool is_ours);
void probe_host(struct probes *p);
void probe_state_dir(struct probes *p, const char *dir);

/* Help of one command, or of all (NULL), to stdout. */
void cli_help(const struct cli_command_row *command);
/* The reference page of the commands, Markdown. */
void cli_reference(struct buf *out);

#define COMMAND(id, words, args, min, max, opts, what, examples)                                   \
    int cmd_##id(const struct cli_call *call);
#include "cli/commands.def"
#undef COMMAND
#endif
