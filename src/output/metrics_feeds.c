/* SPDX-License-Identifier: Apache-2.0 */
/* Exposition of what feeds on the stream and what comes in: connectors, facts of applications, ways
 * in. */
#include "output/admin.h"
#include "output/metrics_int.h"

#include <math.h>

static void write_connector_totals(struct writer *w)
{
    static const struct {
        enum metric_id id;
        size_t offset;
    } rows[] = {
        {METRIC_ID_CONNECTOR_EVENTS, offsetof(struct admin_connector, events)},
        {METRIC_ID_CONNECTOR_RECORDS, offsetof(struct admin_connector, records)},
        {METRIC_ID_CONNECTOR_BYTES, offsetof(struct admin_connector, bytes)},
        {METRIC_ID_CONNECTOR_ERRORS, offsetof(struct admin_connector, errors)},
        {METRIC_ID_CONNECTOR_RETRIES, offsetof(struct admin_connector, retries)},
        {METRIC_ID_CONNECTOR_SPLIT, offsetof(struct admin_connector, split)},
        {METRIC_ID_CONNECTOR_DEAD, offsetof(struct admin_connector, dead)},
        {METRIC_ID_CONNECTOR_LOST, offsetof(struct admin_connector, lost)},
        {METRIC_ID_CONNECTOR_REPEATED, offsetof(struct admin_connector, repeated)},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        metrics_family(w, rows[i].id);
        for (uint32_t k = 0; k < w->view->connector_count; k++) {
            const struct admin_connector *c = &w->view->connectors[k];
            uint64_t value;
            memcpy(&value, (const char *)c + rows[i].offset, sizeof value);
            metrics_put_u64(w, rows[i].id, VALUES(c->name), value);
        }
    }
}

static void write_connectors(struct writer *w)
{
    const struct admin_connector *at = w->view->connectors;
    uint32_t n = w->view->connector_count;
    metrics_family(w, METRIC_ID_CONNECTOR_UP);
    for (uint32_t i = 0; i < n; i++)
        metrics_put_u64(w, METRIC_ID_CONNECTOR_UP,
                        VALUES(at[i].name, at[i].type, at[i].is_source ? "source" : "sink"),
                        strcmp(at[i].state, "running") == 0);
    metrics_family(w, METRIC_ID_CONNECTOR_LAG_EVENTS);
    for (uint32_t i = 0; i < n; i++)
        if (at[i].lag_events != UINT64_MAX)
            metrics_put_u64(w, METRIC_ID_CONNECTOR_LAG_EVENTS, VALUES(at[i].name),
                            at[i].lag_events);
    metrics_family(w, METRIC_ID_CONNECTOR_LAG);
    for (uint32_t i = 0; i < n; i++)
        metrics_put_f64(w, METRIC_ID_CONNECTOR_LAG, VALUES(at[i].name), (double)at[i].lag_us / 1e6);
    metrics_family(w, METRIC_ID_CONNECTOR_IN_FLIGHT);
    for (uint32_t i = 0; i < n; i++)
        metrics_put_u64(w, METRIC_ID_CONNECTOR_IN_FLIGHT, VALUES(at[i].name), at[i].in_flight);
    write_connector_totals(w);
}

static void write_customs(struct writer *w)
{
    const struct customs *all = w->view->customs;
    uint32_t n = all ? customs_count(all) : 0;
    metrics_family(w, METRIC_ID_CUSTOM);
    for (uint32_t i = 0; i < n; i++)
        metrics_put_f64(w, METRIC_ID_CUSTOM, VALUES(customs_at(all, i)->name),
                        customs_at(all, i)->last);
    metrics_family(w, METRIC_ID_CUSTOM_EVENTS);
    for (uint32_t i = 0; i < n; i++)
        metrics_put_u64(w, METRIC_ID_CUSTOM_EVENTS, VALUES(customs_at(all, i)->name),
                        customs_at(all, i)->total);
    metrics_family(w, METRIC_ID_CUSTOM_SUM);
    for (uint32_t i = 0; i < n; i++)
        metrics_put_f64(w, METRIC_ID_CUSTOM_SUM, VALUES(customs_at(all, i)->name),
                        customs_at(all, i)->total_sum);
    metrics_family(w, METRIC_ID_CUSTOM_REFUSED);
    metrics_put_u64(w, METRIC_ID_CUSTOM_REFUSED, NULL, all ? customs_refused(all) : 0);
}

static void put_vias(struct writer *w, enum metric_id metric, const _Atomic uint64_t *values)
{
    metrics_family(w, metric);
    for (unsigned via = 0; values && via < INGEST_VIAS; via++)
        metrics_put_u64(w, metric, VALUES(ingest_via_name(via)), atomic_load(&values[via]));
}

static void write_ingest(struct writer *w)
{
    struct ingest_stats *s = w->view->ingest;
    metrics_family(w, METRIC_ID_INGEST_UP);
    for (unsigned via = 0; s && via < INGEST_VIAS; via++)
        if (s->state[via] != INGEST_OFF)
            metrics_put_u64(w, METRIC_ID_INGEST_UP, VALUES(ingest_via_name(via)),
                            s->state[via] == INGEST_OPEN);
    put_vias(w, METRIC_ID_INGEST_EVENTS, s ? s->events : NULL);
    put_vias(w, METRIC_ID_INGEST_SAMPLES, s ? s->samples : NULL);
    put_vias(w, METRIC_ID_INGEST_REPEATED, s ? s->repeated : NULL);
    put_vias(w, METRIC_ID_INGEST_PUT_OFF, s ? s->put_off : NULL);
    metrics_family(w, METRIC_ID_INGEST_REFUSED);
    for (unsigned via = 0; s && via < INGEST_VIAS; via++)
        for (unsigned i = 0; i < INGEST_REFUSED_COUNT; i++)
            if (atomic_load(&s->refused[via][i]))
                metrics_put_u64(w, METRIC_ID_INGEST_REFUSED,
                                VALUES(ingest_via_name(via), ingest_refused_name(i)),
                                atomic_load(&s->refused[via][i]));
    metrics_family(w, METRIC_ID_INGEST_QUEUED);
    metrics_put_u64(w, METRIC_ID_INGEST_QUEUED, NULL, w->view->ingest_queued_bytes);
}

static void write_signals(struct writer *w)
{
    static struct signal_view none;
    struct signal_view seen[SIGNALS_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; w->view->signal && i < SIGNALS_MAX; i++) {
        seen[n] = none;
        n += w->view->signal(w->view->signal_ctx, i, &seen[n]);
    }
    metrics_family(w, METRIC_ID_SIGNAL);
    for (uint32_t i = 0; i < n; i++)
        if (!isnan(seen[i].now))
            metrics_put_f64(w, METRIC_ID_SIGNAL, VALUES(seen[i].signal->conf.name), seen[i].now);
    metrics_family(w, METRIC_ID_SIGNAL_USUAL);
    for (uint32_t i = 0; i < n; i++)
        if (!isnan(seen[i].usual))
            metrics_put_f64(w, METRIC_ID_SIGNAL_USUAL, VALUES(seen[i].signal->conf.name),
                            seen[i].usual);
    metrics_family(w, METRIC_ID_SIGNAL_STATE);
    for (uint32_t i = 0; i < n; i++)
        for (unsigned s = 0; s <= SIGNAL_STATE_HARMED; s++)
            metrics_put_u64(
                w, METRIC_ID_SIGNAL_STATE,
                VALUES(seen[i].signal->conf.name, signal_state_name((enum signal_state)s)),
                seen[i].state == (enum signal_state)s);
}

void metrics_write_feeds(struct writer *w)
{
    write_connectors(w);
    write_customs(w);
    write_signals(w);
    write_ingest(w);
}
