/* SPDX-License-Identifier: Apache-2.0 */
/* listen: addresses, and what is spoken on each. */
#include "base/assert.h"
#include "conf/conf_int.h"

#include <ctype.h>
#include <stdio.h>

static void listen_map(struct reader *rd, const struct node *n, struct conf_listen *l);
static void read_address(struct reader *rd, const struct node *n, struct conf_listen *l);
static void read_protocols(struct reader *rd, const struct node *n, struct conf_listen *l);
static void read_protocol(struct reader *rd, const struct node *n, struct conf_listen *l);
static void read_service(struct reader *rd, const struct node *n, struct conf_listen *l);
static void read_proxy_protocol(struct reader *rd, const struct node *n, struct conf_listen *l);
static void read_trusted(struct reader *rd, const struct node *n, struct conf_listen *l);
static void read_proxies(struct reader *rd, const struct node *n, struct conf_listen *l);
static void read_tls(struct reader *rd, const struct node *n, struct conf_listen *l);

/* A key of LEVEL_LISTEN in keys.def has its reader here. */
static void (*const readers[KEY_COUNT])(struct reader *, const struct node *,
                                        struct conf_listen *) = {
    [KEY_LISTEN_address] = read_address,
    [KEY_LISTEN_protocols] = read_protocols,
    [KEY_LISTEN_protocol] = read_protocol,
    [KEY_LISTEN_service] = read_service,
    [KEY_LISTEN_proxy_protocol] = read_proxy_protocol,
    [KEY_LISTEN_trusted] = read_trusted,
    [KEY_LISTEN_forwarded_from] = read_proxies,
    [KEY_LISTEN_tls] = read_tls,
};

void parse_listens(struct reader *rd, const struct node *n)
{
    static const char example[] = "`listen: [\":8080\"]`";
    if (!read_is(rd, n, NODE_LIST, example))
        return;
    if (n->count == 0 || n->count > CONF_LISTENS_MAX) {
        problem(rd, n, "listen must have 1..%d addresses, got %u", CONF_LISTENS_MAX, n->count);
        return;
    }
    struct conf_listen *at = arena_get(rd->keep, n->count * sizeof *at);
    uint32_t *lines = arena_get(rd->keep, n->count * sizeof *lines);
    rd->listen_services = arena_get(&rd->scratch, n->count * sizeof(struct node *));
    rd->listens = at;
    if (!at || !lines || !rd->listen_services)
        return;
    size_t count = 0;
    for (const struct node *k = n->first; k; k = k->next, count++) {
        struct span s;
        lines[count] = k->line;
        if (k->kind == NODE_MAP)
            listen_map(rd, k, &at[count]);
        else if (read_scalar(rd, k, &s))
            parse_listen_address(rd, k, s, at[count].address);
        for (size_t i = 0; i < count; i++)
            if (at[count].address[0] && strcmp(at[i].address, at[count].address) == 0 &&
                strcmp(at[i].address + strlen(at[i].address) - 2, ":0") != 0)
                problem(rd, k, "listen has %s twice: remove one", at[i].address);
    }
    rd->conf->listens = at;
    rd->conf->listen_count = count;
    rd->private->listen_line = lines;
}

/* fd:NAME, as systemd names a socket: a letter first, so that it is no number. */
static bool is_fd_name(struct span s)
{
    if (!span_starts(s, SPAN("fd:")) || s.len < 4 || s.len > 60 || !isalpha((unsigned char)s.at[3]))
        return false;
    for (size_t i = 3; i < s.len; i++)
        if (!isalnum((unsigned char)s.at[i]) && !strchr("_-.", s.at[i]))
            return false;
    return true;
}

bool parse_listen_address(struct reader *rd, const struct node *n, struct span s,
                          char out[CONF_LISTEN_BYTES])
{
    struct span host;
    uint16_t port;
    char path[NODE_PATH_BYTES];
    uint64_t fd;
    if (span_starts(s, SPAN("fd:")) && span_to_u64((struct span){s.at + 3, s.len - 3}, &fd) &&
        fd >= 3 && fd < 1024) {
        snprintf(out, CONF_LISTEN_BYTES, "fd:%u", (unsigned)fd);
        return true;
    }
    if (is_fd_name(s)) {
        snprintf(out, CONF_LISTEN_BYTES, "%.*s", SPAN_ARG(s));
        return true;
    }
    if (span_starts(s, SPAN("unix:"))) {
        bool is_good = parse_unix_path(rd, n, &s, CONF_UNIX_LISTEN_BYTES_MAX, "");
        if (is_good && s.at[0] == '@') {
            problem(rd, n,
                    "%s: an abstract socket is open to everybody on this machine; write a "
                    "path, unix:/run/foldback/web.sock",
                    node_path(n, path));
            return false;
        }
        if (is_good)
            snprintf(out, CONF_LISTEN_BYTES, "unix:%.*s", SPAN_ARG(s));
        return is_good;
    }
    node_path(n, path);
    uint64_t bare;
    if (span_to_u64(s, &bare)) {
        problem(rd, n, "%s is an address, got \"%.*s\"; write \":%.*s\"", path, SHOWN(s), SHOWN(s));
        return false;
    }
    if (!value_address(s, &host, &port)) {
        problem(rd, n,
                "%s must be IP:PORT, [IPv6]:PORT or :PORT with a port of 0..65535, or unix:/PATH, "
                "got \"%.*s\"",
                path, SHOWN(s));
        return false;
    }
    if (span_eq(host, SPAN("localhost")))
        host = SPAN("127.0.0.1");
    if (host.len && !value_is_number_host(host)) {
        problem(
            rd, n,
            "%s must be an IP address of this machine, got the name \"%.*s\"; :%u listens on all",
            path, SHOWN(host), port);
        return false;
    }
    bool is_v6 = host.len && memchr(host.at, ':', host.len) != NULL;
    snprintf(out, CONF_LISTEN_BYTES, "%s%.*s%s:%u", is_v6 ? "[" : "", SPAN_ARG(host),
             is_v6 ? "]" : "", port);
    return true;
}

static void listen_map(struct reader *rd, const struct node *n, struct conf_listen *l)
{
    const struct node *address = NULL, *trusted = NULL, *protocols = NULL, *proxies = NULL;
    const struct node *service;
    for (const struct node *k = n->first; k; k = k->next) {
        int key = read_key(rd, k, LEVEL_LISTEN);
        if (key < 0)
            continue;
        fb_assert(readers[key] != NULL);
        readers[key](rd, k, l);
        if (key == KEY_LISTEN_address)
            address = k;
        if (key == KEY_LISTEN_trusted)
            trusted = k;
        if (key == KEY_LISTEN_protocols)
            protocols = k;
        if (key == KEY_LISTEN_forwarded_from)
            proxies = k;
    }
    service = rd->listen_services[l - rd->listens];
    if (l->is_tcp && !service)
        problem(rd, n, "a listener with `protocol: tcp` needs `service`: who gets the connections");
    if (!l->is_tcp && service)
        problem(rd, service->key,
                "`service` at a listener is for `protocol: tcp`; requests find theirs by `routes`");
    if (l->is_tcp && protocols)
        problem(rd, protocols->key, "`protocols` are those of HTTP: remove it, or `protocol: tcp`");
    if (l->is_tcp && proxies)
        problem(rd, proxies->key,
                "`forwarded_from` is for fields of HTTP: remove it, or `protocol: tcp`");
    if (!address)
        problem(rd, n, "a listener needs `address`, for example { address: \":8080\" }");
    if (trusted && !l->is_proxied)
        problem(rd, trusted->key,
                "`trusted` says whose PROXY headers are believed: add `proxy_protocol: true`; for "
                "X-Forwarded-For it is `forwarded_from`");
}

static void read_address(struct reader *rd, const struct node *n, struct conf_listen *l)
{
    struct span s;
    if (read_scalar(rd, n, &s))
        parse_listen_address(rd, n, s, l->address);
}

static void read_protocols(struct reader *rd, const struct node *n, struct conf_listen *l)
{
    char path[NODE_PATH_BYTES];
    if (!read_is(rd, n, NODE_LIST, "[http1, h2]"))
        return;
    l->is_http1_off = l->is_h2_off = true;
    for (const struct node *p = n->first; p; p = p->next) {
        if (p->kind == NODE_SCALAR && span_eq(p->text, SPAN("http1")))
            l->is_http1_off = false;
        else if (p->kind == NODE_SCALAR &&
                 (span_eq(p->text, SPAN("h2")) || span_eq(p->text, SPAN("h2c"))))
            l->is_h2_off = false; /* with or without TLS is told by `tls` */
        else
            problem(rd, p, "%s knows http1 and h2, got \"%.*s\"", node_path(n, path),
                    SHOWN(p->text));
    }
    if (n->count == 0)
        problem(rd, n, "%s names no protocol: write [http1, h2], or one of them",
                node_path(n, path));
}

static void read_protocol(struct reader *rd, const struct node *n, struct conf_listen *l)
{
    int word;
    if (read_word(rd, n, conf_key_row(KEY_LISTEN_protocol)->words, &word))
        l->is_tcp = word == 1;
}

static void read_service(struct reader *rd, const struct node *n, struct conf_listen *l)
{
    struct span s;
    if (read_scalar(rd, n, &s))
        rd->listen_services[l - rd->listens] = n;
}

void parse_listens_together(struct reader *rd)
{
    for (size_t i = 0; i < rd->conf->listen_count && rd->conf->service_count; i++) {
        struct conf_listen *l = &rd->listens[i];
        const struct node *n = rd->listen_services[i];
        if (l->is_tcp && n && read_service_name(rd, n, &l->service)) {
            rd->services[l->service].is_tcp = true;
            rd->is_routed[l->service] = true;
        }
    }
}

static void read_proxy_protocol(struct reader *rd, const struct node *n, struct conf_listen *l)
{
    read_bool(rd, n, &l->is_proxied);
}

static void read_trusted(struct reader *rd, const struct node *n, struct conf_listen *l)
{
    (void)read_prefixes(rd, n, &l->trusted, &l->trusted_count);
}

static void read_proxies(struct reader *rd, const struct node *n, struct conf_listen *l)
{
    (void)read_prefixes(rd, n, &l->proxies, &l->proxy_count);
}

static void read_tls(struct reader *rd, const struct node *n, struct conf_listen *l)
{
    parse_tls(rd, n, &l->tls);
}
