/* SPDX-License-Identifier: Apache-2.0 */
/* Regions: where events of a service or route may be.  The rules hold together here, so that a
 * configuration that would let one out does not start:
 *
 *   the node's log is a sink: what is tagged must be of the node's own region
 *   a route is of the region of its service, and so are its copies (mirror)
 *   with tagged services every connector that sends says where its receiver stands */
#include "conf/conf_int.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

static const char *text_of(const char *region)
{
    return region ? region : "";
}

void parse_region(struct reader *rd, const struct node *n, const char **region)
{
    if (!read_str(rd, n, region))
        return;
    struct span s = n->text;
    bool is_good = s.len > 0 && s.len <= CONF_REGION_BYTES_MAX;
    for (size_t i = 0; i < s.len; i++)
        is_good &= (s.at[i] >= 'a' && s.at[i] <= 'z') || (s.at[i] >= '0' && s.at[i] <= '9') ||
                   (i > 0 && (s.at[i] == '-' || s.at[i] == '_'));
    if (!is_good)
        problem(rd, n, "region must be 1..%d small letters, digits, - or _, got \"%.*s\"",
                CONF_REGION_BYTES_MAX, SHOWN(s));
}

const char *conf_service_region(const struct conf_service *sv)
{
    return text_of(sv->region);
}

const char *conf_route_region(const struct conf *conf, const struct conf_route *rt)
{
    if (rt->region && rt->region[0])
        return rt->region;
    return !conf_route_is_own(rt) && rt->service < conf->service_count
               ? conf_service_region(&conf->services[rt->service])
               : "";
}

/* <what> carries <region>: may this node write its events? */
static bool check_node(struct reader *rd, uint32_t line, const char *what, const char *region)
{
    const char *own = rd->conf->p.top_region;
    if (!region[0] || strcmp(region, own) == 0)
        return true;
    if (own[0])
        problem_at(rd, line, 1,
                   "%s is of region %s, and this node, whose event log would hold what it does, is "
                   "of region %s: serve it from a node of %s, or correct one of the two",
                   what, region, own, region);
    else
        problem_at(rd, line, 1,
                   "%s is of region %s, and nothing says where this node and its event log are: "
                   "add `region: %s` at the top level if they are there",
                   what, region, region);
    return false;
}

static bool check_services(struct reader *rd, bool *has_any)
{
    char what[160];
    bool is_good = true;
    for (size_t i = 0; i < rd->conf->service_count; i++) {
        const struct conf_service *sv = &rd->conf->services[i];
        const char *region = conf_service_region(sv);
        *has_any |= region[0] != '\0';
        snprintf(what, sizeof what, "service %.100s", sv->name);
        is_good &= check_node(rd, rd->private->service_line[i][KEY_SERVICE_region], what, region);
    }
    return is_good;
}

static void check_routes(struct reader *rd, bool *has_any)
{
    const struct conf *conf = rd->conf;
    char what[160];
    for (size_t i = 0; i < conf->route_count; i++) {
        const struct conf_route *rt = &conf->routes[i];
        if (rt->service >= conf->service_count || conf_route_is_own(rt))
            continue;
        const struct conf_service *sv = &conf->services[rt->service];
        const char *region = conf_route_region(conf, rt), *service = conf_service_region(sv);
        uint32_t line = rd->private->route_line[i][KEY_ROUTE_region];
        *has_any |= region[0] != '\0';
        if (service[0] && strcmp(region, service) != 0) {
            problem_at(rd, line, 1,
                       "the route is of region %s and its service %s of %s: its requests would "
                       "leave the region; name a service of %s, or correct one of the two",
                       region, sv->name, service, region);
            continue;
        }
        snprintf(what, sizeof what, "the route to %.100s", sv->name);
        if (line)
            check_node(rd, line, what, region);
        const char *shadow = rt->mirror.pct > 0 && rt->mirror.service < conf->service_count
                                 ? conf_service_region(&conf->services[rt->mirror.service])
                                 : region;
        if (region[0] && strcmp(shadow, region) != 0)
            problem_at(rd, rd->private->route_line[i][KEY_ROUTE_mirror], 1,
                       "requests of region %s would be copied to service %s, which is %s%s: mirror "
                       "them to a service of %s",
                       region, conf->services[rt->mirror.service].name,
                       shadow[0] ? "of region " : "of no region", shadow, region);
    }
}

/* A connector keeps the configuration that it began with, as long as its hash stays: other regions
 * are another connector. */
static void mark_connectors(struct reader *rd, bool has_any)
{
    const struct conf *conf = rd->conf;
    uint64_t mark = 0;
    for (size_t i = 0; has_any && i < conf->service_count; i++) {
        const struct conf_service *sv = &conf->services[i];
        const char *region = conf_service_region(sv);
        mark = XXH64(sv->name, strlen(sv->name) + 1, mark);
        mark = XXH64(region, strlen(region) + 1, mark);
    }
    for (size_t i = 0; has_any && i < conf->route_count; i++) {
        const char *region = conf_route_region(conf, &conf->routes[i]);
        if (conf->routes[i].name)
            mark = XXH64(conf->routes[i].name, strlen(conf->routes[i].name) + 1, mark);
        mark = XXH64(region, strlen(region) + 1, mark);
    }
    struct conf_connector *at = (struct conf_connector *)(uintptr_t)conf->connectors;
    for (size_t i = 0; i < conf->connector_count; i++)
        at[i].hash ^= mark;
}

void check_regions(struct reader *rd, const struct node *root)
{
    bool has_any = false;
    if (check_services(rd, &has_any))
        check_routes(rd, &has_any);
    mark_connectors(rd, has_any);
    for (size_t i = 0; has_any && i < rd->conf->connector_count; i++) {
        const struct conf_connector *c = &rd->conf->connectors[i];
        if (!c->is_source && !c->region[0])
            problem(rd, find_node(root, c->section, c->name),
                    "%s.%s sends events, and some services are of a region: say where its receiver "
                    "is with `region: %s`; it gets events of that region, and events of none",
                    c->section, c->name,
                    rd->conf->p.top_region[0] ? rd->conf->p.top_region : "NAME");
    }
}

bool conf_is_master_key(const char *text)
{
    struct span s = span_of(text);
    bool is_path =
        (span_starts(s, SPAN("file:/")) || span_starts(s, SPAN("exec:/"))) && s.len < 1000;
    return is_path || s.len == 0 || span_eq(s, SPAN("none"));
}
