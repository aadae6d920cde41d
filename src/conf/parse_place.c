/* SPDX-License-Identifier: Apache-2.0 */
/* What decides where a request belongs: the key of consistent hashing. */
#include "conf/conf_int.h"

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
