/* SPDX-License-Identifier: Apache-2.0 */
#include "guard/region.h"

#include <string.h>

bool region_is_used(const struct conf *conf)
{
    for (size_t i = 0; i < conf->service_count; i++)
        if (conf_service_region(&conf->services[i])[0])
            return true;
    for (size_t i = 0; i < conf->route_count; i++)
        if (conf_route_region(conf, &conf->routes[i])[0])
            return true;
    return false;
}

/* "shop 10.0.0.1:80", "shop canary" and "shop" are of service shop.  A service that left the
 * configuration is of a region that nobody knows. */
static const char *of_service_name(const struct conf *conf, const char *name)
{
    size_t len = strcspn(name, " ");
    for (size_t i = 0; len && i < conf->service_count; i++) {
        const char *service = conf->services[i].name;
        if (strlen(service) == len && memcmp(service, name, len) == 0)
            return conf_service_region(&conf->services[i]);
    }
    return NULL;
}

static const char *of_name(const struct conf *conf, enum ev_kind kind, const char *name)
{
    for (size_t i = 0; kind == EV_KIND_ROUTE && i < conf->route_count; i++)
        if (strcmp(conf->routes[i].name, name) == 0)
            return conf_route_region(conf, &conf->routes[i]);
    return of_service_name(conf, name);
}

static const char *of_number(const struct region_book *book, const struct ev_head *ev,
                             enum ev_kind kind, uint16_t number)
{
    if (kind == EV_KIND_NONE || number == EV_NONE)
        return "";
    const char *name =
        book->names.name ? book->names.name(book->names.ctx, kind, number, ev->time_us) : NULL;
    return name && name[0] ? of_name(book->conf, kind, name) : NULL;
}

/* The number in field <name> of <ev>; false when it has none. */
static bool field(const struct ev_head *ev, const char *name, uint16_t *value)
{
    const struct ev_type_row *row = ev_type_row(ev->type);
    for (uint8_t i = 0; i < row->field_count; i++) {
        const struct ev_field_row *f = &row->fields[i];
        if (strcmp(f->name, name) != 0 || f->bytes > sizeof *value)
            continue;
        *value = 0;
        memcpy(value, (const char *)ev + f->offset, f->bytes);
        return true;
    }
    return false;
}

/* With name and figures of a signal, which is made of custom events. */
static bool tells_a_signal(const struct ev_head *ev)
{
    uint16_t reason = ev->type == EV_ALERT      ? ((const struct ev_alert *)ev)->reason
                      : ev->type == EV_DECISION ? ((const struct ev_decision *)ev)->reason
                                                : REASON_NONE;
    return reason == REASON_ALERT_SIGNAL_HARMED || reason == REASON_ALERT_SIGNAL_UNUSUAL ||
           reason == REASON_RELEASE_HARMED || reason == REASON_RELEASE_VERSION_HARMED;
}

const char *region_of(const struct region_book *book, const struct ev_head *ev)
{
    static const struct {
        const char *name;
        enum ev_kind kind;
    } direct[] = {{"route", EV_KIND_ROUTE},
                  {"service", EV_KIND_SERVICE},
                  {"endpoint", EV_KIND_ENDPOINT},
                  {"version", EV_KIND_VERSION}};
    uint16_t number, kind;
    if (ev->type == EV_CONFIG || ev->type == EV_CUSTOM || tells_a_signal(ev))
        return NULL; /* texts about anything */
    if (ev->type == EV_NAME) {
        const struct ev_name *n = (const struct ev_name *)ev;
        char name[sizeof n->name + 1] = "";
        memcpy(name, n->name, sizeof n->name);
        return of_name(book->conf, n->kind, name);
    }
    if (field(ev, "target", &number) && field(ev, "target_kind", &kind))
        return of_number(book, ev, (enum ev_kind)kind, number);
    if (field(ev, "number", &number) && field(ev, "kind", &kind))
        return of_number(book, ev, (enum ev_kind)kind, number);
    /* The most telling one decides; a request without a route may still have a service. */
    for (size_t i = 0; i < FB_COUNT(direct); i++)
        if (field(ev, direct[i].name, &number) && number != EV_NONE)
            return of_number(book, ev, direct[i].kind, number);
    return "";
}

bool region_may_pass(const struct region_book *book, const struct ev_head *ev, const char *sink)
{
    if (!region_is_used(book->conf))
        return true;
    const char *region = region_of(book, ev);
    if (!region)
        region = book->conf->p.top_region;
    return region[0] == '\0' || strcmp(region, sink) == 0;
}
