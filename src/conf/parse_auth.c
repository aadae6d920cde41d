/* SPDX-License-Identifier: Apache-2.0 */
/* routes[].auth: who may ask. */
#include "conf/conf_int.h"

static void read_realm(struct reader *rd, const struct node *n, const char **out)
{
    struct span s;
    char path[NODE_PATH_BYTES];
    if (!read_scalar(rd, n, &s))
        return;
    bool is_good = s.len <= CONF_REALM_BYTES_MAX;
    for (size_t i = 0; i < s.len; i++)
        is_good &= s.at[i] >= ' ' && s.at[i] < 0x7f && s.at[i] != '"' && s.at[i] != '\\';
    if (!is_good)
        problem(rd, n,
                "%s must be at most %d visible characters of ASCII without \" and \\, got \"%.*s\"",
                node_path(n, path), CONF_REALM_BYTES_MAX, SHOWN(s));
    *out = arena_text(rd->keep, s);
}

static void read_user_header(struct reader *rd, const struct node *n, const char **out)
{
    struct span s;
    if (!read_scalar(rd, n, &s) || !parse_free_field(rd, n, s))
        return;
    if (span_ieq(s, SPAN("authorization")))
        problem(rd, n, "Authorization holds the password too: `forward: true` hands it on");
    *out = arena_text(rd->keep, s);
}

static void read_basic(struct reader *rd, const struct node *n, struct conf_auth *a)
{
    char path[NODE_PATH_BYTES];
    struct span s;
    if (!read_is(rd, n, NODE_MAP, "{ file: users.htpasswd, realm: Staff }"))
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        switch (read_key(rd, k, LEVEL_BASIC)) {
        case KEY_BASIC_file:
            if (!read_scalar(rd, k, &s))
                break;
            if (s.len == 0)
                problem(rd, k, "%s must name a file, got \"\"", node_path(k, path));
            a->file = arena_text(rd->keep, s);
            break;
        case KEY_BASIC_realm:
            read_realm(rd, k, &a->realm);
            break;
        case KEY_BASIC_user_header:
            read_user_header(rd, k, &a->user_header);
            break;
        case KEY_BASIC_remember:
            read_key_number(rd, k, KEY_BASIC_remember, &a->remember_ms);
            break;
        case KEY_BASIC_forward:
            read_bool(rd, k, &a->is_forwarded);
            break;
        default:
            break;
        }
    }
    if (!a->file)
        problem(rd, n,
                "basic needs the `file` with names and passwords; `htpasswd -cB "
                "users.htpasswd NAME` makes one");
}

static void ask_key(struct reader *rd, const struct node *k, struct conf_auth *a, bool *has_service)
{
    struct span s;
    int word;
    switch (read_key(rd, k, LEVEL_ASK)) {
    case KEY_ASK_service:
        *has_service = true;
        if (!read_service_name(rd, k, &a->service))
            return;
        rd->is_routed[a->service] = true;
        if (rd->services[a->service].is_tcp)
            problem(rd, k, "service `%s` gets connections, not requests",
                    rd->services[a->service].name);
        break;
    case KEY_ASK_path:
        if (parse_path(rd, k, &s))
            a->path = arena_text(rd->keep, s);
        break;
    case KEY_ASK_timeout:
        read_key_number(rd, k, KEY_ASK_timeout, &a->timeout_ms);
        break;
    case KEY_ASK_response_headers:
        a->copied =
            parse_free_fields(rd, k, "[X-User, X-Email]", CONF_COPIED_MAX, &a->copied_count);
        break;
    case KEY_ASK_redirects:
        read_bool(rd, k, &a->takes_redirects);
        break;
    case KEY_ASK_on_failure:
        if (read_word(rd, k, conf_key_row(KEY_ASK_on_failure)->words, &word))
            a->is_open = word == 1;
        break;
    default:
        break;
    }
}

static void read_ask(struct reader *rd, const struct node *n, struct conf_auth *a)
{
    bool has_service = false;
    if (!read_is(rd, n, NODE_MAP, "{ service: login, path: /verify }"))
        return;
    for (const struct node *k = n->first; k; k = k->next)
        ask_key(rd, k, a, &has_service);
    if (!has_service)
        problem(rd, n, "request needs the `service` that is asked, for example { service: login }");
}

const struct conf_auth *parse_auth(struct reader *rd, const struct node *n,
                                   const struct conf_route *rt)
{
    unsigned ways = 0;
    struct conf_auth *a = arena_get(rd->keep, sizeof *a);
    if (!a || !read_is(rd, n, NODE_MAP, "{ basic: { file: users.htpasswd } }"))
        return NULL;
    *a = (struct conf_auth){.realm = "restricted",
                            .user_header = "",
                            .remember_ms = 5 * 60 * UINT64_C(1000),
                            .path = "/",
                            .timeout_ms = 2000};
    if (conf_route_is_own(rt))
        problem(rd, n->key,
                "the route answers by itself, without asking who is there: `auth` would do "
                "nothing; give it a `service`, or remove this");
    for (const struct node *k = n->first; k; k = k->next) {
        switch (read_key(rd, k, LEVEL_AUTH)) {
        case KEY_AUTH_basic:
            ways++;
            read_basic(rd, k, a);
            break;
        case KEY_AUTH_request:
            ways++;
            read_ask(rd, k, a);
            break;
        case KEY_AUTH_except:
            (void)read_prefixes(rd, k, &a->except, &a->except_count);
            break;
        default:
            break;
        }
    }
    if (ways > 1)
        problem(rd, n, "auth has `basic` or `request`, not both; remove one of the two");
    if (ways == 0)
        problem(rd, n, "auth says nothing; for example { basic: { file: users.htpasswd } }");
    return a;
}
