/* SPDX-License-Identifier: Apache-2.0 */
/* `error_pages`: what clients read where foldback itself answers 4xx or 5xx. */
#include "conf/conf_int.h"

#define BODY_BYTES_MAX (64 * KIB)

bool parse_body(struct reader *rd, const struct node *n, const char **out)
{
    char path[NODE_PATH_BYTES];
    if (!read_is(rd, n, NODE_SCALAR, "a text"))
        return false;
    if (n->text.len > BODY_BYTES_MAX)
        problem(rd, n, "%s must have at most %u bytes, got %zu", node_path(n, path),
                (unsigned)BODY_BYTES_MAX, n->text.len);
    *out = arena_text(rd->keep, n->text); /* with its line breaks */
    return true;
}

static void page_status(struct reader *rd, const struct node *n, struct conf_page *page)
{
    uint64_t number;
    char path[NODE_PATH_BYTES];
    if (n->kind == NODE_LIST && (n->count == 0 || n->count > CONF_PAGE_STATUSES_MAX)) {
        problem(rd, n, "%s must have 1..%d values, got %u", node_path(n, path),
                CONF_PAGE_STATUSES_MAX, n->count);
        return;
    }
    for (const struct node *k = n->kind == NODE_LIST ? n->first : n; k; k = k->next) {
        if (read_key_number(rd, k, KEY_PAGE_status, &number))
            page->status[page->status_count++] = (uint16_t)number;
        if (k == n)
            break;
    }
}

static void parse_page(struct reader *rd, const struct node *n, struct conf_page *page)
{
    const struct node *status = NULL, *body = NULL;
    char path[NODE_PATH_BYTES];
    *page = (struct conf_page){.body = "", .type = "text/html; charset=utf-8"};
    if (!read_is(rd, n, NODE_MAP, "{ status: [502, 503, 504], body: <h1>Back soon</h1> }"))
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        switch (read_key(rd, k, LEVEL_PAGE)) {
        case KEY_PAGE_status:
            page_status(rd, status = k, page);
            break;
        case KEY_PAGE_body:
            (void)parse_body(rd, body = k, &page->body);
            break;
        case KEY_PAGE_type:
            parse_media_type(rd, k, &page->type);
            break;
        default:
            break;
        }
    }
    if (!status || !body)
        problem(rd, n, "%s needs `status` and `body`: { status: [502, 503, 504], body: ... }",
                node_path(n, path));
}

void parse_pages(struct reader *rd, const struct node *n, struct conf_pages *out)
{
    char path[NODE_PATH_BYTES];
    if (!read_is(rd, n, NODE_LIST, "[{ status: [502, 503, 504], body: <h1>Back soon</h1> }]"))
        return;
    if (n->count == 0 || n->count > CONF_PAGES_MAX) {
        problem(rd, n, "%s must have 1..%d pages, got %u", node_path(n, path), CONF_PAGES_MAX,
                n->count);
        return;
    }
    struct conf_page *at = arena_get(rd->keep, n->count * sizeof *at);
    if (!at)
        return;
    for (const struct node *k = n->first; k; k = k->next)
        parse_page(rd, k, &at[out->count++]);
    out->at = at;
    out->line = n->line;
}

const struct conf_page *conf_page(const struct conf_pages *pages, uint16_t status)
{
    for (size_t i = 0; i < pages->count; i++)
        for (size_t k = 0; k < pages->at[i].status_count; k++)
            if (pages->at[i].status[k] == status)
                return &pages->at[i];
    return NULL;
}
