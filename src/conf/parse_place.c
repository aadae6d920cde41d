/* SPDX-License-Identifier: Apache-2.0 */
/* What decides where a request belongs: keys of consistent hashing, sticky sessions, zones, and
 * where lists of endpoints come from. */
#include "conf/conf_int.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

/* "header X-User", "cookie session", "query id", "path", "address". */
void parse_hash(struct reader *rd, const struct node *n, struct conf_hash *hash)
{
    static const char kinds[] = "address|path|header|cookie|query";
    struct span s, name;
    char path[NODE_PATH_BYTES];
    if (!read_scalar(rd, n, &s))
        return;
    struct span kind = span_cut(s, ' ', &name);
    name = span_trim(name);
    int at = value_word(kind, kinds);
    node_path(n, path);
    if (at < 0) {
        problem(rd, n,
                "%s must be address, path, header NAME, cookie NAME or query NAME, got \"%.*s\"",
                path, SHOWN(s));
        return;
    }
    hash->kind = (enum conf_hash_kind)at;
    if (hash->kind == CONF_HASH_ADDRESS || hash->kind == CONF_HASH_PATH) {
        if (name.len)
            problem(rd, n, "%s: %.*s takes no name, got \"%.*s\"", path, SHOWN(kind), SHOWN(name));
        return;
    }
    if (!parse_is_token(name))
        problem(rd, n, "%s: %.*s needs a name of letters, digits, - and _, for example `%.*s user`",
                path, SHOWN(kind), SHOWN(kind));
    else
        hash->name = arena_text(rd->keep, name);
}

void parse_sticky(struct reader *rd, const struct node *n, struct conf_sticky *sticky)
{
    struct span s;
    int word;
    *sticky = (struct conf_sticky){.path = "/", .secret_file = "", .is_http_only = true};
    if (!read_is(rd, n, NODE_MAP, "{ cookie: route, ttl: 1h }"))
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        int key = read_key(rd, k, LEVEL_STICKY);
        switch (key) {
        case KEY_STICKY_cookie:
            if (!read_scalar(rd, k, &s))
                break;
            sticky->cookie = arena_text(rd->keep, s);
            if (!parse_is_token(s) || s.len > 64)
                problem(rd, k, "cookie must be 1..64 letters, digits, - or _, got \"%.*s\"",
                        SHOWN(s));
            break;
        case KEY_STICKY_ttl:
            read_key_number(rd, k, KEY_STICKY_ttl, &sticky->ttl_ms);
            break;
        case KEY_STICKY_path:
            if (!read_scalar(rd, k, &s))
                break;
            sticky->path = arena_text(rd->keep, s);
            bool is_good = s.len > 0 && s.len <= 256 && s.at[0] == '/';
            for (size_t i = 0; i < s.len; i++)
                is_good &= s.at[i] > ' ' && s.at[i] < 0x7f && s.at[i] != ';';
            if (!is_good)
                problem(rd, k, "path of a cookie must begin with / and hold no blanks and no ;");
            break;
        case KEY_STICKY_secure:
            if (read_word(rd, k, conf_key_row(KEY_STICKY_secure)->words, &word))
                sticky->secure = (enum conf_secure)word;
            break;
        case KEY_STICKY_http_only:
            read_bool(rd, k, &sticky->is_http_only);
            break;
        case KEY_STICKY_same_site:
            if (read_word(rd, k, conf_key_row(KEY_STICKY_same_site)->words, &word))
                sticky->same_site = (enum conf_same_site)word;
            break;
        case KEY_STICKY_secret_file:
            read_str(rd, k, &sticky->secret_file);
            break;
        default:
            break;
        }
    }
    if (!sticky->cookie)
        problem(rd, n, "sticky needs the name of its cookie, for example { cookie: route }");
    if (sticky->same_site == CONF_SITE_NONE && sticky->secure == CONF_SECURE_OFF)
        problem(rd, n, "same_site: none needs secure: browsers drop such a cookie without it");
}

void parse_agent(struct reader *rd, const struct node *n, struct conf_agent *agent)
{
    uint64_t value;
    *agent = (struct conf_agent){.interval_ms = 2000};
    if (!read_is(rd, n, NODE_MAP, "{ port: 9777, interval: 2s }"))
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        int key = read_key(rd, k, LEVEL_AGENT);
        if (key < 0 || !read_key_number(rd, k, (enum conf_key)key, &value))
            continue;
        if (key == KEY_AGENT_port)
            agent->port = (uint16_t)value;
        else
            agent->interval_ms = value;
    }
    if (!agent->port)
        problem(rd, n, "agent_check needs a port, for example { port: 9777 }");
}

void parse_endpoint_place(struct reader *rd, const struct node *n, int key,
                          struct conf_endpoint *ep)
{
    struct span s;
    uint64_t value;
    switch (key) {
    case KEY_ENDPOINT_zone:
        if (!read_scalar(rd, n, &s))
            return;
        if (!parse_is_token(s) || s.len >= sizeof ep->zone)
            problem(rd, n, "zone must be 1..%zu letters, digits, - or _, got \"%.*s\"",
                    sizeof ep->zone - 1, SHOWN(s));
        else
            snprintf(ep->zone, sizeof ep->zone, "%.*s", SPAN_ARG(s));
        return;
    case KEY_ENDPOINT_backup:
        read_bool(rd, n, &ep->is_backup);
        return;
    case KEY_ENDPOINT_max_in_flight:
        if (read_key_number(rd, n, KEY_ENDPOINT_max_in_flight, &value))
            ep->in_flight_max = (uint32_t)value;
        return;
    default:
        return;
    }
}

bool parse_discovery(struct reader *rd, const struct node *n, struct conf_endpoint *ep)
{
    char path[NODE_PATH_BYTES];
    bool is_srv = span_starts(n->text, SPAN("dns+srv://"));
    bool is_file = span_starts(n->text, SPAN("file://"));
    if (!is_srv && !is_file)
        return false;
    size_t skip = is_srv ? 10 : 7;
    struct span s = {n->text.at + skip, n->text.len - skip};
    node_path(n, path);
    ep->kind = is_srv ? CONF_ENDPOINT_SRV : CONF_ENDPOINT_FILE;
    if (is_file && rd->is_list)
        problem(rd, n, "%s: a list of endpoints cannot name another file", path);
    else if (s.len == 0 || s.len >= sizeof ep->host)
        problem(rd, n, "%s: a %s of 1..%zu bytes must follow %s", path, is_srv ? "name" : "path",
                sizeof ep->host - 1, is_srv ? "dns+srv://" : "file://");
    else if (is_srv && memchr(s.at, ':', s.len))
        problem(rd, n, "%s: dns+srv:// takes no port: the answer has it; write dns+srv://%.*s",
                path, (int)((const char *)memchr(s.at, ':', s.len) - s.at), s.at);
    else if (is_srv && !value_is_name(s))
        problem(rd, n, "%s: \"%.*s\" is no name; write dns+srv://_http._tcp.example.org", path,
                SHOWN(s));
    else
        snprintf(ep->host, sizeof ep->host, "%.*s", SPAN_ARG(s));
    for (char *c = ep->host; is_srv && *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return true;
}

/* How HAProxy, Caddy and Envoy's users would write it. */
static bool is_foreign_path(struct span s)
{
    return s.len > 1 && (s.at[0] == '/' || s.at[0] == '@' || span_starts(s, SPAN("unix@")) ||
                         span_starts(s, SPAN("unix/")) || span_starts(s, SPAN("abns@")));
}

/* A name with a blank would be two in the registry; a colon is the end of the path in nginx. */
static bool is_path_text(struct span path)
{
    static const char marks[] = "/._-+=@%~";
    bool is_good = path.len > 1 && (path.at[0] == '/' || path.at[0] == '@');
    for (size_t i = 1; i < path.len; i++)
        is_good &= isalnum((unsigned char)path.at[i]) || memchr(marks, path.at[i], strlen(marks));
    return is_good && path.at[path.len - 1] != '/';
}

bool parse_unix_path(struct reader *rd, const struct node *n, struct span *s, size_t bytes_max,
                     const char *why)
{
    char path[NODE_PATH_BYTES];
    struct span at = {s->at + 5, s->len - 5};
    if (span_starts(at, SPAN("///"))) /* unix:///run/app.sock, as a URL */
        at = (struct span){at.at + 2, at.len - 2};
    *s = at;
    if (!is_path_text(at))
        problem(rd, n,
                "%s: unix: takes an absolute path of letters, digits and ._-+=@%%~, for example "
                "unix:/run/app.sock, or @NAME of an abstract socket, got \"%.*s\"",
                node_path(n, path), SHOWN(at));
    else if (at.len > bytes_max)
        problem(rd, n,
                "%s: the path must have 2..%zu bytes%s, got %zu; a link to it with a "
                "shorter path does",
                node_path(n, path), bytes_max, why, at.len);
    else
        return true;
    return false;
}

bool parse_unix(struct reader *rd, const struct node *n, struct span s, const char *service,
                struct conf_endpoint *ep)
{
    char path[NODE_PATH_BYTES];
    node_path(n, path);
    if (is_foreign_path(s)) {
        problem(rd, n,
                "%s: a Unix socket is written unix:/PATH, or unix:@NAME for an abstract "
                "one, got \"%.*s\"",
                path, SHOWN(s));
        return true;
    }
    if (!span_starts(s, SPAN("unix:")))
        return false;
    if (parse_unix_path(rd, n, &s, CONF_UNIX_PATH_BYTES_MAX - strlen(service),
                        " in a service of this name"))
        snprintf(ep->host, sizeof ep->host, "unix:%.*s", SPAN_ARG(s));
    ep->kind = CONF_ENDPOINT_ADDRESS;
    ep->port = 0;
    return true;
}

static void endpoint_list(struct reader *rd, const struct node *root)
{
    struct conf_service *sv = arena_get(rd->keep, sizeof *sv);
    if (!sv)
        return;
    parse_service_default(rd, sv);
    sv->name = "";
    const struct node *list = root->kind == NODE_LIST ? root : NULL;
    for (const struct node *k = root->kind == NODE_MAP ? root->first : NULL; k; k = k->next)
        if (span_eq(k->key->text, SPAN("endpoints")))
            list = k;
        else
            problem(rd, k->key, "a list of endpoints has only the key `endpoints`");
    if (list)
        parse_endpoints(rd, list, sv);
    else
        problem(rd, root, "write a list: [\"10.0.0.1:80\"], or { endpoints: [\"10.0.0.1:80\"] }");
    rd->conf->services = sv;
    rd->conf->service_count = 1;
}

enum fb_code conf_parse_endpoints(struct span text, const char *file, struct conf **out,
                                  struct conf_report *report)
{
    return conf_parse_with(text, file, endpoint_list, out, report);
}

void conf_own_path(const char *state_dir, const char *service, char path[CONF_OWN_PATH_BYTES])
{
    snprintf(path, CONF_OWN_PATH_BYTES, "%s/" CONF_OWN_FOLDER "/%s.yaml", state_dir, service);
}
