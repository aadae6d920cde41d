/* SPDX-License-Identifier: Apache-2.0 */
/* What a gateway would refuse at its start although the text of the file is right: certificates,
 * keys, ciphers, users.  Nothing is opened but the files that it names. */
#include "cli/cli_int.h"
#include "conf/conf.h"
#include "guard/master.h"
#include "io/htpasswd.h"
#include "io/tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The authority of `tls: internal` lies in the state folder; a start makes what is missing there.
 */
static bool has_authority(const char *state)
{
    static const char *const names[] = {"internal-ca.pem", "internal-ca.key"};
    char file[600];
    for (size_t i = 0; i < FB_COUNT(names); i++) {
        snprintf(file, sizeof file, "%s/%s", state, names[i]);
        if (access(file, R_OK) != 0)
            return false;
    }
    return true;
}

static enum fb_code check_listen(const struct conf_listen *l, const char *state, struct fb_err *err)
{
    const struct conf_tls *tls = &l->tls;
    struct tls_server *server = NULL;
    if (!tls->is_on)
        return FB_OK;
    struct tls_cert_files *files = calloc(tls->cert_count + 1, sizeof *files);
    if (!files)
        return fb_fail(err, FB_E_NOMEM, "no memory to check certificates");
    for (size_t i = 0; i < tls->cert_count; i++)
        files[i] = (struct tls_cert_files){
            .cert = tls->certs[i].cert, .key = tls->certs[i].key, .ocsp = tls->certs[i].ocsp};
    const struct tls_server_conf c = {.certs = files,
                                      .cert_count = tls->cert_count,
                                      .internal_dir =
                                          tls->is_internal && has_authority(state) ? state : "",
                                      .client_ca = tls->client_ca,
                                      .verify = (enum tls_verify)tls->verify,
                                      .ciphers = tls->ciphers,
                                      .alpn = "h2,http/1.1",
                                      .is_13_only = tls->is_13_only};
    enum fb_code code = tls_server_new(&c, &server, err);
    if (code == FB_OK)
        tls_server_unref(server);
    free(files);
    return code;
}

static enum fb_code check_service(const struct conf_service *sv, struct fb_err *err)
{
    struct tls_client *client = NULL;
    struct fb_err why = {0};
    if (!sv->tls.is_on)
        return FB_OK;
    const struct tls_client_conf c = {.ca = sv->tls.ca,
                                      .name = sv->tls.name,
                                      .cert = sv->tls.cert,
                                      .key = sv->tls.key,
                                      .alpn = "",
                                      .is_unverified = sv->tls.is_unverified};
    enum fb_code code = tls_client_new(&c, &client, &why);
    if (code != FB_OK)
        return fb_fail(err, code, "service %.60s: %.380s", sv->name, why.text);
    tls_client_unref(client);
    return FB_OK;
}

/* Authorities, certificate and key, as they would be read when it connects. */
static enum fb_code check_connector(const struct conf_connector *k, struct fb_err *err)
{
    static const char *const none[] = {"exec", "file"};
    struct tls_client *client = NULL;
    const char *ca = conf_connector_value(k, "ca_file");
    const char *cert = conf_connector_value(k, "cert_file");
    const char *key = cert ? conf_connector_value(k, "key_file") : NULL; /* of Pub/Sub: JSON */
    const char *token_ca = conf_connector_value(k, "token_ca_file");
    for (size_t i = 0; i < FB_COUNT(none); i++)
        if (strcmp(k->type, none[i]) == 0)
            return FB_OK;
    for (int i = 0; i < 2; i++) {
        struct fb_err why = {0};
        const struct tls_client_conf c = {.ca = (i ? token_ca : ca) ? (i ? token_ca : ca) : "",
                                          .name = "",
                                          .cert = cert && !i ? cert : "",
                                          .key = key && !i ? key : "",
                                          .alpn = ""};
        if (!c.ca[0] && !c.cert[0])
            continue;
        enum fb_code code = tls_client_new(&c, &client, &why);
        if (code != FB_OK)
            return fb_fail(err, code, "%s.%s.%s: %.380s", k->section, k->name,
                           i ? "token_ca_file" : "ca_file, cert_file or key_file", why.text);
        tls_client_unref(client);
    }
    return FB_OK;
}

static enum fb_code check_users(const struct conf_route *rt, struct fb_err *err)
{
    struct htpasswd *users = NULL;
    struct fb_err why = {0};
    if (!rt->auth || !rt->auth->file)
        return FB_OK;
    if (htpasswd_load(rt->auth->file, &users, &why) != FB_OK)
        return fb_fail(err, FB_E_CONFIG, "route %.60s: %.380s", rt->name, why.text);
    htpasswd_free(users);
    return FB_OK;
}

static uint32_t line_of(const struct conf_connector *k, const char *text)
{
    for (size_t i = 0; i < k->value_count; i++)
        if (k->values[i].line && k->values[i].value[0] == '/' && strstr(text, k->values[i].value))
            return k->values[i].line;
    return 0;
}

size_t check_start(const struct conf *conf, const char *state, check_start_fn *fn, void *arg)
{
    if (!state)
        state =
            conf->p.top_state[0] ? conf->p.top_state : "/var/lib/foldback"; /* of run --config */
    size_t count = 0;
    struct fb_err err = {0};
    for (size_t i = 0; i < conf->listen_count; i++)
        if (check_listen(&conf->listens[i], state, &err) != FB_OK) {
            fn(arg, conf_listen_line(conf, i), err.text);
            count++;
        }
    for (size_t i = 0; i < conf->service_count; i++)
        if (check_service(&conf->services[i], &err) != FB_OK) {
            fn(arg, 0, err.text);
            count++;
        }
    for (size_t i = 0; i < conf->route_count; i++)
        if (check_users(&conf->routes[i], &err) != FB_OK) {
            fn(arg, 0, err.text);
            count++;
        }
    for (size_t i = 0; i < conf->connector_count; i++)
        if (check_connector(&conf->connectors[i], &err) != FB_OK) {
            fn(arg, line_of(&conf->connectors[i], err.text), err.text);
            count++;
        }
    struct fb_err why;
    if (master_probe(conf->p.encryption_master_key, &why) != FB_OK) {
        fb_fail(&err, why.code, "encryption.master_key: %.400s", why.text);
        fn(arg, 0, err.text);
        count++;
    }
    return count + check_ingest(conf, fn, arg);
}
