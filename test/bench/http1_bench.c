/* SPDX-License-Identifier: Apache-2.0 */
/* http1_bench: ns per head, per chunked body and per rewritten head; the best of several rounds.
 *
 * Usage: http1_bench [ROUNDS].  The aim is below 250 ns for a 300-byte browser request. */
#include "base/assert.h"
#include "proto/http1_body.h"
#include "proto/http1_target.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define LOOPS 200000u
#define FIELDS 64u

static const struct http1_limits limits = {8192, 65536, FIELDS};

static const char browser[] =
    "GET /static/js/app.4f2a.js?v=17 HTTP/1.1\r\n"
    "Host: shop.example.com\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101\r\n"
    "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n"
    "Accept-Language: en-US,en;q=0.5\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Cookie: sid=0123456789abcdef\r\n"
    "Connection: keep-alive\r\n\r\n";
static const char small[] = "GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n";
static const char answer[] = "HTTP/1.1 200 OK\r\n"
                             "Date: Sun, 22 Nov 2026 08:00:00 GMT\r\n"
                             "Server: origin/1.0\r\n"
                             "Content-Type: text/html; charset=utf-8\r\n"
                             "Cache-Control: private, max-age=0\r\n"
                             "Content-Length: 5120\r\n\r\n";
static const char chunked[] = "400\r\n%01024d\r\n400\r\n%01024d\r\n0\r\n\r\n";

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t sink; /* keeps the compiler from dropping the work */

static void run_request(struct span bytes)
{
    static struct http1_field fields[FIELDS];
    static struct http1_parser p;
    http1_request_begin(&p, &limits, fields);
    fb_assert(http1_parse(&p, bytes) == HTTP1_DONE);
    sink += p.head.field_count;
}

static void run_response(struct span bytes)
{
    static struct http1_field fields[FIELDS];
    static struct http1_parser p;
    http1_response_begin(&p, &limits, fields, HTTP1_GET);
    fb_assert(http1_parse(&p, bytes) == HTTP1_DONE);
    sink += p.head.body_bytes;
}

/* Parse, normalise, write again with two fields of our own: the gateway's work on a head. */
static void run_rewrite(struct span bytes)
{
    static struct http1_field fields[FIELDS];
    static struct http1_parser p;
    static char text[1024];
    static char out[2048];
    struct span target, path;
    http1_request_begin(&p, &limits, fields);
    fb_assert(http1_parse(&p, bytes) == HTTP1_DONE);
    struct http1_out t = http1_out(text, sizeof(text));
    fb_assert(http1_target_normalise(&p.head, &t, &target, &path) == HTTP1_E_NONE);
    struct http1_out w = http1_out(out, sizeof(out));
    http1_put_request_line(&w, p.head.method_text, target);
    http1_put_fields(&w, &p.head, HTTP1_SKIP_FRAMING | HTTP1_SKIP(X_FORWARDED_FOR));
    http1_put_field(&w, SPAN("X-Forwarded-For"), SPAN("192.0.2.17"));
    http1_put_field(&w, SPAN("Via"), SPAN("1.1 foldback"));
    http1_put_end(&w);
    fb_assert(!w.failed);
    sink += w.len;
}

static void run_body(struct span bytes)
{
    struct http1_body b;
    struct span data;
    size_t used;
    http1_body_begin_as(&b, HTTP1_BODY_CHUNKED, 0, NULL);
    while (http1_body_next(&b, bytes, &data, &used) == HTTP1_DATA) {
        bytes.at += used;
        bytes.len -= used;
        sink += data.len;
    }
    fb_assert(b.is_done);
}

static void measure(const char *what, void (*run)(struct span), struct span bytes, unsigned rounds)
{
    double best = 1e9;
    for (unsigned r = 0; r < rounds; r++) {
        uint64_t start = now_ns();
        for (unsigned i = 0; i < LOOPS; i++)
            run(bytes);
        double ns = (double)(now_ns() - start) / LOOPS;
        best = ns < best ? ns : best;
    }
    printf("%-28s %5zu bytes  %7.1f ns\n", what, bytes.len, best);
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 5;
    static char body[4096];
    int len = snprintf(body, sizeof(body), chunked, 0, 0);
    fb_assert(len > 0);
    measure("request, browser", run_request, SPAN(browser), rounds);
    measure("request, smallest", run_request, SPAN(small), rounds);
    measure("response", run_response, SPAN(answer), rounds);
    measure("request, parsed and written", run_rewrite, SPAN(browser), rounds);
    measure("chunked body, 2 x 1 KiB", run_body, (struct span){body, (size_t)len}, rounds);
    return sink == 0;
}
