/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/redis_says.h"

#include <stdio.h>

#define SAYS(start, c, r, m, text)                                                                 \
    {                                                                                              \
        .starts = start, .code = c, .result = r, .move = m, .says = text                           \
    }

static const struct redis_meaning meanings[] = {
    SAYS("NOAUTH", FB_E_DENIED, CONNECTOR_RETRY, REDIS_LEAVE,
         "it wants a login: give `password_file`, and `user` when it has ACL users"),
    SAYS("WRONGPASS", FB_E_DENIED, CONNECTOR_RETRY, REDIS_LEAVE,
         "compare `user` and what is in `password_file` with the server's users (ACL LIST)"),
    SAYS("NOPERM", FB_E_DENIED, CONNECTOR_RETRY, REDIS_STAY,
         "give the user the rights of the guide: ~STREAM +@stream +multi +exec +discard +ping"),
    SAYS("DENIED", FB_E_DENIED, CONNECTOR_RETRY, REDIS_LEAVE,
         "it is in protected mode: give it a password or a user"),
    SAYS("ERR invalid password", FB_E_DENIED, CONNECTOR_RETRY, REDIS_LEAVE,
         "compare what is in `password_file` with the server's requirepass"),
    SAYS("ERR AUTH", FB_E_DENIED, CONNECTOR_RETRY, REDIS_LEAVE,
         "it has no password for that: leave out `password_file`, or give `user`"),
    SAYS("ERR Client sent AUTH", FB_E_DENIED, CONNECTOR_RETRY, REDIS_LEAVE,
         "it has no password: leave out `password_file`"),
    SAYS("LOADING", FB_E_AGAIN, CONNECTOR_RETRY, REDIS_LEAVE,
         "it reads its data from the disk; it is tried again"),
    SAYS("MASTERDOWN", FB_E_AGAIN, CONNECTOR_RETRY, REDIS_LEAVE,
         "it is a replica without its primary; it is tried again"),
    SAYS("READONLY", FB_E_AGAIN, CONNECTOR_RETRY, REDIS_LEAVE,
         "it is a replica: name the primary, or all of them, in `address`"),
    SAYS("MISCONF", FB_E_AGAIN, CONNECTOR_RETRY, REDIS_LEAVE,
         "it cannot write to its disk and takes nothing: look at the server's log"),
    SAYS("OOM", FB_E_AGAIN, CONNECTOR_RETRY, REDIS_STAY,
         "its memory is full: raise maxmemory, or lower `max_len` or `max_age`"),
    SAYS("NOREPLICAS", FB_E_AGAIN, CONNECTOR_RETRY, REDIS_STAY,
         "it has fewer replicas than it wants; it is tried again"),
    SAYS("BUSY ", FB_E_AGAIN, CONNECTOR_RETRY, REDIS_STAY, "a script keeps it; it is tried again"),
    SAYS("CLUSTERDOWN", FB_E_AGAIN, CONNECTOR_RETRY, REDIS_LEAVE,
         "the cluster has no node for the stream now; it is tried again"),
    SAYS("TRYAGAIN", FB_E_AGAIN, CONNECTOR_RETRY, REDIS_STAY,
         "the stream moves between nodes; it is tried again"),
    SAYS("ASK ", FB_E_AGAIN, CONNECTOR_RETRY, REDIS_STAY,
         "the stream moves between nodes; it is tried again"),
    SAYS("MOVED", FB_E_CONFIG, CONNECTOR_RETRY, REDIS_MOVED,
         "another node of the cluster has the stream: name all nodes in `address`"),
    SAYS("WRONGTYPE", FB_E_CONFIG, CONNECTOR_RETRY, REDIS_STAY,
         "the key holds something that is no stream: choose another `stream`, or remove the key"),
    SAYS("NOGROUP", FB_E_AGAIN, CONNECTOR_RETRY, REDIS_STAY, "the group is gone; it is made again"),
    SAYS("NOPROTO", FB_E_CONFIG, CONNECTOR_RETRY, REDIS_LEAVE, "this server does not fit"),
    SAYS("ERR DB index", FB_E_CONFIG, CONNECTOR_RETRY, REDIS_LEAVE,
         "it has no such `database`: 0 is always there"),
    SAYS("ERR invalid DB index", FB_E_CONFIG, CONNECTOR_RETRY, REDIS_LEAVE,
         "it has no such `database`: 0 is always there"),
    SAYS("ERR SELECT is not allowed", FB_E_CONFIG, CONNECTOR_RETRY, REDIS_LEAVE,
         "a cluster has no databases: leave out `database`"),
    SAYS("ERR unknown command", FB_E_CONFIG, CONNECTOR_RETRY, REDIS_STAY,
         "a sink needs Redis 6.2 or newer, a source 7.0"),
    SAYS("ERR max number of clients", FB_E_AGAIN, CONNECTOR_RETRY, REDIS_LEAVE,
         "raise its maxclients; it is tried again"),
    SAYS("ERR Protocol error: invalid bulk length", FB_E_AGAIN, CONNECTOR_TOO_LARGE, REDIS_LEAVE,
         "a record is larger than its proto-max-bulk-len; it is split"),
    SAYS("ERR max request size", FB_E_AGAIN, CONNECTOR_TOO_LARGE, REDIS_LEAVE,
         "a record is larger than it takes; it is split"),
    SAYS("", FB_E_AGAIN, CONNECTOR_RETRY, REDIS_STAY, "it is tried again"),
};

const struct redis_meaning *redis_meaning_of(struct span answer)
{
    size_t i = 0;
    while (!span_starts(answer, span_of(meanings[i].starts))) /* the last one fits all */
        i++;
    return &meanings[i];
}

enum fb_code redis_fail(const struct redis_said *said, struct fb_err *err)
{
    const struct redis_meaning *m = redis_meaning_of(said->answer);
    char text[161];
    size_t len = 0;
    for (size_t i = 0; i < said->answer.len && len < sizeof text - 1; i++) {
        char b = said->answer.at[i];
        if (said->is_secret && b == ' ')
            break;
        text[len++] = (unsigned char)b < 0x20 || (unsigned char)b > 0x7e ? '?' : b;
    }
    text[len] = '\0';
    return fb_fail(err, m->code, "redis %.100s says %s: %s", said->address, text, m->says);
}

bool redis_moved_to(struct span answer, char *out, size_t size)
{
    struct span rest, address;
    (void)span_cut(answer, ' ', &rest);
    (void)span_cut(rest, ' ', &address);
    address = span_cut(address, ' ', &rest);
    if (address.len == 0 || address.len >= size)
        return false;
    snprintf(out, size, "%.*s", SPAN_ARG(address));
    return true;
}
