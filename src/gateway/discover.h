/* SPDX-License-Identifier: Apache-2.0 */
/* discover: where endpoints come from that the configuration does not name by address: names, SRV
 * records, lists in files, the list of the admin API.
 *
 * Threads: thread 0. */
#ifndef FB_GATEWAY_DISCOVER_H
#define FB_GATEWAY_DISCOVER_H
#include "gateway/gateway_int.h"
#include "knob/sources.h"

/* What is said of an endpoint, wherever it was found. */
struct wish {
    double weight_pct;
    char version[32], zone[CONF_ZONE_BYTES];
    char host[256]; /* what its certificate must be for */
    uint32_t in_flight_max;
    uint8_t tier;
    uint8_t origin; /* enum memfile_origin */
    bool is_dns;
    uint16_t source; /* 1 + row of knob/sources.h, 0 none */
};

/* <from>: the source of <e>, whose wishes it inherits; NULL: the configuration. */
void wish_of(const struct conf_endpoint *e, const struct wish *from, struct wish *wish);
void discover_sync(struct service *sv); /* sources as its configuration names them */
bool discover_walk(struct service *sv); /* service_want for each; true: some are not known yet */
void discover_tick(struct gw *gw);
/* "SERVICE\nADDRESS": the brain has written the service's own list anew; whether the address is in
 * is told to <ticket>, of a name when it has had its first answer. */
void discover_own(struct gw *gw, uint16_t ticket, struct span what);
void discover_dns(struct gw *gw, const struct dns_change *change);
void discover_retire(struct gw *gw); /* another gateway says how names are */
void discover_fini(struct gw *gw);
#endif
