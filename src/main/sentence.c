/* SPDX-License-Identifier: Apache-2.0 */
#include "main/sentence.h"

#include "control/engine.h"

#include <string.h>

static const char *name_of(const struct filter_names *names, const struct ev_head *ev, uint8_t kind,
                           uint16_t number)
{
    return number == EV_NONE || !names->name
               ? ""
               : names->name(names->ctx, (enum ev_kind)kind, number, ev->time_us);
}

static void put_alert(const struct ev_alert *ev, struct buf *out)
{
    static const char *const severities[] = {"note", "warning", "critical"};
    buf_printf(out, "%s: %.*s",
               ev->is_over                           ? "over"
               : ev->severity < FB_COUNT(severities) ? severities[ev->severity]
                                                     : "alert",
               (int)strnlen(ev->text, sizeof ev->text), ev->text);
}

static void put_key(const struct ev_key *ev, struct buf *out)
{
    static const char *const said[] = {
        "something was done to a key",  "encryption of stored data started",
        "the data key was rotated",     "keys were sealed anew",
        "a key was destroyed",          "a period of pseudonyms began",
        "a period of pseudonyms ended", "a person was erased"};
    if (ev->op == EV_KEY_ERASED)
        buf_printf(out, "%s (%llu texts, %u dead letters, by %.*s)", said[EV_KEY_ERASED],
                   (unsigned long long)ev->count, ev->key_id, (int)strnlen(ev->who, sizeof ev->who),
                   ev->who);
    else
        buf_printf(out, "%s (key %u, by %.*s)", said[ev->op < FB_COUNT(said) ? ev->op : 0],
                   ev->key_id, (int)strnlen(ev->who, sizeof ev->who), ev->who);
}

static void put_outcome(const struct filter_names *names, const struct ev_outcome *ev,
                        struct buf *out)
{
    buf_printf(out, "decision %llu about %s %s: %s", (unsigned long long)ev->decision_id,
               ev_kind_name(ev->target_kind),
               name_of(names, &ev->head, ev->target_kind, ev->target),
               ev_outcome_name(ev->outcome));
    if (ev->is_reverted)
        buf_puts(out, "; the knob went back");
}

static void put_health(const struct filter_names *names, const struct ev_health *ev,
                       struct buf *out)
{
    buf_printf(out, "endpoint %s of %s: %s -> %s",
               name_of(names, &ev->head, EV_KIND_ENDPOINT, ev->endpoint),
               name_of(names, &ev->head, EV_KIND_SERVICE, ev->service), ev_health_name(ev->from),
               ev_health_name(ev->to));
}

void sentence_put(const struct filter_names *names, const struct ev_head *ev, struct buf *out)
{
    const void *at = ev;
    switch (ev->type) {
    case EV_DECISION: {
        const struct ev_decision *d = at;
        explain_decision(d, name_of(names, ev, d->target_kind, d->target), out);
        break;
    }
    case EV_ALERT:
        put_alert(at, out);
        break;
    case EV_KEY:
        put_key(at, out);
        break;
    case EV_OUTCOME:
        put_outcome(names, at, out);
        break;
    case EV_HEALTH:
        put_health(names, at, out);
        break;
    default: {
        struct json j; /* not made for people: as it is */
        json_init(&j, out);
        ev_to_json(&j, ev, 0, true);
        break;
    }
    }
}
