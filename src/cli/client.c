/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"

#include "base/clock.h"
#include "io/socket.h"
#include "io/textfile.h"
#include "proto/http1.h"
#include "proto/http1_body.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIELDS_MAX 64 /* the admin server sends about 15 */
#define ANSWER_BYTES_MAX (64 * MIB)
#define LINE_BYTES_MAX (1 * MIB)
#define IDLE_MS 100
#define RETRY_MS 100
#define PATIENCE_MS 2000
/* The server asks for patience in its first two seconds only. */
#define RETRY_MAX_US (3 * US_PER_S)

struct answer { /* one call under way */
    const struct client *client;
    const struct client_call *call;
    struct buf in, line, *out;
    struct http1_body body;
    uint16_t status;
    bool has_head, is_stopped, is_patience_said;
    bool may_retry; /* 503 with Retry-After: nothing was done, and soon it will be */
    uint64_t until_us;
    int fd;
};

static enum fb_code open_connection(struct answer *a, struct fb_err *err);
static enum fb_code send_call(struct answer *a, struct fb_err *err);
static enum fb_code read_answer(struct answer *a, struct fb_err *err);
static enum fb_code take_head(struct answer *a, struct fb_err *err);
static enum http1_step take_body(struct answer *a);
static enum fb_code judge(struct answer *a, struct fb_err *err);

const char *client_state_dir(const char *state)
{
    if (state)
        return state;
    return access("foldback-state", F_OK) == 0 ? "foldback-state" : "/var/lib/foldback";
}

enum fb_code client_state_check(const char *dir, struct fb_err *err)
{
    struct stat st;
    bool is_closed = stat(dir, &st) == 0 ? S_ISDIR(st.st_mode) && access(dir, R_OK | X_OK) != 0
                                         : errno == EACCES;
    if (!is_closed)
        return FB_OK;
    return fb_fail(err, FB_E_DENIED,
                   "the state folder %s is closed to you: %s; run this as the user of foldback or "
                   "as root, such as `sudo -u foldback foldback ...`",
                   dir, strerror(EACCES));
}

/* Where a client connects to reach what listens at <address>: "all addresses" means loopback here,
 * and the Host field must be a name that the server takes (DNS rebinding guard, output/auth.c).  A
 * URL copied from the banner will do, and so will "localhost": sock_parse knows no names. */
static void put_address(struct client *c, const char *address)
{
    static const struct {
        const char *begin, *instead;
    } all[] = {{"0.0.0.0:", "127.0.0.1"},
               {":", "127.0.0.1"},
               {"*:", "127.0.0.1"},
               {"[::]:", "[::1]"},
               {"localhost:", "127.0.0.1"}};
    if (strncmp(address, "http://", 7) == 0)
        address += 7;
    const char *host = "";
    for (size_t i = 0; i < FB_COUNT(all) && !host[0]; i++)
        if (strncmp(address, all[i].begin, strlen(all[i].begin)) == 0) {
            host = all[i].instead;
            address += strlen(all[i].begin) - 1;
        }
    snprintf(c->address, sizeof c->address, "%s%.*s", host, (int)strcspn(address, "/"), address);
}

enum fb_code client_init(struct client *c, const char *state, const char *admin,
                         const char *token_file, struct fb_err *err)
{
    char file[700];
    *c = (struct client){.timeout_ms = 5000};
    snprintf(c->state, sizeof c->state, "%s", client_state_dir(state));
    snprintf(file, sizeof file, "%s/admin.json", c->state);
    json_t *root = json_load_file(file, 0, NULL);
    const char *address = admin ? admin : json_string_value(json_object_get(root, "address"));
    const char *token =
        token_file ? token_file : json_string_value(json_object_get(root, "token_file"));
    if (!address || !address[0]) {
        json_decref(root);
        enum fb_code code = client_state_check(c->state, err);
        if (code != FB_OK)
            return code;
        return fb_fail(err, FB_E_UNREACHABLE,
                       "no foldback runs with the state folder %s; start one with `foldback run`, "
                       "or name it with --state DIR or "
                       "--admin ADDRESS",
                       c->state);
    }
    put_address(c, address);
    snprintf(file, sizeof file, "%s", token ? token : "");
    json_decref(root);
    if (!file[0])
        snprintf(file, sizeof file, "%s/admin.token", c->state);
    if (!textfile_line(file, c->token, sizeof c->token))
        return fb_fail(err, FB_E_DENIED,
                       "cannot read the token in %s: %s; name the file with --token-file", file,
                       strerror(errno));
    return FB_OK;
}

static enum fb_code call_once(const struct client *c, const struct client_call *call,
                              struct buf *out, struct fb_err *err, bool *may_retry)
{
    struct answer a = {.client = c, .call = call, .out = out, .fd = -1};
    a.until_us = fb_mono_us() + (uint64_t)c->timeout_ms * US_PER_MS;
    buf_init(&a.in, ANSWER_BYTES_MAX);
    buf_init(&a.line, LINE_BYTES_MAX);
    enum fb_code code = open_connection(&a, err);
    if (code == FB_OK)
        code = send_call(&a, err);
    if (code == FB_OK)
        code = read_answer(&a, err);
    if (code == FB_OK)
        code = judge(&a, err);
    if (a.fd >= 0)
        close(a.fd);
    buf_fini(&a.in);
    buf_fini(&a.line);
    *may_retry = a.may_retry;
    return code;
}

enum fb_code client_call(const struct client *c, const struct client_call *call, struct buf *out,
                         struct fb_err *err)
{
    uint64_t until_us =
        fb_mono_us() + fb_min_u64((uint64_t)c->timeout_ms * US_PER_MS, RETRY_MAX_US);
    size_t before = out->len;
    for (;;) {
        bool may_retry = false;
        enum fb_code code = call_once(c, call, out, err, &may_retry);
        if (code == FB_OK || !may_retry || fb_mono_us() > until_us)
            return code;
        out->len = before; /* the problem's text */
        usleep(RETRY_MS * 1000);
    }
}

/* Bounded by the time-out of the call until the head is there; then a live answer may be silent for
 * hours (the server sends a comment each 15 s only to streams), and on_idle is asked between. */
static bool wait_for(struct answer *a, short events)
{
    struct pollfd p = {.fd = a->fd, .events = events};
    bool is_live = a->call->on_line && a->has_head; /* a live answer may be silent for long */
    uint64_t left_us = fb_sub_floor_u64(a->until_us, fb_mono_us());
    int got;
    do {
        if (a->call->patience && !a->is_patience_said) {
            got = poll(&p, 1, (int)fb_min_u64(left_us / 1000, PATIENCE_MS));
            if (got == 0) {
                a->is_patience_said = true;
                fprintf(stderr, "%s\n", a->call->patience);
                left_us = fb_sub_floor_u64(a->until_us, fb_mono_us());
                got = poll(&p, 1, (int)(left_us / 1000));
            }
            continue;
        }
        got = poll(&p, 1, is_live ? IDLE_MS : (int)(left_us / 1000));
        if (got == 0 && is_live && a->call->on_idle && !a->call->on_idle(a->call->arg))
            a->is_stopped = true;
    } while ((got < 0 && errno == EINTR) || (got == 0 && is_live && !a->is_stopped));
    return got > 0 || a->is_stopped;
}

/* Loopback answers at once or refuses; the time-out is for --admin of another host. */
static enum fb_code open_connection(struct answer *a, struct fb_err *err)
{
    struct sock_addr to;
    enum fb_code code = sock_parse(span_of(a->client->address), &to, err);
    if (code != FB_OK)
        return code;
    int failed = sock_connect(&to, &a->fd);
    if (a->fd >= 0 && failed == EINPROGRESS)
        failed = wait_for(a, POLLOUT) ? sock_error(a->fd) : ETIMEDOUT;
    if (failed)
        return fb_fail(err, FB_E_UNREACHABLE,
                       "nothing answers at %s: %s; is foldback running? (state folder %s)",
                       a->client->address, strerror(failed), a->client->state);
    return FB_OK;
}

/* `connection: close`: one call per connection, so that nothing has to be kept or retried. */
static enum fb_code send_call(struct answer *a, struct fb_err *err)
{
    const struct client_call *call = a->call;
    struct buf text;
    buf_init(&text, MIB);
    buf_printf(&text,
               "%s %s HTTP/1.1\r\nhost: %s\r\nauthorization: Bearer %s\r\nconnection: close\r\n",
               call->method, call->path, a->client->address, a->client->token);
    if (call->if_match)
        buf_printf(&text, "if-match: %s\r\n", call->if_match);
    if (call->body.len || strcmp(call->method, "GET") != 0)
        buf_printf(&text, "content-type: application/json\r\ncontent-length: %zu\r\n",
                   call->body.len);
    buf_puts(&text, "\r\n");
    buf_put_span(&text, call->body);
    enum fb_code code = FB_OK;
    for (size_t at = 0; at < text.len && code == FB_OK;) {
        ssize_t n = send(a->fd, text.at + at, text.len - at, MSG_NOSIGNAL);
        if (n > 0)
            at += (size_t)n;
        else if (errno != EAGAIN || !wait_for(a, POLLOUT))
            code = fb_fail(err, FB_E_UNREACHABLE, "%s does not take the request: %s",
                           a->client->address, strerror(errno));
    }
    buf_fini(&text);
    return code;
}

/* Until the body is complete by its own framing, or a live answer is stopped. */
static enum fb_code read_answer(struct answer *a, struct fb_err *err)
{
    char part[16384];
    for (;;) {
        if (!wait_for(a, POLLIN))
            return fb_fail(
                err, FB_E_TIMEOUT,
                "%s did not answer within %u ms; look at `foldback status`, or give --timeout",
                a->client->address, a->client->timeout_ms);
        if (a->is_stopped)
            return FB_OK;
        ssize_t n = read(a->fd, part, sizeof part);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n < 0)
            return fb_fail(err, FB_E_UNREACHABLE, "%s broke off: %s", a->client->address,
                           strerror(errno));
        if (n == 0)
            break;
        buf_put(&a->in, part, (size_t)n);
        if (a->in.failed)
            return fb_fail(err, FB_E_NOMEM, "the answer is larger than %zu bytes",
                           (size_t)ANSWER_BYTES_MAX);
        enum fb_code code = a->has_head ? FB_OK : take_head(a, err);
        if (code != FB_OK)
            return code;
        if (!a->has_head)
            continue;
        enum http1_step step = take_body(a);
        if (step == HTTP1_FAILED)
            return fb_fail(err, FB_E_FORMAT, "%s sent a malformed body", a->client->address);
        if (step == HTTP1_DONE || a->is_stopped)
            return FB_OK;
    }
    if (!a->has_head || http1_body_end(&a->body) != HTTP1_DONE)
        return fb_fail(err, FB_E_UNREACHABLE,
                       "%s closed the connection in the middle of its answer", a->client->address);
    return FB_OK;
}

/* One parse over all bytes so far: heads of the admin server fit in one segment, so that starting
 * over costs nothing. */
static enum fb_code take_head(struct answer *a, struct fb_err *err)
{
    static const struct http1_limits limits = {
        .line_bytes = 1024, .header_bytes = 32768, .header_count = FIELDS_MAX};
    struct http1_field fields[FIELDS_MAX];
    struct http1_parser p;
    http1_response_begin(&p, &limits, fields, HTTP1_GET);
    enum http1_step step = http1_parse(&p, buf_span(&a->in));
    if (step == HTTP1_FAILED)
        return fb_fail(err, FB_E_FORMAT, "%s does not speak HTTP; is it the admin address?",
                       a->client->address);
    if (step != HTTP1_DONE)
        return FB_OK;
    a->has_head = true;
    a->status = p.head.status;
    a->may_retry = a->status == 503 && http1_find_name(&p.head, SPAN("retry-after"));
    http1_body_begin(&a->body, &p.head, NULL);
    buf_drop_front(&a->in, p.head.head_bytes);
    return FB_OK;
}

/* Lines may be cut anywhere by chunks and reads; one longer than LINE_BYTES_MAX is dropped. */
static void give_lines(struct answer *a, struct span data)
{
    while (data.len && !a->is_stopped) {
        const char *end = memchr(data.at, '\n', data.len);
        size_t len = end ? (size_t)(end - data.at) : data.len;
        buf_put(&a->line, data.at, len);
        data = (struct span){data.at + len + (end ? 1 : 0), data.len - len - (end ? 1 : 0)};
        if (end) {
            if (!a->line.failed)
                a->is_stopped = !a->call->on_line(a->call->arg, buf_span(&a->line));
            buf_clear(&a->line);
        }
    }
}

/* All that is there: DATA goes to the lines of a live answer, or is collected.  The text of a
 * problem is always collected, so that a refused live call has its sentence. */
static enum http1_step take_body(struct answer *a)
{
    for (;;) {
        struct span data;
        size_t used = 0;
        enum http1_step step = http1_body_next(&a->body, buf_span(&a->in), &data, &used);
        if (step == HTTP1_DATA) {
            if (a->call->on_line && a->status < 300)
                give_lines(a, data);
            else
                buf_put_span(a->out, data);
        }
        buf_drop_front(&a->in, used);
        if (step != HTTP1_DATA || a->is_stopped)
            return step;
    }
}

/* No token, a wrong one, an origin or a host that may not, too many wrong tokens. */
static bool is_denied(uint16_t status)
{
    return status == 401 || status == 403 || status == 421 || status == 429;
}

/* A sentence that tells the next step itself: behind a semicolon, or as a command. */
static bool says_what_next(const char *detail)
{
    return strpbrk(detail, ";`") != NULL;
}

/* A problem (RFC 9457) becomes its sentence and, unless that tells the next step, the general
 * remedy of its code; its status the exit code. */
static enum fb_code judge(struct answer *a, struct fb_err *err)
{
    if (a->status >= 200 && a->status < 300)
        return FB_OK;
    enum fb_code code = is_denied(a->status)                   ? FB_E_DENIED
                        : a->status == 404                     ? FB_E_NOT_FOUND
                        : a->status == 409 || a->status == 412 ? FB_E_CONFLICT
                        : a->status == 400 || a->status == 422 ? FB_E_RANGE
                        : a->status == 501 || a->status == 503 ? FB_E_AGAIN
                        : a->status == 504                     ? FB_E_TIMEOUT
                                                               : FB_E_FORMAT;
    json_t *root = json_loadb(a->out->at ? a->out->at : "", a->out->len, 0, NULL);
    const char *detail = json_string_value(json_object_get(root, "detail"));
    const char *remedy = json_string_value(json_object_get(root, "remedy"));
    if (detail && remedy && !says_what_next(detail))
        fb_fail(err, code, "%s. %s", detail, remedy);
    else if (detail)
        fb_fail(err, code, "%s", detail);
    else
        fb_fail(err, code, "%s answered %u", a->client->address, a->status);
    json_decref(root);
    return code;
}

/* RFC 3986 unreserved characters stay; "/" does not: a route is called "shop /". */
void client_encode(struct buf *out, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (isalnum(c) || strchr("-._~", c))
            buf_putc(out, (char)c);
        else
            buf_printf(out, "%%%02X", c);
    }
}
