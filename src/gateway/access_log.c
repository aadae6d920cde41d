/* SPDX-License-Identifier: Apache-2.0 */
/* Lines are built in the thread's buffer and written whole; the lock covers only the write and the
 * reopen. */
#include "gateway/access_log.h"

#include "base/assert.h"
#include "base/json.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Most bytes of one thread that wait for a pipe that nobody reads: 1 s at 10,000 requests/s. */
#define ACCESS_WAIT_BYTES (2 * MIB)
/* Most bytes of one value after its escapes, so that all together fit ACCESS_LINE_BYTES (asserted).
 */
#define ACCESS_TARGET_BYTES 1500
#define ACCESS_VALUE_BYTES 400
#define ACCESS_SHORT_BYTES 110

struct access_log {
    pthread_mutex_t
        lock;     /* of <fd>: one writer at a time, so that poll and write mean the same pipe */
    int fd;       /* -1: none */
    bool is_file; /* a file always takes a write; a pipe or terminal may block */
    bool is_stdout;
    _Atomic uint8_t format;
    _Atomic bool with_query;
    bool is_torn; /* the last write ended inside a line: the next one begins with a newline */
    _Atomic uint64_t lost;
};

/* ---- lines ---- */

enum escape { ESCAPE_QUOTED, ESCAPE_JSON };

/* How many bytes of <s> make a whole UTF-8 character, 0 when they do not. */
static size_t utf8_bytes(struct span s)
{
    const unsigned char *b = (const unsigned char *)s.at;
    size_t want = b[0] >= 0xc2 && b[0] < 0xe0   ? 2
                  : b[0] >= 0xe0 && b[0] < 0xf0 ? 3
                  : b[0] >= 0xf0 && b[0] < 0xf5 ? 4
                                                : 0;
    if (want == 0 || s.len < want)
        return 0;
    for (size_t i = 1; i < want; i++)
        if ((b[i] & 0xc0) != 0x80)
            return 0;
    if ((b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] > 0x9f) ||
        (b[0] == 0xf0 && b[1] < 0x90) || (b[0] == 0xf4 && b[1] > 0x8f))
        return 0;
    return want;
}

/* Printable ASCII at the beginning of <s> that needs no escape. */
static size_t plain_bytes(struct span s)
{
    size_t i = 0;
    while (i < s.len && s.at[i] >= 0x20 && s.at[i] < 0x7f && s.at[i] != '"' && s.at[i] != '\\')
        i++;
    return i;
}

/* Text between double quotes: no byte in it can end the quotes or the line.  combined and logfmt
 * write all that is not printable ASCII as \xHH (Apache's and nginx's way); JSON keeps good UTF-8.
 */
static void put_escaped(struct buf *out, struct span s, size_t most, enum escape how)
{
    size_t end = out->len + most;
    while (s.len) {
        char text[16];
        size_t used = plain_bytes(s), put = used;
        const char *from = s.at;
        if (used == 0) {
            unsigned char c = (unsigned char)s.at[0];
            used = how == ESCAPE_JSON && c >= 0x80 ? utf8_bytes(s) : 0;
            put = used;
            if (used == 0) {
                used = 1;
                from = text;
                if (c == '"' || c == '\\')
                    put = (size_t)snprintf(text, sizeof text, "\\%c", c);
                else /* in JSON a stray byte becomes the character of its number: nothing is invalid
                      */
                    put = (size_t)snprintf(text, sizeof text,
                                           how == ESCAPE_JSON ? "\\u%04x" : "\\x%02X", c);
            }
        }
        if (put > end - out->len) {
            if (from == s.at && put == plain_bytes(s))
                buf_put(out, from, end - out->len);
            buf_puts(out, "...");
            return;
        }
        buf_put(out, from, put);
        s = (struct span){s.at + used, s.len - used};
    }
}

static struct span target_of(const struct access_entry *e, bool with_query)
{
    struct span query;
    return with_query || !e->target.len ? e->target : span_cut(e->target, '?', &query);
}

static void put_or_dash(struct buf *out, struct span s, size_t most)
{
    if (s.len)
        put_escaped(out, s, most, ESCAPE_QUOTED);
    else
        buf_putc(out, '-');
}

static void put_u64(struct buf *out, uint64_t number)
{
    char text[20];
    size_t at = sizeof text;
    do {
        text[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    buf_put(out, text + at, sizeof text - at);
}

/* A field outside quotes, as combined's address: a blank would begin the next field. */
static void put_bare(struct buf *out, struct span s)
{
    if (s.len == 0 || s.len > 64) {
        buf_putc(out, '-');
        return;
    }
    for (size_t i = 0; i < s.len; i++)
        buf_putc(out, s.at[i] > ' ' && s.at[i] < 0x7f && s.at[i] != '"' ? s.at[i] : '?');
}

static void put_time_rfc3339(struct buf *out, uint64_t wall_us)
{
    time_t seconds = (time_t)(wall_us / US_PER_S);
    struct tm tm;
    char text[64] = "";
    if (gmtime_r(&seconds, &tm))
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    buf_printf(out, "%s.%06uZ", text, (unsigned)(wall_us % US_PER_S));
}

/* "ADDRESS - - [10/Oct/2026:13:55:36 +0000] "GET /x HTTP/1.1" 200 2326 "REFERER" "AGENT"" in UTC.
 */
static void line_combined(struct buf *out, bool with_query, const struct access_entry *e)
{
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t seconds = (time_t)(e->wall_us / US_PER_S);
    struct tm tm = {0};
    gmtime_r(&seconds, &tm); /* months by hand: strftime's follow the locale */
    put_bare(out, e->client);
    buf_printf(out, " - - [%02d/%s/%04d:%02d:%02d:%02d +0000] \"", tm.tm_mday, months[tm.tm_mon],
               tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
    put_or_dash(out, e->method, ACCESS_SHORT_BYTES);
    buf_putc(out, ' ');
    put_or_dash(out, target_of(e, with_query), ACCESS_TARGET_BYTES);
    buf_printf(out, " HTTP/%u.%u\" %u %llu \"", e->version_major, e->version_minor, e->status,
               (unsigned long long)e->bytes);
    put_or_dash(out, e->referer, ACCESS_VALUE_BYTES);
    buf_puts(out, "\" \"");
    put_or_dash(out, e->user_agent, ACCESS_VALUE_BYTES);
    buf_putc(out, '"');
}

/* Fields of JSON and logfmt, in one order.  <how> decides the dress. */
struct dress {
    struct buf *out;
    enum escape how;
    bool is_first;
};

static void dress_key(struct dress *d, const char *key)
{
    bool is_json = d->how == ESCAPE_JSON;
    if (!d->is_first)
        buf_putc(d->out, is_json ? ',' : ' ');
    d->is_first = false;
    if (is_json)
        buf_putc(d->out, '"');
    buf_puts(d->out, key);
    buf_puts(d->out, is_json ? "\":" : "=");
}

static void dress_text(struct dress *d, const char *key, struct span s, size_t most)
{
    if (s.len == 0)
        return;
    dress_key(d, key);
    buf_putc(d->out, '"');
    put_escaped(d->out, s, most, d->how);
    buf_putc(d->out, '"');
}

static void dress_number(struct dress *d, const char *key, uint64_t number)
{
    dress_key(d, key);
    put_u64(d->out, number);
}

static void dress_ms(struct dress *d, const char *key, uint32_t us)
{
    dress_key(d, key);
    char part[4] = {'.', (char)('0' + us / 100 % 10), (char)('0' + us / 10 % 10),
                    (char)('0' + us % 10)};
    put_u64(d->out, us / 1000);
    buf_put(d->out, part, sizeof part);
}

static void line_fields(struct buf *out, enum escape how, bool with_query,
                        const struct access_entry *e)
{
    struct dress d = {.out = out, .how = how, .is_first = true};
    dress_key(&d, "time");
    if (how == ESCAPE_JSON)
        buf_putc(out, '"');
    put_time_rfc3339(out, e->wall_us);
    if (how == ESCAPE_JSON)
        buf_putc(out, '"');
    dress_text(&d, "client", e->client, ACCESS_SHORT_BYTES);
    dress_text(&d, "method", e->method, ACCESS_SHORT_BYTES);
    dress_text(&d, "host", e->host, ACCESS_SHORT_BYTES * 2);
    dress_text(&d, "target", target_of(e, with_query), ACCESS_TARGET_BYTES);
    dress_number(&d, "http_major", e->version_major);
    dress_number(&d, "http_minor", e->version_minor);
    dress_number(&d, "status", e->status);
    dress_number(&d, "bytes", e->bytes);
    dress_text(&d, "referer", e->referer, ACCESS_VALUE_BYTES);
    dress_text(&d, "user_agent", e->user_agent, ACCESS_VALUE_BYTES);
    dress_text(&d, "request_id", e->request_id, ACCESS_SHORT_BYTES);
    dress_text(&d, "route", span_of(e->route), ACCESS_SHORT_BYTES);
    dress_text(&d, "service", span_of(e->service), ACCESS_SHORT_BYTES);
    dress_text(&d, "endpoint", span_of(e->endpoint), ACCESS_SHORT_BYTES);
    dress_text(&d, "class", span_of(e->class), ACCESS_SHORT_BYTES);
    dress_number(&d, "attempts", e->attempts);
    dress_ms(&d, "queue_ms", e->queue_us);
    dress_ms(&d, "upstream_ms", e->upstream_us);
    dress_ms(&d, "total_ms", e->total_us);
    dress_text(&d, "reason", span_of(e->reason), ACCESS_SHORT_BYTES);
    if (e->decision_id)
        dress_number(&d, "decision", e->decision_id);
    if (e->is_cut)
        dress_number(&d, "cut", 1);
}

void access_line(struct buf *out, uint8_t format, bool with_query, const struct access_entry *e)
{
    size_t begin = out->len;
    switch (format) {
    case CONF_LOG_COMBINED:
        line_combined(out, with_query, e);
        break;
    case CONF_LOG_JSON:
        buf_putc(out, '{');
        line_fields(out, ESCAPE_JSON, with_query, e);
        buf_putc(out, '}');
        break;
    case CONF_LOG_LOGFMT:
        line_fields(out, ESCAPE_QUOTED, with_query, e);
        break;
    default:
        return;
    }
    buf_putc(out, '\n');
    fb_assert(out->failed || out->len - begin <= ACCESS_LINE_BYTES);
}

/* ---- the shared file ---- */

static enum fb_code open_target(const char *path, int *fd, bool *is_stdout, struct fb_err *err)
{
    *is_stdout = strcmp(path, "-") == 0;
    if (*is_stdout) {
        *fd = STDOUT_FILENO;
        return FB_OK;
    }
    /* O_NONBLOCK: a named pipe without a reader must not stop the start */
    *fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
    if (*fd < 0)
        return fb_fail(err, FB_E_IO,
                       "access_log.path %s: %s; name a file in a folder that foldback may write",
                       path, strerror(errno));
    return FB_OK;
}

static void use_target(struct access_log *log, int fd, bool is_stdout)
{
    struct stat st;
    if (log->fd >= 0 && !log->is_stdout)
        close(log->fd);
    log->fd = fd;
    log->is_stdout = is_stdout;
    log->is_file = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

enum fb_code access_log_new(uint8_t format, const char *path, bool with_query,
                            struct access_log **out, struct fb_err *err)
{
    *out = NULL;
    struct access_log *log = calloc(1, sizeof *log);
    if (!log)
        return fb_fail(err, FB_E_NOMEM, "access_log: no memory");
    log->fd = -1;
    pthread_mutex_init(&log->lock, NULL);
    enum fb_code code = access_log_reopen(log, format, path, with_query, err);
    if (code == FB_OK)
        *out = log;
    else
        access_log_free(log);
    return code;
}

enum fb_code access_log_reopen(struct access_log *log, uint8_t format, const char *path,
                               bool with_query, struct fb_err *err)
{
    int fd = -1;
    bool is_stdout = false;
    if (format != CONF_LOG_OFF) {
        enum fb_code code = open_target(path, &fd, &is_stdout, err);
        if (code != FB_OK)
            return code;
    }
    pthread_mutex_lock(&log->lock);
    use_target(log, fd, is_stdout);
    pthread_mutex_unlock(&log->lock);
    atomic_store_explicit(&log->format, format, memory_order_relaxed);
    atomic_store_explicit(&log->with_query, with_query, memory_order_relaxed);
    return FB_OK;
}

void access_log_free(struct access_log *log)
{
    if (!log)
        return;
    use_target(log, -1, false);
    pthread_mutex_destroy(&log->lock);
    free(log);
}

uint64_t access_log_lost(const struct access_log *log)
{
    return atomic_load_explicit(&log->lost, memory_order_relaxed);
}

/* ---- the thread's buffer ---- */

void access_buf_init(struct access_buf *b, struct access_log *log)
{
    b->log = log;
    b->first_us = b->rest_until_us = 0;
    buf_init(&b->lines, ACCESS_WAIT_BYTES);
}

/* As many whole lines as fit <most>; at least one. */
static size_t whole_lines(struct span s, size_t most)
{
    if (s.len <= most)
        return s.len;
    const char *end = memrchr(s.at, '\n', most);
    fb_assert(end != NULL); /* no line is longer than <most> */
    return (size_t)(end - s.at) + 1;
}

static void drop_lines(struct access_buf *b, size_t bytes)
{
    uint64_t lines = 0;
    for (size_t i = 0; i < bytes; i++)
        lines += b->lines.at[i] == '\n';
    atomic_fetch_add_explicit(&b->log->lost, lines, memory_order_relaxed);
    buf_drop_front(&b->lines, bytes);
}

/* Bytes of <s> that the file took; *is_broken when it will not take the rest either. */
static size_t write_lines(struct access_log *log, struct span s, bool *is_broken)
{
    size_t done = 0;
    *is_broken = log->fd < 0;
    if (log->is_torn && !*is_broken && write(log->fd, "\n", 1) == 1)
        log->is_torn = false;
    while (done < s.len && !*is_broken) {
        struct span rest = {s.at + done, s.len - done};
        if (!log->is_file) {
            /* a pipe that is ready takes PIPE_BUF without blocking, whatever its flags */
            struct pollfd can = {.fd = log->fd, .events = POLLOUT};
            if (poll(&can, 1, 0) != 1 || !(can.revents & POLLOUT))
                break;
            rest.len = whole_lines(rest, ACCESS_LINE_BYTES);
        }
        ssize_t wrote = write(log->fd, rest.at, rest.len);
        if (wrote > 0)
            done += (size_t)wrote;
        else if (wrote == 0 || (errno != EINTR && errno != EAGAIN))
            *is_broken =
                true; /* disk full, reader gone: drop, count, try again with the next lines */
        else if (errno == EAGAIN)
            break;
    }
    if (*is_broken && done && s.at[done - 1] != '\n')
        log->is_torn = true;
    return done;
}

static void flush(struct access_buf *b, bool is_last, uint64_t now_us)
{
    struct access_log *log = b->log;
    bool is_broken;
    if (is_last)
        pthread_mutex_lock(&log->lock);
    else if (pthread_mutex_trylock(&log->lock) != 0)
        return; /* another thread writes: next tick */
    size_t done = write_lines(log, buf_span(&b->lines), &is_broken);
    pthread_mutex_unlock(&log->lock);
    if (done)
        buf_drop_front(&b->lines, done);
    if (is_broken)
        drop_lines(b, b->lines.len);
    b->first_us = b->lines.len ? now_us : 0;
    b->rest_until_us = b->lines.len ? now_us + ACCESS_FLUSH_US / 2 : 0;
}

void access_buf_fini(struct access_buf *b)
{
    if (b->lines.len)
        flush(b, true, 0);
    if (b->lines.len)
        drop_lines(b, b->lines.len);
    buf_fini(&b->lines);
}

void access_buf_put(struct access_buf *b, const struct access_entry *e, uint64_t now_us)
{
    uint8_t format = atomic_load_explicit(&b->log->format, memory_order_relaxed);
    if (format == CONF_LOG_OFF)
        return;
    if (!buf_reserve(&b->lines, ACCESS_LINE_BYTES)) {
        b->lines.failed = false;
        atomic_fetch_add_explicit(&b->log->lost, 1, memory_order_relaxed);
        return;
    }
    access_line(&b->lines, format, atomic_load_explicit(&b->log->with_query, memory_order_relaxed),
                e);
    if (b->first_us == 0)
        b->first_us = now_us;
    if (b->lines.len >= ACCESS_FLUSH_BYTES && now_us >= b->rest_until_us)
        flush(b, false, now_us);
}

void access_buf_tick(struct access_buf *b, uint64_t now_us)
{
    if (b->lines.len && now_us >= b->rest_until_us && now_us - b->first_us >= ACCESS_FLUSH_US / 2)
        flush(b, false, now_us);
}

struct span access_cut_address(struct span address, char room[ACCESS_ADDRESS_BYTES])
{
    unsigned char bytes[16];
    char text[ACCESS_ADDRESS_BYTES];
    if (address.len >= sizeof text)
        return address;
    memcpy(text, address.at, address.len);
    text[address.len] = '\0';
    int family = memchr(text, ':', address.len) ? AF_INET6 : AF_INET;
    if (inet_pton(family, text, bytes) != 1)
        return address;
    if (family == AF_INET)
        bytes[3] = 0;
    else
        memset(bytes + 6, 0, sizeof bytes - 6);
    return span_of(inet_ntop(family, bytes, room, ACCESS_ADDRESS_BYTES));
}
