/* SPDX-License-Identifier: Apache-2.0 */
/* stream status: the log and what feeds on it. */
#include "cli/cli_int.h"
#include "cli/table.h"

#include <stdio.h>
#include <string.h>

static void put_size(double bytes, char out[24])
{
    if (bytes >= 10.0 * (double)GIB)
        snprintf(out, 24, "%.0f GiB", bytes / (double)GIB);
    else if (bytes >= (double)MIB)
        snprintf(out, 24, "%.1f MiB", bytes / (double)MIB);
    else
        snprintf(out, 24, "%.1f KiB", bytes / (double)KIB);
}

static void show_log(const json_t *status, struct buf *out)
{
    const json_t *s = json_object_get(status, "stream");
    const json_t *brain = json_object_get(json_object_get(status, "cost"), "brain");
    double blocks = cli_num(s, "blocks"), events = cli_num(s, "events");
    double next = cli_num(s, "next_offset"), durable = cli_num(s, "durable_offset");
    char size[24];
    put_size(cli_num(s, "log_bytes"), size);
    buf_printf(out, "log         %s in %.0f segments, events %.0f to %.0f\n", size,
               cli_num(s, "segments"), cli_num(s, "first_offset"), next);
    buf_printf(out, "rate        %.1f events/s, %.0f since the start, %.0f lost\n",
               cli_num(s, "events_per_s"), events, cli_num(s, "events_lost"));
    if (blocks > 0)
        buf_printf(out, "blocks      %.0f since the start, %.0f events each\n", blocks,
                   events / blocks);
    buf_printf(out, "on the disk up to %.0f, %.0f events behind (%.1f ms)\n", durable,
               next > durable ? next - durable : 0, cli_num(s, "lag_ms"));
    if (json_is_true(json_object_get(s, "is_encrypted")))
        buf_printf(out, "encryption  on, key %.0f\n", cli_num(s, "key_id"));
    else
        buf_puts(out, "encryption  off\n");
    if (json_is_true(json_object_get(s, "is_disk_ok")))
        buf_puts(out, "disk        ok\n");
    else
        buf_printf(out, "disk        %s\n", cli_str(s, "disk_error"));
    if (brain) {
        put_size(cli_num(brain, "memory_bytes"), size);
        buf_printf(out, "cost        %.2f cores, %s (the brain, the stream included)\n",
                   cli_num(brain, "cpu_cores"), size);
    }
}

static void put_lag(const json_t *k, struct table *t)
{
    const json_t *events = json_object_get(k, "lag_events");
    bool is_source = strcmp(cli_str(k, "direction"), "source") == 0;
    double lag_s = cli_num(k, "lag_s");
    if (!json_is_number(events) && lag_s > 0)
        table_putf(t, "%.1f s", lag_s);
    else if (!json_is_number(events))
        table_put(t, "-");
    else if (is_source && !(lag_s > 0))
        table_putf(t, "%.0f", json_number_value(events));
    else
        table_putf(t, "%.0f, %.1f s", json_number_value(events), lag_s);
}

static void show_connectors(const json_t *list, struct buf *out)
{
    static const char *const heads[] = {"CONNECTOR", "TYPE",    "",      "STATE",     ">LAG",
                                        ">EVENTS",   ">ERRORS", ">DEAD", "LAST ERROR"};
    struct table t;
    if (json_array_size(list) == 0) {
        buf_puts(out,
                 "\nNo connectors: name one under `connectors`, `handlers` or `scrapes` (that of a "
                 "fleet: `foldback fleet status`).\n");
        return;
    }
    table_init(&t, heads, FB_COUNT(heads));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *k = json_array_get(list, i);
        table_put(&t, cli_str(k, "name"));
        table_put(&t, cli_str(k, "type"));
        table_put(&t, cli_str(k, "direction"));
        table_put(&t, cli_str(k, "state"));
        put_lag(k, &t);
        table_putf(&t, "%.0f", cli_num(k, "events"));
        table_putf(&t, "%.0f", cli_num(k, "errors"));
        table_putf(&t, "%.0f", cli_num(k, "dead"));
        table_putf(&t, "%s", cli_str(k, "last_error"));
    }
    buf_putc(out, '\n');
    table_print(&t, false, out);
    table_fini(&t);
}

static void put_reasons(const json_t *reasons, struct table *t)
{
    struct buf text;
    const char *name;
    json_t *count;
    buf_init(&text, KIB);
    json_object_foreach((json_t *)(uintptr_t)reasons, name, count)
        buf_printf(&text, "%s%s %.0f", text.len ? ", " : "", name, json_number_value(count));
    table_put(t, buf_str(&text));
    buf_fini(&text);
}

/* Ways that nobody has used are left out, but for one that cannot be opened. */
static void show_ingest(const json_t *ingest, struct buf *out)
{
    static const char *const heads[] = {"INGEST",   "STATE",    ">EVENTS", ">SAMPLES",
                                        ">REFUSED", ">PUT OFF", "REASONS"};
    const json_t *list = json_object_get(ingest, "sources");
    struct table t;
    size_t shown = 0;
    table_init(&t, heads, FB_COUNT(heads));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *k = json_array_get(list, i);
        bool is_failing = strcmp(cli_str(k, "state"), "failing") == 0;
        if (!(cli_num(k, "events") > 0) && !(cli_num(k, "refused") > 0) && !is_failing)
            continue;
        table_put(&t, cli_str(k, "via"));
        table_put(&t, cli_str(k, "state"));
        table_putf(&t, "%.0f", cli_num(k, "events"));
        table_putf(&t, "%.0f", cli_num(k, "samples"));
        table_putf(&t, "%.0f", cli_num(k, "refused"));
        table_putf(&t, "%.0f", cli_num(k, "put_off"));
        put_reasons(json_object_get(k, "reasons"), &t);
        shown++;
    }
    if (shown) {
        buf_putc(out, '\n');
        table_print(&t, false, out);
    }
    for (size_t i = 0; i < json_array_size(list); i++)
        if (*cli_str(json_array_get(list, i), "error"))
            buf_printf(out, "%s; it is tried again every 5 s.\n",
                       cli_str(json_array_get(list, i), "error"));
    if (cli_num(ingest, "queued_bytes") > 0)
        buf_printf(out, "%.0f of %.0f KiB wait for the brain.\n",
                   cli_num(ingest, "queued_bytes") / (double)KIB,
                   cli_num(ingest, "queue_bytes_max") / (double)KIB);
    table_fini(&t);
}

int cmd_stream_status(const struct cli_call *call)
{
    json_t *status = NULL, *connectors = NULL, *ingest = NULL;
    int code = cli_api(call, "GET", "/v1/status", NULL, &status);
    if (code == 0)
        code = cli_api(call, "GET", "/v1/connectors", NULL, &connectors);
    if (code == 0)
        code = cli_api(call, "GET", "/v1/ingest", NULL, &ingest);
    json_t *list = json_object_get(connectors, "connectors");
    if (code == 0 && call->is_json) {
        json_t *all = json_pack("{s:O, s:O, s:O}", "stream", json_object_get(status, "stream"),
                                "connectors", list, "ingest", ingest);
        cli_print_json(all);
        json_decref(all);
    } else if (code == 0) {
        struct buf out;
        buf_init(&out, MIB);
        show_log(status, &out);
        show_connectors(list, &out);
        show_ingest(ingest, &out);
        cli_flush(&out);
        buf_fini(&out);
    }
    json_decref(status);
    json_decref(connectors);
    json_decref(ingest);
    return code;
}
