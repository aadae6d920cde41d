/* SPDX-License-Identifier: Apache-2.0 */
/* The whole file: top level, sections, and the checks that need more than one key. */
#include "base/assert.h"
#include "conf/conf_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

static void parse_top(struct reader *rd, const struct node *root);
static void parse_section(struct reader *rd, const struct node *n);
static void check_dns(struct reader *rd, const struct node *root)
{
    const struct node *n = find_node(root, "dns", "servers");
    for (struct span rest = span_of(n ? rd->conf->p.dns_servers : ""); rest.len;) {
        struct span one = span_trim(span_cut(rest, ',', &rest)), host = one;
        uint16_t port = 53;
        if (value_is_number_host(one) ||
            (value_address(one, &host, &port) && port && value_is_number_host(host)))
            continue;
        problem(rd, n,
                "dns.servers: \"%.*s\" is no address; write IP or IP:PORT, separated by commas",
                SHOWN(one));
    }
}

static void check_together(struct reader *rd, const struct node *root);
static void check_duplicates(struct reader *rd, const struct node *n);
static void read_root(struct reader *rd, const struct node *root);

enum fb_code conf_parse(struct span text, const char *file, struct conf **out,
                        struct conf_report *report)
{
    return conf_parse_with(text, file, read_root, out, report);
}

static void read_root(struct reader *rd, const struct node *root)
{
    if (read_is(rd, root, NODE_MAP, "`listen: [\":8080\"]`"))
        parse_top(rd, root);
}

enum fb_code conf_parse_with(struct span text, const char *file, parse_root_fn *read,
                             struct conf **out, struct conf_report *report)
{
    enum fb_code code = FB_E_NOMEM;
    struct reader rd = {.report = report, .is_list = read != read_root};
    *out = NULL;
    *report = (struct conf_report){0};
    struct conf *c = calloc(1, sizeof *c);
    struct conf_private *private = calloc(1, sizeof *private);
    if (!c || !private) {
        free(c);
        free(private);
        return FB_E_NOMEM;
    }
    c->private = private;
    private->refs = 1;
    rd.conf = c;
    rd.private = private;
    rd.keep = &private->arena;
    if (text.len > CONF_TEXT_BYTES_MAX) {
        problem_at(&rd, 1, 1, "the file has %zu bytes; the most is 1 MiB", text.len);
    } else {
        params_default(&c->p);
        c->text = arena_text(rd.keep, text);
        c->text_bytes = text.len;
        c->hash = XXH64(text.at, text.len, 0);
        c->file = arena_text(rd.keep, span_of(file ? file : ""));
        report->text = malloc(text.len + 1); /* for the carets; without it they are left out */
        if (report->text) {
            if (text.len)
                memcpy(report->text, text.at, text.len);
            report->text[text.len] = 0;
            report->text_bytes = text.len;
        }
        struct node *root = yaml_read(&rd, text);
        if (root)
            read(&rd, root);
    }
    problem_sort(report);
    if (report->error_count)
        code = FB_E_CONFIG;
    else if (!rd.scratch.failed && !rd.keep->failed)
        code = FB_OK;
    arena_fini(&rd.scratch);
    if (code == FB_OK)
        *out = c;
    else
        conf_unref(c);
    return code;
}

enum fb_code conf_load(const char *file, struct conf **out, struct conf_report *report,
                       struct fb_err *err)
{
    struct buf text;
    char block[16384];
    size_t got;
    *out = NULL;
    *report = (struct conf_report){0};
    FILE *f = strcmp(file, "-") == 0 ? stdin : fopen(file, "re");
    if (!f)
        return fb_fail(err, FB_E_CONFIG, "%s: %s; %s", file, strerror(errno),
                       errno == EACCES ? "let this user read it, or run this as one who may"
                                       : "name a file that is there, or start without one: "
                                         "`foldback run --to :3000`");
    buf_init(&text, CONF_TEXT_BYTES_MAX + sizeof block);
    while ((got = fread(block, 1, sizeof block, f)) > 0 && text.len <= CONF_TEXT_BYTES_MAX)
        buf_put(&text, block, got);
    enum fb_code code = FB_OK;
    if (ferror(f))
        code =
            fb_fail(err, FB_E_CONFIG, "%s cannot be read: %s; name a file", file, strerror(errno));
    else if (text.failed)
        code = fb_fail(err, FB_E_NOMEM, "%s: no memory to read it", file);
    if (f != stdin)
        fclose(f);
    if (code == FB_OK)
        code = conf_parse(buf_span(&text), file, out, report);
    if (code == FB_E_CONFIG && report->error_count)
        fb_fail(err, code, "%s has %zu error%s; `foldback config check %s` shows all of them", file,
                report->error_count, report->error_count == 1 ? "" : "s", file);
    else if (code == FB_E_NOMEM)
        fb_fail(err, code, "%s: no memory to read it", file);
    buf_fini(&text);
    return code;
}

struct conf *conf_ref(struct conf *c)
{
    uint32_t was = atomic_fetch_add_explicit(&c->private->refs, 1, memory_order_relaxed);
    fb_assert(was > 0);
    return c;
}

void conf_unref(struct conf *c)
{
    if (!c)
        return;
    uint32_t was = atomic_fetch_sub_explicit(&c->private->refs, 1, memory_order_acq_rel);
    fb_assert(was > 0);
    if (was > 1)
        return;
    conf_regexes_free(c->private);
    arena_fini(&c->private->arena);
    free(c->private);
    free(c);
}

/* Duplicate keys anywhere, in one sorted pass per map: a map of 100,000 keys must not take minutes.
 */
static int by_text(const void *a, const void *b)
{
    const struct node *x = *(const struct node *const *)a, *y = *(const struct node *const *)b;
    size_t len = x->key->text.len < y->key->text.len ? x->key->text.len : y->key->text.len;
    int order = len ? memcmp(x->key->text.at, y->key->text.at, len) : 0;
    if (order)
        return order;
    if (x->key->text.len != y->key->text.len)
        return x->key->text.len < y->key->text.len ? -1 : 1;
    if (x->key->line != y->key->line)
        return x->key->line < y->key->line ? -1 : 1;
    return x->key->column < y->key->column ? -1 : 1;
}

static void check_duplicates(struct reader *rd, const struct node *n)
{
    char path[NODE_PATH_BYTES];
    for (const struct node *k = n->first; k; k = k->next)
        if (k->kind != NODE_SCALAR)
            check_duplicates(rd, k); /* at most CONF_DEPTH_MAX deep */
    if (n->kind != NODE_MAP || n->count < 2)
        return;
    const struct node **sorted = calloc(n->count, sizeof(struct node *));
    if (!sorted) {
        rd->scratch.failed = true;
        return;
    }
    size_t count = 0;
    for (const struct node *k = n->first; k; k = k->next)
        sorted[count++] = k;
    qsort(sorted, count, sizeof(struct node *), by_text);
    for (size_t i = 1; i < count; i++)
        if (span_eq(sorted[i]->key->text, sorted[i - 1]->key->text))
            problem(rd, sorted[i]->key, "%s is given twice, first in line %u: remove one",
                    node_path(sorted[i], path), sorted[i - 1]->key->line);
    free(sorted);
}

static void parse_top(struct reader *rd, const struct node *root)
{
    const struct node *listen = NULL, *services = NULL, *routes = NULL, *signals = NULL;
    size_t errors = rd->report->error_count;
    check_duplicates(rd, root);
    if (rd->report->error_count > errors || rd->scratch.failed)
        return; /* who reads a list has room for one of a name */
    for (const struct node *n = root->first; n; n = n->next) {
        size_t count;
        const struct conf_param_row *rows = conf_param_rows(&count);
        const struct conf_param_row *top = params_find(SPAN("top"), n->key->text);
        bool is_section = false;
        for (size_t i = 0; i < count && !is_section; i++)
            is_section = strcmp(rows[i].section, "top") != 0 &&
                         span_eq(n->key->text, span_of(rows[i].section));
        if (top) {
            params_read(rd, n, top);
            continue;
        }
        if (is_section) {
            parse_section(rd, n);
            continue;
        }
        switch (read_key(rd, n, LEVEL_TOP)) {
        case KEY_TOP_listen:
            listen = n;
            break;
        case KEY_TOP_services:
            services = n;
            break;
        case KEY_TOP_routes:
            routes = n;
            break;
        case KEY_TOP_connectors:
            parse_connectors(rd, n);
            break;
        case KEY_TOP_handlers:
            parse_handlers(rd, n);
            break;
        case KEY_TOP_scrapes:
            parse_scrapes(rd, n);
            break;
        case KEY_TOP_signals:
            signals = n;
            break;
        case KEY_TOP_error_pages:
            parse_pages(rd, n, &rd->conf->pages);
            break;
        default:
            break;
        }
    }
    if (listen)
        parse_listens(rd, listen);
    else
        problem_at(rd, 1, 1, "`listen` is missing: add `listen: [\":8080\"]`");
    if (services)
        parse_services(rd, services); /* before routes, which name them, and after `mode` */
    else
        problem_at(
            rd, 1, 1,
            "`services` is missing: add `services: { app: { endpoints: [\"127.0.0.1:3000\"] } }`");
    parse_listens_together(rd);
    if (routes)
        parse_routes(rd, routes);
    else if (services)
        parse_default_route(rd);
    if (signals)
        parse_signals(rd, signals);
    check_together(rd, root);
    check_regions(rd, root);
    check_effect(rd);
}

static void parse_section(struct reader *rd, const struct node *n)
{
    struct span section = n->key->text;
    size_t count;
    const struct conf_param_row *rows = conf_param_rows(&count);
    char example[64];
    snprintf(example, sizeof example, "`%.*s: { ... }`", SHOWN(section));
    if (!read_is(rd, n, NODE_MAP, example))
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        const struct conf_param_row *row = params_find(section, k->key->text);
        if (row) {
            params_read(rd, k, row);
            continue;
        }
        struct near near = {.word = k->key->text};
        const char *elsewhere = NULL;
        for (size_t i = 0; i < count; i++) {
            if (span_eq(section, span_of(rows[i].section)))
                near_try(&near, rows[i].name);
            else if (span_eq(k->key->text, span_of(rows[i].name)))
                elsewhere = rows[i].section;
        }
        bool is_top = elsewhere && strcmp(elsewhere, "top") == 0;
        const char *advice = foreign_advice(k->key->text, LEVEL_COUNT);
        if (advice)
            problem(rd, k->key, "unknown key `%.*s` under %.*s; %s", SHOWN(k->key->text),
                    SHOWN(section), advice);
        else if (elsewhere)
            problem(rd, k->key, "`%.*s` belongs %s%s, not under %.*s", SHOWN(k->key->text),
                    is_top ? "at the top level" : "under ", is_top ? "" : elsewhere,
                    SHOWN(section));
        else if (near.best)
            problem(rd, k->key, "unknown key `%.*s` under %.*s; did you mean `%s`?",
                    SHOWN(k->key->text), SHOWN(section), near.best);
        else
            problem(rd, k->key,
                    "unknown key `%.*s` under %.*s; `foldback reference config` lists all keys",
                    SHOWN(k->key->text), SHOWN(section));
    }
}

const struct node *find_node(const struct node *root, const char *section, const char *name)
{
    const struct node *in = root;
    if (strcmp(section, "top") != 0) {
        for (in = root->first; in && !span_eq(in->key->text, span_of(section));)
            in = in->next;
        if (!in || in->kind != NODE_MAP)
            return NULL;
    }
    for (const struct node *n = in->first; n; n = n->next)
        if (span_eq(n->key->text, span_of(name)))
            return n;
    return NULL;
}

static void check_admin(struct reader *rd, const struct node *root)
{
    const struct conf_params *p = &rd->conf->p;
    const struct node *n = find_node(root, "admin", "listen");
    char address[CONF_LISTEN_BYTES];
    if (!n || n->kind != NODE_SCALAR || strcmp(p->admin_listen, "off") == 0)
        return;
    if (!parse_listen_address(rd, n, n->text, address))
        return;
    if (strncmp(address, "fd:", 3) == 0 || strncmp(address, "unix:", 5) == 0)
        problem(rd, n,
                "admin.listen cannot be an inherited socket, nor a Unix one: write IP:PORT or off");
    rd->conf->p.admin_listen = arena_text(rd->keep, span_of(address));
    for (size_t i = 0; i < rd->conf->listen_count; i++)
        if (strcmp(rd->listens[i].address, address) == 0 &&
            strcmp(address + strlen(address) - 2, ":0") != 0)
            problem(rd, n, "admin.listen is %s, as is one of `listen`: choose another port",
                    address);
}

/* fleet.connector names a connector that is there for it, and such a connector is named. */
static void check_fleet(struct reader *rd, const struct node *root)
{
    const struct conf *conf = rd->conf;
    const struct node *n = find_node(root, "fleet", "connector");
    const char *wanted = conf->p.fleet_connector;
    const struct conf_connector *found = NULL;
    for (size_t i = 0; i < conf->connector_count; i++) {
        const struct conf_connector *c = &conf->connectors[i];
        if (strcmp(c->name, wanted) == 0)
            found = c;
        else if (c->is_fleet)
            problem(rd, find_node(root, "connectors", c->name),
                    "connector %s has `direction: fleet`, but fleet.connector does not name it",
                    c->name);
    }
    if (!n || !wanted[0])
        return;
    if (!found)
        problem(rd, n, "fleet.connector: there is no connector \"%.100s\"", wanted);
    else if (!found->is_fleet)
        problem(rd, n, "fleet.connector: connector %s must have `direction: fleet`", wanted);
}

/* What an edge node tells the centre are sums without requests; its events stay where it stands. */
static void check_edge(struct reader *rd, const struct node *root)
{
    const struct conf *conf = rd->conf;
    const char *own = conf->p.top_region;
    if (conf->p.fleet_role != 1)
        return;
    for (size_t i = 0; i < conf->connector_count; i++) {
        const struct conf_connector *c = &conf->connectors[i];
        if (c->is_source || c->is_fleet || (own[0] && c->region && strcmp(c->region, own) == 0))
            continue;
        problem(rd, find_node(root, c->section, c->name),
                "%s.%s sends events, and with `fleet.role: edge` events stay in the region of this "
                "node: %s%s%s, take it away, or choose `role: gateway`",
                c->section, c->name,
                own[0] ? "add `region: " : "say `region:` at the top level and here", own,
                own[0] ? "` if its receiver is there" : " if its receiver is where the node is");
    }
}

static void check_token_file(struct reader *rd, const struct node *root, const char *section,
                             const char *path)
{
    const struct node *n = find_node(root, section, "token_file");
    if (n && n->kind == NODE_SCALAR && n->text.len && access(path, R_OK) != 0)
        problem(rd, n,
                "%s.token_file %.200s: %s; make it, or remove the key and foldback makes one in "
                "its state folder",
                section, path, strerror(errno));
}

static void check_statsd(struct reader *rd, const struct node *root)
{
    char address[CONF_LISTEN_BYTES];
    const struct node *n = find_node(root, "ingest", "statsd");
    if (n && n->kind == NODE_SCALAR && strcmp(rd->conf->p.ingest_statsd, "off") != 0 &&
        parse_listen_address(rd, n, n->text, address)) {
        if (strncmp(address, "fd:", 3) == 0 || strncmp(address, "unix:", 5) == 0)
            problem(rd, n, "ingest.statsd must be off or IP:PORT such as 127.0.0.1:8125");
        rd->conf->p.ingest_statsd = arena_text(rd->keep, span_of(address));
    }
    n = find_node(root, "ingest", "statsd_socket");
    if (n && n->kind == NODE_SCALAR && strcmp(rd->conf->p.ingest_statsd_socket, "off") != 0 &&
        (n->text.len == 0 || n->text.at[0] != '/' || n->text.len > 107))
        problem(rd, n,
                "ingest.statsd_socket must be off or an absolute path of at most 107 bytes, got "
                "\"%.*s\"",
                SHOWN(n->text));
}

static void check_together(struct reader *rd, const struct node *root)
{
    const struct conf_params *p = &rd->conf->p;
    const struct node *n;
    check_admin(rd, root);
    check_fleet(rd, root);
    check_edge(rd, root);
    n = find_node(root, "gateway", "ring_cells");
    if (n && (p->gateway_ring_cells & (p->gateway_ring_cells - 1)))
        problem(rd, n, "gateway.ring_cells must be a power of two, got %u", p->gateway_ring_cells);
    n = find_node(root, "gateway", "safe_after");
    if (!n)
        n = find_node(root, "gateway", "static_after");
    if (n && p->gateway_safe_after <= p->gateway_static_after)
        problem(
            rd, n, "gateway.safe_after (%llums) must be more than gateway.static_after (%llums)",
            (unsigned long long)p->gateway_safe_after, (unsigned long long)p->gateway_static_after);
    check_token_file(rd, root, "admin", p->admin_token_file);
    check_token_file(rd, root, "ingest", p->ingest_token_file);
    check_statsd(rd, root);
    check_dns(rd, root);
    n = find_node(root, "top", "region");
    if (n && n->kind == NODE_SCALAR && !n->is_empty) {
        const char *region;
        parse_region(rd, n, &region);
    }
    n = find_node(root, "encryption", "master_key");
    if (n && !conf_is_master_key(p->encryption_master_key))
        problem(rd, n,
                "encryption.master_key must be file:/PATH, exec:/PROGRAM or none, got \"%.*s\"; "
                "the key itself is never written here",
                SHOWN(n->text));
    n = find_node(root, "top", "node");
    if (n && n->kind == NODE_SCALAR) {
        struct span rest = n->text;
        bool is_good = rest.len > 0 && rest.len <= 63;
        for (size_t i = 0; i < rest.len; i++)
            is_good &= strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.",
                              rest.at[i]) != NULL;
        if (!is_good && !n->is_empty)
            problem(rd, n, "node must be 1..63 letters, digits, `-`, `_` or `.`, got \"%.*s\"",
                    SHOWN(rest));
    }
}
