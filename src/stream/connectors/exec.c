/* SPDX-License-Identifier: Apache-2.0 */
/* exec: each record is the standard input of a command, one after the other.
 *
 *   exit 0: delivered | other ends: again, <tries> times, then a dead letter |
 *   cannot be started: needs a hand, kept
 *
 * The commands run in a process beside the brain (exec_wire.h). */
#include "stream/connectors/connector.h"
#include "stream/connectors/exec_call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TEXT_BYTES 240 /* of what it wrote, in a message */

struct connector {
    struct connector_setup setup;
    const char *command;
    uint32_t tries, failed; /* <failed> times in a row, at the record of <offset> */
    char offset[24];
    struct exec_call call;
};

static enum fb_code judge(struct connector *c, const struct connector_batch *batch,
                          struct fb_err *err);

static const char *value(const struct connector *c, const char *key)
{
    return c->setup.value(c->setup.conf, key);
}

static enum fb_code exec_open(struct connector **out, const struct connector_setup *setup,
                              struct fb_err *err)
{
    struct connector *c = calloc(1, sizeof *c);
    if (!c)
        return fb_fail(err, FB_E_NOMEM, "no memory for %s", setup->name);
    c->setup = *setup;
    c->command = value(c, "command");
    c->tries = (uint32_t)strtoul(value(c, "tries"), NULL, 10);
    c->call = (struct exec_call){.setup = &c->setup, .command = c->command, .fd = -1};
    *out = c;
    return FB_OK;
}

static void exec_close(struct connector *c)
{
    exec_call_end(&c->call);
    free(c);
}

static enum fb_code exec_check(struct connector *c, uint32_t timeout_ms, connector_step *step,
                               void *arg, struct fb_err *err)
{
    char program[1024], text[1100];
    enum fb_code code = FB_OK;
    (void)timeout_ms;
    snprintf(program, sizeof program, "%.*s", (int)strcspn(c->command, "\n"), c->command);
    if (access(program, X_OK) != 0)
        code = fb_fail(err, FB_E_CONFIG, "%.300s cannot be run: %s; see `command` of %s", program,
                       strerror(errno), c->setup.name);
    snprintf(text, sizeof text, "%s can be run; it was not", program);
    step(arg, code == FB_OK, code == FB_OK ? text : err->text);
    return code;
}

static enum fb_code exec_send(struct connector *c, struct connector_batch *batch,
                              struct fb_err *err)
{
    struct connector_record *record = &batch->at[0]; /* send_max is 1 */
    record->result = CONNECTOR_RETRY;
    c->call.record = record->value;
    c->call.is_line = true;
    c->call.timeout_ms = batch->timeout_ms;
    enum fb_code code = exec_call_run(&c->call, err);
    return code == FB_OK ? judge(c, batch, err) : code;
}

static bool is_last_try(struct connector *c, const struct connector_record *record)
{
    struct span offset = {"", 0};
    for (uint32_t i = 0; i < record->header_count; i++)
        if (strcmp(record->headers[i].name, "foldback-offset") == 0)
            offset = record->headers[i].value;
    if (!span_eq(offset, span_of(c->offset))) {
        c->failed = 0;
        snprintf(c->offset, sizeof c->offset, "%.*s", SPAN_ARG(offset));
    }
    return ++c->failed >= c->tries;
}

static enum fb_code judge(struct connector *c, const struct connector_batch *batch,
                          struct fb_err *err)
{
    const struct exec_answer *a = &c->call.answer;
    struct connector_record *record = &batch->at[0];
    char why[120];
    if (a->end == EXEC_EXITED && a->status == 0) {
        record->result = CONNECTOR_DELIVERED;
        return FB_OK;
    }
    if (a->end == EXEC_NOT_STARTED)
        return fb_fail(err, FB_E_CONFIG, "%.*s cannot be started: %s; see `command` of %s",
                       (int)strcspn(c->command, "\n"), c->command, strerror(a->status),
                       c->setup.name);
    snprintf(why, sizeof why,
             a->end == EXEC_EXITED      ? "ended with code %d"
             : a->end == EXEC_SIGNALLED ? "was ended by signal %d"
                                        : "took too long and was ended",
             a->status);
    fb_fail(err, FB_E_AGAIN, "%.*s %s: %.*s", (int)strcspn(c->command, "\n"), c->command, why,
            TEXT_BYTES, a->text);
    if (!batch->is_resent && !is_last_try(c, record))
        return FB_E_AGAIN;
    c->setup.say(c->setup.ctx, FB_LOG_WARN, err->text);
    record->result = CONNECTOR_POISON;
    return FB_OK;
}

CONNECTOR_EXPORT = {.abi = CONNECTOR_ABI,
                    .bytes = sizeof(struct connector_type),
                    .name = "exec",
                    .can = CONNECTOR_SINK | CONNECTOR_ORDERED,
                    .send_max = 1,
                    .record_bytes_max = EXEC_RECORD_BYTES_MAX - 1, /* and the end of line */
                    .send_bytes_max = EXEC_RECORD_BYTES_MAX,
                    .open = exec_open,
                    .close = exec_close,
                    .check = exec_check,
                    .send = exec_send};
