/* SPDX-License-Identifier: Apache-2.0 */
/* TLS of listeners and of services.  What the files hold is judged where they are loaded; here only
 * that they can be read, so that a wrong path is found with its line. */
#include "conf/conf_int.h"

#include <errno.h>
#include <unistd.h>

static const char example[] = "{ cert: /etc/foldback/site.pem, key: /etc/foldback/site.key }";

static void parse_certs(struct reader *rd, const struct node *n, struct conf_tls *tls);
static void tls_map(struct reader *rd, const struct node *n, struct conf_tls *tls);

static void read_file(struct reader *rd, const struct node *n, const char **out)
{
    char path[NODE_PATH_BYTES];
    if (!read_str(rd, n, out))
        return;
    if (!(*out)[0])
        problem(rd, n, "%s is empty: name a file, or remove the key", node_path(n, path));
    else if (access(*out, R_OK) != 0)
        problem(rd, n, "%s %.200s: %s; correct the path or the permissions", node_path(n, path),
                *out, strerror(errno));
}

void parse_tls(struct reader *rd, const struct node *n, struct conf_tls *tls)
{
    bool is_on;
    *tls = (struct conf_tls){.client_ca = "", .ciphers = ""};
    if (n->kind == NODE_SCALAR && !n->is_empty) {
        if (span_eq(n->text, SPAN("internal")))
            tls->is_on = tls->is_internal = true;
        else if (value_bool(n->text, &is_on) != VALUE_OK || is_on)
            problem(rd, n, "tls must be a map, `internal` or off, got \"%.*s\"; for example %s",
                    SHOWN(n->text), example);
        return;
    }
    if (read_is(rd, n, NODE_MAP, example))
        tls_map(rd, n, tls);
}

static void tls_map(struct reader *rd, const struct node *n, struct conf_tls *tls)
{
    struct conf_cert one = {.cert = "", .key = "", .ocsp = ""};
    const struct node *certs = NULL, *verify = NULL;
    int word;
    tls->is_on = true;
    for (const struct node *k = n->first; k; k = k->next) {
        switch (read_key(rd, k, LEVEL_TLS)) {
        case KEY_TLS_cert:
            read_file(rd, k, &one.cert);
            break;
        case KEY_TLS_key:
            read_file(rd, k, &one.key);
            break;
        case KEY_TLS_ocsp:
            read_file(rd, k, &one.ocsp);
            break;
        case KEY_TLS_certs:
            certs = k;
            break;
        case KEY_TLS_client_ca:
            read_file(rd, k, &tls->client_ca);
            if (!verify)
                tls->verify = CONF_VERIFY_REQUIRED;
            break;
        case KEY_TLS_verify:
            if (read_word(rd, k, conf_key_row(KEY_TLS_verify)->words, &word)) {
                tls->verify = (enum conf_verify)word;
                verify = k;
            }
            break;
        case KEY_TLS_min_version:
            if (read_word(rd, k, conf_key_row(KEY_TLS_min_version)->words, &word))
                tls->is_13_only = word == 1;
            break;
        case KEY_TLS_ciphers:
            read_str(rd, k, &tls->ciphers);
            break;
        default:
            break;
        }
    }
    if (verify && tls->verify != CONF_VERIFY_OFF && !tls->client_ca[0])
        problem(rd, verify, "verify needs client_ca: name the file with the authorities");
    if (!one.cert[0] != !one.key[0])
        problem(rd, n, "tls has %s without %s: name both files", one.cert[0] ? "cert" : "key",
                one.cert[0] ? "key" : "cert");
    else if (!one.cert[0] && !certs)
        problem(rd, n, "tls has no certificate; for example %s, or `tls: internal`", example);
    if (certs)
        parse_certs(rd, certs, tls);
    if (!one.cert[0])
        return;
    struct conf_cert *all = arena_get(rd->keep, (tls->cert_count + 1) * sizeof *all);
    if (!all)
        return;
    all[0] = one;
    for (size_t i = 0; i < tls->cert_count; i++)
        all[i + 1] = tls->certs[i];
    tls->certs = all;
    tls->cert_count++;
}

static void parse_certs(struct reader *rd, const struct node *n, struct conf_tls *tls)
{
    if (!read_is(rd, n, NODE_LIST, "[{ cert: a.pem, key: a.key }, { cert: b.pem, key: b.key }]"))
        return;
    if (n->count == 0 || n->count >= CONF_CERTS_MAX) {
        problem(rd, n, "certs must have 1..%d entries, got %u", CONF_CERTS_MAX - 1, n->count);
        return;
    }
    struct conf_cert *at = arena_get(rd->keep, n->count * sizeof *at);
    if (!at)
        return;
    size_t count = 0;
    for (const struct node *c = n->first; c; c = c->next, count++) {
        at[count] = (struct conf_cert){.cert = "", .key = "", .ocsp = ""};
        if (!read_is(rd, c, NODE_MAP, "{ cert: a.pem, key: a.key }"))
            continue;
        for (const struct node *k = c->first; k; k = k->next) {
            switch (read_key(rd, k, LEVEL_CERT)) {
            case KEY_CERT_cert:
                read_file(rd, k, &at[count].cert);
                break;
            case KEY_CERT_key:
                read_file(rd, k, &at[count].key);
                break;
            case KEY_CERT_ocsp:
                read_file(rd, k, &at[count].ocsp);
                break;
            default:
                break;
            }
        }
        if (!at[count].cert[0] || !at[count].key[0])
            problem(rd, c, "a certificate needs `cert` and `key`");
    }
    tls->certs = at;
    tls->cert_count = count;
}

void parse_tls_out(struct reader *rd, const struct node *n, struct conf_tls_out *tls)
{
    bool is_verified = true;
    if (n->kind == NODE_SCALAR && !n->is_empty && value_bool(n->text, &tls->is_on) == VALUE_OK)
        return;
    if (!read_is(rd, n, NODE_MAP, "on, off, or { ca: /etc/foldback/ca.pem, name: api.internal }"))
        return;
    tls->is_on = true;
    for (const struct node *k = n->first; k; k = k->next) {
        switch (read_key(rd, k, LEVEL_OUT)) {
        case KEY_OUT_ca:
            read_file(rd, k, &tls->ca);
            break;
        case KEY_OUT_name:
            if (read_str(rd, k, &tls->name) && !value_is_name(k->text) &&
                !value_is_number_host(k->text))
                problem(rd, k, "tls.name must be a host name or an IP address, got \"%.*s\"",
                        SHOWN(k->text));
            break;
        case KEY_OUT_verify:
            if (read_bool(rd, k, &is_verified))
                tls->is_unverified = !is_verified;
            break;
        case KEY_OUT_cert:
            read_file(rd, k, &tls->cert);
            break;
        case KEY_OUT_key:
            read_file(rd, k, &tls->key);
            break;
        default:
            break;
        }
    }
    if (!tls->cert[0] != !tls->key[0])
        problem(rd, n, "tls has %s without %s: name both files", tls->cert[0] ? "cert" : "key",
                tls->cert[0] ? "key" : "cert");
}
