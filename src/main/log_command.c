/* SPDX-License-Identifier: Apache-2.0 */
/* `foldback log check` and `foldback log stats`: reads every durable event and counts. */
#include "base/clock.h"
#include "main/run.h"
#include "stream/reader.h"

#include <stdio.h>
#include <string.h>

int log_command(const struct cli_log_args *args)
{
    char dir[600];
    struct log_reader *reader;
    struct fb_err err = {0};
    uint64_t count[EV_TYPE_END] = {0}, events = 0, holes = 0, missing = 0, first = 0, last = 0;
    snprintf(dir, sizeof dir, "%s/log", args->state);
    enum fb_code code = log_reader_open(&reader, dir, LOG_FROM_START, &err);
    if (code != FB_OK) {
        fprintf(stderr, "foldback: %s\n", err.text);
        return fb_error_row(code)->exit_code;
    }
    struct buf text;
    buf_init(&text, MIB);
    for (;;) {
        const struct ev_head *ev;
        uint64_t offset;
        code = log_reader_next(reader, &ev, &offset);
        if (code == FB_E_DAMAGED) {
            const struct log_skip *skip = log_reader_skip(reader);
            if (skip->reason != REASON_NONE) { /* what retention removed is no damage */
                holes++;
                missing += skip->to - skip->from;
                buf_printf(&text, "%s\n", skip->sentence);
            }
            continue;
        }
        if (code != FB_OK)
            break;
        if (events++ == 0)
            first = offset;
        last = offset;
        count[ev->type < EV_TYPE_END ? ev->type : 0]++;
    }
    bool is_broken = code != FB_OK && code != FB_E_END;
    if (is_broken)
        fprintf(stderr, "foldback: the log cannot be read at offset %llu: input/output error\n",
                (unsigned long long)log_reader_offset(reader));
    log_reader_close(reader);
    if (args->is_json) {
        struct buf out;
        struct json j;
        buf_init(&out, MIB);
        json_init(&j, &out);
        json_object_begin(&j);
        json_key_u64(&j, "events", events);
        json_key_u64(&j, "first_offset", first);
        json_key_u64(&j, "last_offset", last);
        json_key_u64(&j, "holes", holes);
        json_key_u64(&j, "missing_events", missing);
        json_key(&j, "types");
        json_object_begin(&j);
        for (uint8_t i = 0; i < EV_TYPE_END; i++)
            if (count[i])
                json_key_u64(&j, ev_type_row(i)->name, count[i]);
        json_object_end(&j);
        json_object_end(&j);
        printf("%s\n", buf_str(&out));
        buf_fini(&out);
    } else {
        fputs(buf_str(&text), stdout);
        printf("%llu events, offsets %llu to %llu, %llu holes with %llu events missing\n",
               (unsigned long long)events, (unsigned long long)first, (unsigned long long)last,
               (unsigned long long)holes, (unsigned long long)missing);
        if (strcmp(args->verb, "stats") == 0)
            for (uint8_t i = 0; i < EV_TYPE_END; i++)
                if (count[i])
                    printf("  %-10s %llu\n", ev_type_row(i)->name, (unsigned long long)count[i]);
    }
    buf_fini(&text);
    return is_broken || (strcmp(args->verb, "check") == 0 && holes) ? 1 : 0;
}
