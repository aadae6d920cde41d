/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates of a configuration: whether they can be used, and for how long. */
#include "base/clock.h"
#include "cli/cli_int.h"
#include "conf/conf.h"
#include "io/tls_cert.h"

#include <stdio.h>

#define DAY_S 86400

static void probe_cert(struct probes *p, const struct conf_cert *files, uint64_t warn_s);

void probe_certs(struct probes *p, const struct conf *conf)
{
    uint64_t warn_s = conf->p.tls_expiry_warning / 1000;
    for (size_t i = 0; i < conf->listen_count; i++) {
        const struct conf_tls *t = &conf->listens[i].tls;
        for (size_t k = 0; k < t->cert_count; k++)
            probe_cert(p, &t->certs[k], warn_s);
    }
    for (size_t i = 0; i < conf->service_count; i++) {
        const struct conf_tls_out *t = &conf->services[i].tls;
        if (t->cert[0])
            probe_cert(p, &(struct conf_cert){.cert = t->cert, .key = t->key, .ocsp = ""}, warn_s);
        struct fb_err err = {0};
        if (t->ca[0] && !t->is_unverified && tls_ca_check(t->ca, &err) != FB_OK)
            probe_hint(probe_add(p, PROBE_FAIL, "tls", "%.300s", err.text),
                       "correct the file that it names");
    }
}

static void probe_cert(struct probes *p, const struct conf_cert *files, uint64_t warn_s)
{
    struct tls_cert cert;
    struct fb_err err = {0};
    uint64_t now_s = fb_wall_us() / US_PER_S;
    const struct tls_cert_files f = {.cert = files->cert, .key = files->key, .ocsp = files->ocsp};
    if (tls_cert_load(&f, &cert, &err) != FB_OK) {
        probe_hint(probe_add(p, PROBE_FAIL, "tls", "%.300s", err.text),
                   "correct the files that it names");
        return;
    }
    double days = ((double)cert.not_after_s - (double)now_s) / DAY_S;
    if (cert.not_before_s > now_s)
        probe_hint(probe_add(p, PROBE_FAIL, "tls", "%.200s is not valid yet", files->cert),
                   "see whether the clock is right");
    else if (cert.not_after_s <= now_s)
        probe_hint(
            probe_add(p, PROBE_FAIL, "tls", "%.200s ended %.0f days ago", files->cert, -days),
            "renew it");
    else if (cert.not_after_s - now_s <= warn_s)
        probe_hint(probe_add(p, PROBE_WARN, "tls", "%.200s ends in %.1f days", files->cert, days),
                   "see why it is not renewed");
    else
        probe_add(p, PROBE_OK, "tls", "%.200s is good for %.0f days", files->cert, days);
    tls_cert_fini(&cert);
}
