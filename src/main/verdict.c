/* SPDX-License-Identifier: Apache-2.0 */
/* What became of a reload, told to the brain: it answers who asked, and `doctor` remembers it. */
#include "gateway/control_msg.h"
#include "main/supervisor_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One part of a line: no TAB, no line end. */
static void put_part(struct buf *out, const char *text)
{
    for (; *text; text++)
        buf_putc(out, *text == '\t' || *text == '\n' || *text == '\r' ? ' ' : *text);
}

/* What does not fit is left out by whole lines. */
static void put_line(struct buf *out, const char *const part[3])
{
    size_t before = out->len;
    for (size_t i = 0; i < 3; i++) {
        put_part(out, part[i]);
        buf_putc(out, i < 2 ? '\t' : '\n');
    }
    if (out->len >= CONTROL_TEXT_BYTES)
        out->len = before;
}

static void put_waiting(void *arg, const char *key, const char *was, const char *now)
{
    put_line(arg, (const char *const[]){key, was, now});
}

static void begin(const struct supervisor *s, struct buf *out)
{
    buf_init(out, MIB);
    put_part(out, s->setup->file ? s->setup->file : "");
    buf_putc(out, '\n');
}

static void tell(struct supervisor *s, uint16_t number, enum control_verdict value,
                 const char *text)
{
    if (s->brain.pid && s->brain.control_fd >= 0)
        control_send(s->brain.control_fd, CONTROL_VERDICT, number, value, text);
}

static void tell_in_force(struct supervisor *s, uint16_t number)
{
    struct buf out;
    begin(s, &out);
    conf_restart_changes(s->conf_started, s->conf, put_waiting, &out);
    tell(s, number, VERDICT_IN_FORCE, buf_str(&out));
    buf_fini(&out);
}

void verdict_in_force(struct supervisor *s)
{
    free(s->reload_refused);
    s->reload_refused = NULL;
    tell_in_force(s, s->reload_number);
}

void verdict_refused(struct supervisor *s, const struct conf_report *report, const char *why)
{
    struct buf out;
    char line[16], column[16];
    begin(s, &out);
    for (size_t i = 0; report && i < report->count; i++) {
        if (report->at[i].is_warning)
            continue;
        snprintf(line, sizeof line, "%u", report->at[i].line);
        snprintf(column, sizeof column, "%u", report->at[i].column);
        put_line(&out, (const char *const[]){line, column, report->at[i].text});
    }
    if (!report || report->error_count == 0)
        put_line(&out, (const char *const[]){"0", "0", why});
    free(s->reload_refused);
    s->reload_refused = strdup(buf_str(&out));
    tell(s, s->reload_number, VERDICT_REFUSED, buf_str(&out));
    buf_fini(&out);
}

void verdict_no_file(struct supervisor *s)
{
    tell(s, s->reload_number, VERDICT_NO_FILE, "");
}

void verdict_again(struct supervisor *s)
{
    tell_in_force(s, 0);
    if (s->reload_refused)
        tell(s, 0, VERDICT_REFUSED, s->reload_refused);
}
