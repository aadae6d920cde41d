/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor_int: what supervisor.c, upgrade.c and upgrade_state.c share.
 *
 * supervisor.c starts, watches and stops processes; upgrade.c puts another binary in their place;
 * upgrade_state.c carries the supervisor itself across exec.  Threads: main thread only. */
#ifndef FB_MAIN_SUPERVISOR_INT_H
#define FB_MAIN_SUPERVISOR_INT_H
#include "io/socket.h"
#include "knob/memfile.h"
#include "main/listeners.h"
#include "main/supervisor.h"

#include <sys/types.h>

#define SUPERVISOR_PATH_BYTES 600
#define RETIRED_MAX (MEMFILE_SLOTS - 1)

struct child {
    const char *name;
    pid_t pid; /* 0: not running */
    int control_fd;
    uint64_t started_us, start_at_us, pause_us;
    uint32_t slot; /* of a gateway, in the memory file */
    bool is_ready;
    bool is_swapped; /* a brain of the binary before has been ended */
};

enum phase { PHASE_RUN, PHASE_DRAIN, PHASE_BRAIN_STOP, PHASE_END };

/* none -> WANTED -> CHECK -> START -> exec: this supervisor is the new binary -> BRAIN -> none
 *            any failure: none, and the old one goes on */
enum upgrade_step { UPGRADE_NONE, UPGRADE_WANTED, UPGRADE_CHECK, UPGRADE_START, UPGRADE_BRAIN };

struct upgrade {
    enum upgrade_step step;
    char binary[SUPERVISOR_PATH_BYTES], id[40]; /* id: of the request, for its answer */
    char from[40];                              /* version of the binary before */
    struct child check, next;                   /* the new binary's check; its gateway */
    int conf_fd;                                /* text that the new gateway starts with, or -1 */
    struct listeners listen; /* that the new gateway gets; none: those of the present one */
    uint64_t begin_us, until_us;
};

struct renew {
    pid_t pid; /* 0: it does not run */
    uint64_t begun_us, next_us;
};

struct exec_helper {
    pid_t pid; /* 0: it does not run */
    uint64_t conf_hash, next_us;
};

#define SILENT_CALLERS_MAX 32u
struct silent_caller {
    int fd;
    uint64_t until_us;
    bool is_answered;
};
/* Of the brain: its last tick, as it was looked at, and how long it has not moved. */
struct silent {
    uint64_t beat_us, looked_us, still_us;
    struct silent_caller caller[SILENT_CALLERS_MAX];
    uint32_t caller_count;
    bool is_silent;
};

struct supervisor {
    const struct supervisor_setup *setup;
    struct conf *conf, *conf_next;        /* conf_next: sent to the gateway, not yet accepted */
    struct conf *conf_started;            /* whose values of the next start are in force */
    uint16_t reload_asked, reload_number; /* of the brain: the newest one, that of the file read */
    char *reload_refused;                 /* why the last one was; NULL: it was taken */
    struct memfile mem;
    struct listeners listen, listen_next; /* next: of conf_next */
    int admin_fd, signal_fd, lock_fd, conf_fd;
    char admin_address[SOCK_TEXT_BYTES], token_file[512];
    struct child gateway, brain;
    struct child retired[RETIRED_MAX]; /* gateways before this one that end what they have */
    struct upgrade upgrade;
    struct renew renew;
    struct exec_helper exec;
    struct silent silent;
    enum phase phase;
    uint64_t phase_until_us;
    int conf_next_fd;
    bool is_announced, is_reload_wanted; /* wanted: one came while another was on its way */
    int code;
};

/* ---- supervisor.c ---- */
/* Starts <c> as gateway (its slot is set) or brain; <binary> NULL: this one. */
/* Nothing is open and nobody runs. */
void supervisor_init(struct supervisor *s, const struct supervisor_setup *setup);
void supervisor_start(struct supervisor *s, struct child *c, const char *binary, int conf_fd);
/* The memory file says which process serves, or decides. */
void supervisor_tell_pid(struct supervisor *s, const struct child *c);
FB_MUST_USE
enum fb_code supervisor_signals(struct supervisor *s, struct fb_err *err);
/* Until it is told to stop; frees what <s> holds.  Returns the exit code. */
int supervisor_loop(struct supervisor *s);

/* ---- verdict.c: what became of a reload, to the brain, which tells who asked ---- */
void verdict_in_force(struct supervisor *s);
/* <report> NULL or empty: <why> says it. */
void verdict_refused(struct supervisor *s, const struct conf_report *report, const char *why);
void verdict_no_file(struct supervisor *s);
void verdict_again(struct supervisor *s); /* to a brain that has just started */

/* ---- upgrade.c ---- */
/* SIGUSR2: what the request file says, else the file that this program was started from. */
void upgrade_ask(struct supervisor *s);
void upgrade_advance(struct supervisor *s, uint64_t now_us);
void upgrade_message(struct supervisor *s, struct child *c); /* one of its children has something */
/* True when <pid> was one of an upgrade's own. */
bool upgrade_reaped(struct supervisor *s, pid_t pid, int status);
void upgrade_brain_ready(struct supervisor *s);
void upgrade_abort(struct supervisor *s, const char *why);
void upgrade_stop(struct supervisor *s); /* foldback ends: so does what is under way */

/* ---- renew.c ---- */
uint64_t renew_due_us(const struct supervisor *s); /* UINT64_MAX: never */
void renew_advance(struct supervisor *s, uint64_t now_us);
bool renew_reaped(struct supervisor *s, pid_t pid, int status); /* true: it was its process */
void renew_stop(struct supervisor *s);                          /* foldback ends */

/* ---- exec_helper.c ---- */
uint64_t exec_helper_due_us(const struct supervisor *s); /* UINT64_MAX: never */
void exec_helper_advance(struct supervisor *s, uint64_t now_us);
bool exec_helper_reaped(struct supervisor *s, pid_t pid); /* true: it was its process */

/* ---- silent.c ---- */
uint64_t silent_due_us(const struct supervisor *s); /* UINT64_MAX: never */
void silent_advance(struct supervisor *s, uint64_t now_us);
void silent_stop(struct supervisor *s);

/* ---- upgrade_state.c ---- */
/* This process becomes <binary>; returns only when that failed. */
void upgrade_exec(struct supervisor *s, const char *binary, struct fb_err *err);
#endif
