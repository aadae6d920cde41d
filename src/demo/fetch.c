/* SPDX-License-Identifier: Apache-2.0 */
#include "demo/fetch.h"

#include "io/socket.h"
#include "proto/http1.h"
#include "proto/http1_body.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FIELDS_MAX 64

static bool wait_for(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, 3000) > 0;
}

static enum fb_code read_all(int fd, struct buf *in, struct fb_err *err)
{
    char part[16384];
    for (;;) {
        if (!wait_for(fd, POLLIN))
            return fb_fail(err, FB_E_TIMEOUT, "the admin API did not answer in 3 s");
        ssize_t n = read(fd, part, sizeof part);
        if (n == 0)
            return FB_OK;
        if (n < 0 && errno != EAGAIN)
            return fb_fail(err, FB_E_UNREACHABLE, "the admin API broke off: %s", strerror(errno));
        if (n > 0)
            buf_put(in, part, (size_t)n);
    }
}

static enum fb_code parse(struct buf *in, struct buf *body, struct fb_err *err)
{
    static const struct http1_limits limits = {
        .line_bytes = 1024, .header_bytes = 16384, .header_count = FIELDS_MAX};
    struct http1_field fields[FIELDS_MAX];
    struct http1_parser p;
    http1_response_begin(&p, &limits, fields, HTTP1_GET);
    if (http1_parse(&p, buf_span(in)) != HTTP1_DONE)
        return fb_fail(err, FB_E_FORMAT, "the admin API sent no whole answer");
    if (p.head.status != 200)
        return fb_fail(err, p.head.status == 401 ? FB_E_DENIED : FB_E_FORMAT,
                       "the admin API answered %u", p.head.status);
    struct http1_body reader;
    http1_body_begin(&reader, &p.head, NULL);
    struct span left = {in->at + p.head.head_bytes, in->len - p.head.head_bytes}, data;
    size_t used;
    enum http1_step step;
    while ((step = http1_body_next(&reader, left, &data, &used)) == HTTP1_DATA) {
        buf_put_span(body, data);
        left = (struct span){left.at + used, left.len - used};
    }
    if (step == HTTP1_MORE)
        step = http1_body_end(&reader);
    return step == HTTP1_DONE ? FB_OK : fb_fail(err, FB_E_FORMAT, "the admin API cut its answer");
}

enum fb_code fetch_get(const char *address, const char *state_dir, const char *path,
                       struct buf *body, struct fb_err *err)
{
    char file[600], token[160] = "", text[1024];
    snprintf(file, sizeof file, "%s/admin.token", state_dir);
    FILE *f = fopen(file, "re");
    if (!f || !fgets(token, sizeof token, f)) {
        if (f)
            fclose(f);
        return fb_fail(err, FB_E_DENIED, "cannot read %s", file);
    }
    fclose(f);
    token[strcspn(token, "\r\n")] = '\0';
    struct sock_addr to;
    int fd = -1;
    enum fb_code code = sock_parse(span_of(address), &to, err);
    if (code != FB_OK)
        return code;
    int failed = sock_connect(&to, &fd);
    if (fd < 0 || (failed == EINPROGRESS && !wait_for(fd, POLLOUT)) || sock_error(fd) != 0) {
        if (fd >= 0)
            close(fd);
        return fb_fail(err, FB_E_UNREACHABLE, "nobody answers at %s", address);
    }
    int n = snprintf(
        text, sizeof text,
        "GET %s HTTP/1.1\r\nhost: %s\r\nauthorization: Bearer %s\r\nconnection: close\r\n\r\n",
        path, address, token);
    struct buf in;
    buf_init(&in, 16 * MIB);
    code = write(fd, text, (size_t)n) == n
               ? read_all(fd, &in, err)
               : fb_fail(err, FB_E_UNREACHABLE, "nobody reads at %s", address);
    close(fd);
    if (code == FB_OK)
        code = parse(&in, body, err);
    buf_fini(&in);
    return code;
}
