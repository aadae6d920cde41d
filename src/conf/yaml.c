/* SPDX-License-Identifier: Apache-2.0 */
/* YAML text to nodes by libfyaml's event interface, bounded before anything is built.
 *
 * Not libfyaml's document: an alias, an anchor, a merge key or a tag ends in a message at once, so
 * a bomb of aliases is never expanded (resolved, ten lines took 2 GB), and depth and count of nodes
 * are ours. */
#include "conf/conf_int.h"

#include <libfyaml.h>
#include <stdio.h>

struct yaml {
    struct reader *rd;
    struct node *root, *open; /* <open>: the list or map that gets the next node */
    struct node *key_waiting; /* a key of <open> whose value comes next */
    uint32_t depth, nodes, documents;
    bool is_bad;
};

static void yaml_event(struct yaml *y, struct fy_event *ev);
static void yaml_syntax(struct yaml *y, struct fy_diag *diag);

/* Bytes of the UTF-8 character at <at>, 0 when it is none. */
static size_t utf8_bytes(const unsigned char *at, size_t left)
{
    size_t want = at[0] < 0x80                    ? 1
                  : at[0] >= 0xc2 && at[0] < 0xe0 ? 2
                  : (at[0] & 0xf0) == 0xe0        ? 3
                  : at[0] >= 0xf0 && at[0] < 0xf5 ? 4
                                                  : 0;
    if (want > left)
        return 0;
    for (size_t i = 1; i < want; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
        (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f))
        return 0;
    return want;
}

/* What libfyaml must not see: it loops for ever on a directive with bytes that are not UTF-8
 * (0.7.12, found by test/fuzz/conf_fuzz.c).  Nobody needs directives here, and a text is UTF-8
 * without control bytes. */
static bool text_is_sound(struct reader *rd, struct span text)
{
    const unsigned char *at = (const unsigned char *)text.at;
    uint32_t line = 1, column = 1;
    size_t i = span_starts(text, SPAN("\xef\xbb\xbf")) ? 3 : 0; /* a mark that some editors write */
    while (i < text.len) {
        size_t bytes = utf8_bytes(at + i, text.len - i);
        bool is_control =
            (at[i] < 0x20 && at[i] != '\t' && at[i] != '\n' && at[i] != '\r') || at[i] == 0x7f;
        if (bytes == 0 || is_control) {
            problem_at(rd, line, column, "the byte 0x%02x is %s; save the file as UTF-8 text",
                       at[i], bytes ? "a control character" : "not UTF-8");
            return false;
        }
        if (at[i] == '%' && column == 1) {
            problem_at(rd, line, column,
                       "a line must not begin with %%: directives are not used here");
            return false;
        }
        column = at[i] == '\n' || at[i] == '\r' ? 1 : column + 1; /* both end a line of YAML */
        line += at[i] == '\n';
        i += bytes;
    }
    return true;
}

struct node *yaml_read(struct reader *rd, struct span text)
{
    struct yaml y = {.rd = rd};
    if (!text_is_sound(rd, text))
        return NULL;
    struct fy_diag_cfg diag_conf;
    fy_diag_cfg_default(&diag_conf);
    diag_conf.fp = NULL;
    diag_conf.colorize = false;
    struct fy_diag *diag = fy_diag_create(&diag_conf);
    if (!diag) {
        rd->scratch.failed = true;
        return NULL;
    }
    fy_diag_set_collect_errors(diag, true);
    struct fy_parse_cfg parse_conf = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG, .diag = diag};
    struct fy_parser *parser = fy_parser_create(&parse_conf);
    if (!parser || fy_parser_set_string(parser, text.at, text.len) != 0) {
        rd->scratch.failed = true;
        y.is_bad = true;
    }
    while (!y.is_bad) {
        struct fy_event *ev = fy_parser_parse(parser);
        if (!ev)
            break;
        yaml_event(&y, ev);
        fy_parser_event_free(parser, ev);
    }
    if (!y.is_bad && (fy_diag_got_error(diag) || fy_parser_get_stream_error(parser)))
        yaml_syntax(&y, diag);
    if (!y.is_bad && !y.root) {
        problem_at(rd, 1, 1,
                   "the file says nothing; the least is `listen: [\":8080\"]` and `services`");
        y.is_bad = true;
    }
    if (parser)
        fy_parser_destroy(parser);
    fy_diag_destroy(diag); /* unref keeps the collected errors */
    return y.is_bad || rd->scratch.failed ? NULL : y.root;
}

/* What libfyaml complains about, each with its place. */
static void yaml_syntax(struct yaml *y, struct fy_diag *diag)
{
    void *at = NULL;
    struct fy_diag_error *e;
    y->is_bad = true;
    uint32_t said = 0;
    while ((e = fy_diag_errors_iterate(diag, &at)) != NULL) {
        if (e->type != FYET_ERROR || !e->msg)
            continue;
        problem_at(y->rd, (uint32_t)(e->line > 0 ? e->line : 1),
                   (uint32_t)(e->column > 0 ? e->column : 1), "not YAML: %.200s", e->msg);
        said++;
    }
    if (said == 0)
        problem_at(y->rd, 1, 1, "not YAML: the text cannot be read (is it UTF-8?)");
}

static void yaml_refuse(struct yaml *y, struct fy_token *token, const char *what)
{
    const struct fy_mark *m = token ? fy_token_start_mark(token) : NULL;
    uint32_t column = m ? (uint32_t)m->column + 1 : 1;
    /* the mark of *name and &name is behind their sign */
    bool is_sign = token && (fy_token_get_type(token) == FYTT_ALIAS ||
                             fy_token_get_type(token) == FYTT_ANCHOR);
    problem_at(y->rd, m ? (uint32_t)m->line + 1 : 1, is_sign && column > 1 ? column - 1 : column,
               "%s", what);
    y->is_bad = true;
}

static struct node *yaml_node(struct yaml *y, enum node_kind kind, struct fy_token *token)
{
    if (y->nodes++ >= CONF_NODES_MAX) {
        yaml_refuse(
            y, token,
            "the file has more than 200000 values; split the traffic over several foldbacks");
        return NULL;
    }
    struct node *n = arena_get(&y->rd->scratch, sizeof *n);
    if (!n) {
        y->is_bad = true;
        return NULL;
    }
    const struct fy_mark *m = token ? fy_token_start_mark(token) : NULL;
    n->kind = kind;
    n->line = m ? (uint32_t)m->line + 1 : 1;
    n->column = m ? (uint32_t)m->column + 1 : 1;
    return n;
}

/* Gives <n> its place: root, item of a list, key or value of a map. */
static void yaml_place(struct yaml *y, struct node *n)
{
    struct node *open = y->open;
    n->parent = open;
    if (!open) {
        y->root = n;
        return;
    }
    if (open->kind == NODE_MAP) {
        if (!y->key_waiting) {
            if (n->kind != NODE_SCALAR) {
                problem(y->rd, n, "a key must be one word");
                y->is_bad = true;
                return;
            }
            y->key_waiting = n;
            return;
        }
        n->key = y->key_waiting;
        y->key_waiting = NULL;
    }
    if (open->last)
        open->last->next = n;
    else
        open->first = n;
    open->last = n;
    open->count++;
}

static void yaml_open(struct yaml *y, enum node_kind kind, struct fy_token *token)
{
    if (++y->depth > CONF_DEPTH_MAX) {
        yaml_refuse(y, token, "nested deeper than 16 levels; the deepest key of foldback has 6");
        return;
    }
    struct node *n = yaml_node(y, kind, token);
    if (!n)
        return;
    yaml_place(y, n);
    y->open = n;
    y->key_waiting = NULL;
}

static void yaml_close(struct yaml *y)
{
    y->depth--;
    y->open = y->open->parent;
}

static void yaml_scalar(struct yaml *y, struct fy_token *token)
{
    struct node *n = yaml_node(y, NODE_SCALAR, token);
    if (!n)
        return;
    size_t len = 0;
    const char *at = token ? fy_token_get_text(token, &len) : NULL;
    n->is_plain = token && fy_token_scalar_style(token) == FYSS_PLAIN;
    n->is_empty = !at || (n->is_plain && len == 0);
    n->text =
        (struct span){arena_text(&y->rd->scratch, (struct span){at, at ? len : 0}), at ? len : 0};
    bool may_break = y->key_waiting && span_eq(y->key_waiting->text, SPAN("body"));
    for (size_t i = 0; i < n->text.len; i++) {
        unsigned char c = (unsigned char)n->text.at[i];
        if (may_break && (c == '\n' || c == '\t'))
            continue; /* routes[].respond.body: the one text that is no single line */
        if (c < 0x20 || c == 0x7f) {
            yaml_refuse(y, token, "a value must not hold control characters or line breaks");
            return;
        }
    }
    if (n->is_empty && y->key_waiting && (n->line != y->key_waiting->line)) {
        n->line = y->key_waiting->line; /* "key:" and nothing: point at the key */
        n->column = y->key_waiting->column;
    }
    yaml_place(y, n);
}

static void yaml_event(struct yaml *y, struct fy_event *ev)
{
    struct fy_token *anchor = NULL, *tag = NULL;
    switch (ev->type) {
    case FYET_DOCUMENT_START:
        if (++y->documents > 1)
            yaml_refuse(y, ev->document_start.document_start,
                        "only one document per file: remove the second `---`");
        return;
    case FYET_ALIAS:
        yaml_refuse(y, ev->alias.anchor,
                    "aliases (*name) are not used here: write the value again");
        return;
    case FYET_SCALAR:
        anchor = ev->scalar.anchor;
        tag = ev->scalar.tag;
        break;
    case FYET_SEQUENCE_START:
        anchor = ev->sequence_start.anchor;
        tag = ev->sequence_start.tag;
        break;
    case FYET_MAPPING_START:
        anchor = ev->mapping_start.anchor;
        tag = ev->mapping_start.tag;
        break;
    case FYET_SEQUENCE_END:
    case FYET_MAPPING_END:
        yaml_close(y);
        return;
    default:
        return;
    }
    if (anchor) {
        yaml_refuse(y, anchor,
                    "anchors (&name) are not used here: write the value where it belongs");
        return;
    }
    if (tag) {
        yaml_refuse(y, tag, "tags (!name) are not used here: foldback knows the type of each key");
        return;
    }
    if (ev->type == FYET_SCALAR)
        yaml_scalar(y, ev->scalar.value);
    else if (ev->type == FYET_SEQUENCE_START)
        yaml_open(y, NODE_LIST, ev->sequence_start.sequence_start);
    else
        yaml_open(y, NODE_MAP, ev->mapping_start.mapping_start);
}
