/* SPDX-License-Identifier: Apache-2.0 */
#include "demo/load.h"

#include "base/clock.h"
#include "base/rng.h"
#include "demo/websocket.h"
#include "io/loop.h"
#include "proto/http1.h"
#include "proto/http1_body.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define IN_BYTES 4096
#define FIELDS_MAX 64
#define STAY_US (12 * US_PER_S) /* how long a viewer or an editor stays */
#define MESSAGE_EACH_US (500 * US_PER_MS)

enum user_state { USER_IDLE, USER_CONNECTING, USER_WAITING, USER_STREAM, USER_WEBSOCKET };

struct user {                  /* one connection */
    struct loop_handle handle; /* first */
    struct loop_timer patience, leave, message;
    struct user *next; /* free connections */
    uint64_t due_us;   /* when the present request was scheduled */
    uint32_t len, number;
    uint8_t class, state, kind;
    bool has_head, is_owed; /* an echo is owed */
    uint16_t status;
    struct http1_body body;
    char in[IN_BYTES];
};

static struct {
    const struct load_setup *setup;
    struct loop *loop;
    struct rng rng;
    struct loop_timer arrival;
    uint64_t next_us; /* scheduled time of the next arrival */
    struct user *idle;
    uint32_t busy, number;
} ld;

static void on_arrival(struct loop_timer *t);
static void on_user(struct loop_handle *h, uint32_t events);
static void on_patience(struct loop_timer *t);
static void on_leave(struct loop_timer *t);
static void on_message(struct loop_timer *t);
static void begin(uint64_t due_us);
static void send_request(struct user *u);
static void read_answer(struct user *u);
static void read_stream(struct user *u);
static void read_echo(struct user *u);
static void finish(struct user *u, enum load_outcome outcome, uint16_t status);
static void drop(struct user *u);

struct load_board *load_board_new(void)
{
    void *at = mmap(NULL, sizeof(struct load_board), PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

int load_run(const struct load_setup *setup)
{
    struct fb_err err;
    ld.setup = setup;
    rng_init(&ld.rng, setup->seed);
    if (loop_new(&ld.loop, &err) != FB_OK)
        return 1;
    ld.next_us = setup->start_us;
    ld.arrival.on_due = on_arrival;
    loop_timer_set(ld.loop, &ld.arrival, setup->start_us);
    loop_run(ld.loop, NULL, NULL);
    atomic_store(&setup->board->is_done, 1);
    return 0;
}

static void on_arrival(struct loop_timer *t)
{
    uint64_t now_us = loop_refresh_us(ld.loop), end_us = ld.setup->start_us + ld.setup->length_us;
    while (ld.next_us <= now_us && ld.next_us < end_us) {
        begin(ld.next_us);
        double at = (double)(ld.next_us - ld.setup->start_us) / (double)ld.setup->length_us;
        ld.next_us += (uint64_t)(rng_exp(&ld.rng, 1e6 / demo_rate(ld.setup->scenario, at))) + 1;
    }
    if (ld.next_us < end_us) {
        loop_timer_set(ld.loop, t, ld.next_us);
    } else if (ld.busy) {
        if (now_us < end_us + DEMO_PATIENCE_US + STAY_US) /* the last users */
            loop_timer_set(ld.loop, t, now_us + 50 * US_PER_MS);
        else
            loop_stop(ld.loop);
    } else {
        loop_stop(ld.loop);
    }
}

static void record(uint8_t class, enum load_outcome outcome, uint16_t status, uint64_t due_us,
                   uint64_t latency_us)
{
    struct load_board *b = ld.setup->board;
    uint32_t i = atomic_load_explicit(&b->count, memory_order_relaxed);
    if (i >= LOAD_SAMPLES_MAX)
        return;
    b->sample[i] = (struct load_sample){
        .at_ms = (uint32_t)(fb_sub_floor_u64(due_us, ld.setup->start_us) / 1000),
        .latency_us =
            outcome == LOAD_OK || outcome == LOAD_SHED ? fb_sat_u32(latency_us) : UINT32_MAX,
        .class = class,
        .outcome = (uint8_t)outcome,
        .status = status};
    atomic_store_explicit(&b->count, i + 1, memory_order_release);
}

/* One arrival: which class, which user; on a kept connection or a new one. */
static void begin(uint64_t due_us)
{
    const struct demo_scenario *sc = ld.setup->scenario;
    double dice = rng_unit(&ld.rng);
    size_t row = 0;
    while (row + 1 < EV_CLASS_COUNT && dice >= sc->mix[row].share)
        dice -= sc->mix[row++].share;
    uint32_t number = rng_below(&ld.rng, 5000);
    enum demo_kind kind = sc->mix[row].kind;
    struct user *u = kind == DEMO_KIND_REQUEST ? ld.idle : NULL;
    if (u) {
        ld.idle = u->next;
    } else {
        u = calloc(1, sizeof *u);
        if (u)
            u->handle.on_ready = on_user;
        int fd = -1, failed = u ? sock_connect(&ld.setup->to, &fd) : ENOMEM;
        if (fd < 0 || (failed && failed != EINPROGRESS) ||
            loop_add(ld.loop, &u->handle, fd, LOOP_READ | LOOP_WRITE | LOOP_EDGE) != FB_OK) {
            if (fd >= 0)
                close(fd);
            free(u);
            atomic_fetch_add(&ld.setup->board->lost, 1);
            return;
        }
        u->patience.on_due = on_patience;
        u->leave.on_due = on_leave;
        u->message.on_due = on_message;
        u->state = failed == EINPROGRESS ? USER_CONNECTING : USER_IDLE;
    }
    ld.busy++;
    u->due_us = due_us;
    u->number = number;
    u->class = sc->mix[row].class;
    u->kind = (uint8_t)kind;
    u->has_head = false;
    u->len = 0;
    loop_timer_set(ld.loop, &u->patience, due_us + DEMO_PATIENCE_US);
    if (u->state != USER_CONNECTING)
        send_request(u);
}

static void send_request(struct user *u)
{
    const struct demo_scenario *sc = ld.setup->scenario;
    const struct demo_mix *mix = &sc->mix[u->class];
    char text[512];
    static const char post[] = "{\"quantity\":1,\"text\":\"a small write\"}";
    bool has_body = strcmp(mix->method, "POST") == 0;
    size_t path_len = strlen(mix->path);
    int n = snprintf(text, sizeof text, "%s %s", mix->method, mix->path);
    if (mix->path[path_len - 1] == '/')
        n += snprintf(text + n, sizeof text - (size_t)n, "%u", u->number % 500);
    n += snprintf(text + n, sizeof text - (size_t)n,
                  " HTTP/1.1\r\nhost: shop.example\r\nx-user: u%u\r\n", u->number);
    if (u->kind == DEMO_KIND_WEBSOCKET)
        n += snprintf(text + n, sizeof text - (size_t)n,
                      "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
                      "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
    if (has_body)
        n += snprintf(text + n, sizeof text - (size_t)n,
                      "content-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
                      sizeof post - 1, post);
    else
        n += snprintf(text + n, sizeof text - (size_t)n, "\r\n");
    u->state = USER_WAITING;
    if (write(u->handle.fd, text, (size_t)n) != n)
        finish(u, LOAD_ERROR, 0);
}

static void on_user(struct loop_handle *h, uint32_t events)
{
    struct user *u = (struct user *)h;
    if (u->state == USER_CONNECTING) {
        if (sock_error(h->fd) != 0 || (events & LOOP_ERROR)) {
            finish(u, LOAD_ERROR, 0);
            return;
        }
        if (!(events & LOOP_WRITE))
            return;
        send_request(u);
        return;
    }
    if (!(events & (LOOP_READ | LOOP_END | LOOP_ERROR)))
        return;
    for (;;) {
        ssize_t n = read(h->fd, u->in + u->len, sizeof u->in - u->len);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            if (u->state == USER_IDLE)
                drop(u);
            else
                finish(u, LOAD_ERROR, 0);
            return;
        }
        if (u->state == USER_IDLE) { /* nobody asked */
            drop(u);
            return;
        }
        u->len += (uint32_t)n;
        uint8_t before = u->state;
        if (u->state == USER_WAITING) {
            read_answer(u);
            return; /* u may be gone or idle; level of the next read comes with the next edge */
        }
        if (before == USER_STREAM)
            read_stream(u);
        else
            read_echo(u);
        return;
    }
}

/* Whole answers are below IN_BYTES and come in one or two reads. */
static void read_answer(struct user *u)
{
    static const struct http1_limits limits = {
        .line_bytes = 1024, .header_bytes = IN_BYTES, .header_count = FIELDS_MAX};
    for (;;) {
        if (!u->has_head) {
            struct http1_field fields[FIELDS_MAX];
            struct http1_parser p;
            http1_response_begin(&p, &limits, fields, HTTP1_GET);
            enum http1_step step = http1_parse(&p, (struct span){u->in, u->len});
            if (step == HTTP1_FAILED) {
                finish(u, LOAD_ERROR, 0);
                return;
            }
            if (step == HTTP1_DONE) {
                u->has_head = true;
                u->status = p.head.status;
                http1_body_begin(&u->body, &p.head, NULL);
                u->len -= p.head.head_bytes;
                memmove(u->in, u->in + p.head.head_bytes, u->len);
                if (u->kind != DEMO_KIND_REQUEST && (u->status == 200 || u->status == 101)) {
                    u->state = u->status == 101 ? USER_WEBSOCKET : USER_STREAM;
                    loop_timer_stop(ld.loop, &u->patience);
                    loop_timer_set(ld.loop, &u->leave, loop_now_us(ld.loop) + STAY_US);
                    if (u->state == USER_WEBSOCKET)
                        loop_timer_set(ld.loop, &u->message, loop_now_us(ld.loop) + 50 * US_PER_MS);
                    record(u->class, LOAD_OK, u->status, u->due_us, fb_mono_us() - u->due_us);
                    if (u->state == USER_STREAM)
                        read_stream(u);
                    return;
                }
            }
        }
        if (u->has_head) {
            struct span data;
            size_t used = 0, at = 0;
            enum http1_step step;
            while ((step = http1_body_next(&u->body, (struct span){u->in + at, u->len - at}, &data,
                                           &used)) == HTTP1_DATA)
                at += used;
            if (step == HTTP1_DONE) {
                bool is_shed = u->status == 503 || u->status == 429;
                finish(u, u->status < 400 ? LOAD_OK : is_shed ? LOAD_SHED : LOAD_ERROR, u->status);
                return;
            }
            if (step == HTTP1_FAILED) {
                finish(u, LOAD_ERROR, u->status);
                return;
            }
            u->len = 0;
        }
        ssize_t n = read(u->handle.fd, u->in + u->len, sizeof u->in - u->len);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            finish(u, LOAD_ERROR, u->status);
            return;
        }
        u->len += (uint32_t)n;
    }
}

/* Events carry the time at which they were sent: each is a sample. */
static void read_stream(struct user *u)
{
    for (;;) {
        struct span data;
        size_t used = 0, at = 0;
        enum http1_step step;
        while ((step = http1_body_next(&u->body, (struct span){u->in + at, u->len - at}, &data,
                                       &used)) == HTTP1_DATA) {
            at += used;
            const char *hit = memmem(data.at, data.len, "data: ", 6);
            if (hit) {
                uint64_t sent_us = strtoull(hit + 6, NULL, 10), now_us = fb_mono_us();
                record(u->class, LOAD_OK, 200, sent_us, fb_sub_floor_u64(now_us, sent_us));
            }
        }
        if (step != HTTP1_MORE) {
            finish(u, LOAD_ERROR, 0); /* it should never end by itself */
            return;
        }
        u->len = 0;
        ssize_t n = read(u->handle.fd, u->in, sizeof u->in);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            finish(u, LOAD_ERROR, 0);
            return;
        }
        u->len = (uint32_t)n;
    }
}

static void on_message(struct loop_timer *t)
{
    struct user *u = FB_CONTAINER(t, struct user, message);
    char frame[WS_MESSAGE_MAX + WS_HEAD_MAX];
    size_t len = ws_write(frame, SPAN("insert 12 \"hello\""), 0x5a17c3e9);
    if (u->is_owed) /* one at a time: the editor waits for its echo */
        return;
    u->due_us = loop_now_us(ld.loop);
    u->is_owed = true;
    loop_timer_set(ld.loop, &u->patience, u->due_us + DEMO_PATIENCE_US);
    if (write(u->handle.fd, frame, len) != (ssize_t)len)
        finish(u, LOAD_ERROR, 0);
}

static void read_echo(struct user *u)
{
    char message[WS_MESSAGE_MAX];
    uint32_t bytes;
    int used;
    while ((used = ws_read((struct span){u->in, u->len}, message, &bytes)) > 0) {
        u->len -= (uint32_t)used;
        memmove(u->in, u->in + used, u->len);
        if (u->is_owed) {
            u->is_owed = false;
            loop_timer_stop(ld.loop, &u->patience);
            record(u->class, LOAD_OK, 101, u->due_us, fb_mono_us() - u->due_us);
            loop_timer_set(ld.loop, &u->message, u->due_us + MESSAGE_EACH_US);
        }
    }
    if (used < 0)
        finish(u, LOAD_ERROR, 0);
}

static void on_patience(struct loop_timer *t)
{
    finish(FB_CONTAINER(t, struct user, patience), LOAD_TIMEOUT, 0);
}

/* The end of a stay: no sample, the connection closes. */
static void on_leave(struct loop_timer *t)
{
    struct user *u = FB_CONTAINER(t, struct user, leave);
    ld.busy--;
    drop(u);
}

static void finish(struct user *u, enum load_outcome outcome, uint16_t status)
{
    record(u->class, outcome, status, u->due_us, fb_mono_us() - u->due_us);
    ld.busy--;
    /* a shed request leaves its connection whole; everything that went wrong does not */
    if (u->kind != DEMO_KIND_REQUEST || outcome == LOAD_TIMEOUT || status == 0 || u->len > 4000) {
        drop(u);
        return;
    }
    loop_timer_stop(ld.loop, &u->patience);
    u->state = USER_IDLE;
    u->len = 0;
    u->next = ld.idle;
    ld.idle = u;
}

static void drop(struct user *u)
{
    for (struct user **at = &ld.idle; *at; at = &(*at)->next)
        if (*at == u) {
            *at = u->next;
            break;
        }
    loop_timer_stop(ld.loop, &u->patience);
    loop_timer_stop(ld.loop, &u->leave);
    loop_timer_stop(ld.loop, &u->message);
    int fd = u->handle.fd;
    loop_remove(ld.loop, &u->handle);
    close(fd);
    free(u);
}
