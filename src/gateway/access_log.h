/* SPDX-License-Identifier: Apache-2.0 */
/* access_log: one line per request for tools that read lines.
 *
 *   gateway thread --access_buf_put--> its own buffer --(100 ms or 32 KiB)--> one write --> file,
 * pipe
 *
 * No line can be forged: every byte of a value that could end a field or a line is escaped, and a
 * line is at most ACCESS_LINE_BYTES long (long values are cut and end with "...").  Because that is
 * PIPE_BUF, a pipe never sees halves of two lines mixed.  A pipe that nobody reads never stops a
 * request: lines wait in the buffer, and beyond its maximum they are dropped and counted. Threads:
 * a struct access_log is shared; a struct access_buf belongs to one thread. Errors: opening: IO;
 * writing: counted (access_log_lost), the next write tries again. */
#ifndef FB_GATEWAY_ACCESS_LOG_H
#define FB_GATEWAY_ACCESS_LOG_H
#include "base/buf.h"
#include "base/error.h"
#include "conf/conf.h"

#define ACCESS_LINE_BYTES 4096        /* PIPE_BUF of Linux */
#define ACCESS_FLUSH_BYTES (32 * KIB) /* one write per 150 lines or so */
#define ACCESS_FLUSH_US (100 * US_PER_MS)

/* One request.  Spans are borrowed for the call; empty spans and NULL are written as "-" or left
 * out. */
struct access_entry {
    uint64_t wall_us;           /* when the request began, since 1970 */
    struct span client;         /* address without port */
    struct span method, target; /* target as received, with its query */
    struct span host, referer, user_agent, request_id;
    const char *route, *service, *endpoint; /* names, "" for none */
    const char *reason, *class;             /* names */
    uint64_t bytes;                         /* of the answer's body */
    uint64_t decision_id; /* that set the limit or timeout that refused it; 0 none */
    uint32_t queue_us, upstream_us, total_us;
    uint16_t status; /* 0: nothing was sent */
    uint8_t attempts;
    uint8_t version_major, version_minor;
    bool is_cut; /* the answer ended early */
};

struct access_log;

/* <path> "-" is stdout.  With CONF_LOG_OFF nothing is opened and puts cost one test. */
FB_MUST_USE
enum fb_code access_log_new(uint8_t format, const char *path, bool with_query,
                            struct access_log **out, struct fb_err *err);
void access_log_free(struct access_log *log); /* after the last access_buf_fini; NULL is fine */
/* Opens the file again (after a rotation), or another one; keeps the old one when that fails. */
FB_MUST_USE
enum fb_code access_log_reopen(struct access_log *log, uint8_t format, const char *path,
                               bool with_query, struct fb_err *err);
uint64_t access_log_lost(const struct access_log *log); /* lines dropped since the start */

struct access_buf {
    struct access_log *log;
    struct buf lines;
    uint64_t first_us;      /* when the oldest waiting line was put, 0: none */
    uint64_t rest_until_us; /* a pipe was full: no attempt before */
};
void access_buf_init(struct access_buf *b, struct access_log *log);
void access_buf_fini(struct access_buf *b); /* writes what it can */
/* <now_us>: CLOCK_MONOTONIC. */
void access_buf_put(struct access_buf *b, const struct access_entry *e, uint64_t now_us);
/* From a timer of the thread, each 50 to 100 ms. */
void access_buf_tick(struct access_buf *b, uint64_t now_us);

#define ACCESS_ADDRESS_BYTES 48
/* The network of an address: the last part of IPv4 (/24), or all behind the third group of IPv6
 * (/48), as zeros; borrows <room>.  What is no address stays as it is. */
struct span access_cut_address(struct span address, char room[ACCESS_ADDRESS_BYTES]);
/* One line with its newline, appended to <out>: what access_buf_put writes. */
void access_line(struct buf *out, uint8_t format, bool with_query, const struct access_entry *e);
#endif
