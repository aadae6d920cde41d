/* SPDX-License-Identifier: Apache-2.0 */
#include "main/fleet_link.h"

#include "base/clock.h"
#include "base/log.h"
#include "fleet/message.h"
#include "io/thread.h"
#include "stream/connectors/load.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SEND_TIMEOUT_MS 2000
#define RECEIVE_TIMEOUT_MS 200
#define REST_MS 500            /* after a failure */
#define LAST_US (1 * US_PER_S) /* for the last words, once the link was left */
#define BATCH_MAX 256

struct message {
    struct message *next;
    size_t key_len, value_len;
    char bytes[]; /* key, then value */
};
struct queue {
    struct message *first, **last;
    uint32_t count;
};

struct fleet_link {
    const struct connector_type *type;
    const struct conf_connector *c;
    struct conf *conf;
    char node[64], group[64], state_dir[4096];
    pthread_mutex_t lock; /* everything below */
    pthread_cond_t is_waiting;
    struct queue out, in;
    struct fleet_link_state state;
    pthread_t sender, receiver;
    atomic_bool is_stopping;
    _Atomic uint64_t left_us;
    uint32_t threads; /* that still run; the last one frees */
};

static atomic_uint leaving; /* links of this process that were left and are not gone */

static void *send_all(void *arg);
static void *receive_all(void *arg);
static void free_link(struct fleet_link *k);
static void thread_ends(struct fleet_link *k);

static void put(struct queue *q, struct message *m)
{
    m->next = NULL;
    *q->last = m;
    q->last = &m->next;
    q->count++;
}

static struct message *pop(struct queue *q)
{
    struct message *m = q->first;
    if (!m)
        return NULL;
    q->first = m->next;
    if (!q->first)
        q->last = &q->first;
    q->count--;
    return m;
}

/* One message as a line of hexadecimal digits, for a file; twice as long and good for tests, demos
 * and a shared folder. */
static size_t to_line(struct span value, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < value.len; i++) {
        out[2 * i] = digits[(unsigned char)value.at[i] >> 4];
        out[2 * i + 1] = digits[value.at[i] & 15];
    }
    out[2 * value.len] = '\n';
    return 2 * value.len + 1;
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place; 0: no such line. */
static size_t from_line(char *at, size_t len)
{
    while (len && (at[len - 1] == '\n' || at[len - 1] == '\r'))
        len--;
    for (size_t i = 0; i < len / 2; i++) {
        int high = digit(at[2 * i]), low = digit(at[2 * i + 1]);
        if (high < 0 || low < 0)
            return 0;
        at[i] = (char)(high << 4 | low);
    }
    return len / 2;
}

static struct message *copy_of(struct span key, struct span value)
{
    struct message *m = malloc(sizeof *m + key.len + value.len);
    if (!m)
        return NULL;
    m->key_len = key.len;
    m->value_len = value.len;
    if (key.len)
        memcpy(m->bytes, key.at, key.len);
    memcpy(m->bytes + key.len, value.at, value.len);
    return m;
}

/* Appends; the oldest one goes when there are too many.  Under the lock. */
static void put_bounded(struct fleet_link *k, struct queue *q, struct message *m)
{
    if (!m || q->count >= FLEET_QUEUE_MAX)
        k->state.dropped++;
    if (!m)
        return;
    if (q->count >= FLEET_QUEUE_MAX)
        free(pop(q));
    put(q, m);
}

enum fb_code fleet_link_open(struct fleet_link **link, const struct fleet_link_setup *setup,
                             struct fb_err *err)
{
    const struct connector_type *type = NULL;
    const struct conf_connector_row *row = conf_connector_row(setup->connector->type);
    enum fb_code code = connector_load(setup->connector->type, row ? row->package : "", &type, err);
    if (code != FB_OK)
        return code;
    struct fleet_link *k = calloc(1, sizeof *k);
    if (!k)
        return fb_fail(err, FB_E_NOMEM, "fleet: no memory");
    k->type = type;
    k->conf = conf_ref(setup->conf);
    k->c = setup->connector;
    k->out.last = &k->out.first;
    k->in.last = &k->in.first;
    snprintf(k->node, sizeof k->node, "%.63s", setup->node);
    snprintf(k->state_dir, sizeof k->state_dir, "%s", setup->state_dir);
    snprintf(k->group, sizeof k->group, "foldback-fleet-%016llx",
             (unsigned long long)setup->node_id);
    pthread_mutex_init(&k->lock, NULL);
    pthread_condattr_t mono;
    pthread_condattr_init(&mono);
    pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
    pthread_cond_init(&k->is_waiting, &mono);
    pthread_condattr_destroy(&mono);
    k->threads = 1;
    if (thread_start(&k->sender, "fb-fleet-out", send_all, k) != FB_OK) {
        free_link(k);
        return fb_fail(err, FB_E_NOMEM, "fleet: no thread");
    }
    pthread_detach(k->sender);
    pthread_mutex_lock(&k->lock);
    k->threads = 2;
    pthread_mutex_unlock(&k->lock);
    if (thread_start(&k->receiver, "fb-fleet-in", receive_all, k) != FB_OK) {
        fleet_link_leave(k);
        thread_ends(k);
        return fb_fail(err, FB_E_NOMEM, "fleet: no thread");
    }
    pthread_detach(k->receiver);
    *link = k;
    return FB_OK;
}

static void free_link(struct fleet_link *k)
{
    struct message *m;
    while ((m = pop(&k->out)) || (m = pop(&k->in)))
        free(m);
    pthread_cond_destroy(&k->is_waiting);
    pthread_mutex_destroy(&k->lock);
    conf_unref(k->conf);
    free(k);
}

/* Of either thread, as its last act: it has left the broker's library. */
static void thread_ends(struct fleet_link *k)
{
    pthread_mutex_lock(&k->lock);
    bool is_last = --k->threads == 0;
    pthread_mutex_unlock(&k->lock);
    if (!is_last)
        return;
    free_link(k);
    atomic_fetch_sub(&leaving, 1);
}

void fleet_link_leave(struct fleet_link *k)
{
    if (!k)
        return;
    atomic_fetch_add(&leaving, 1);
    atomic_store(&k->left_us, fb_mono_us());
    pthread_mutex_lock(&k->lock);
    atomic_store(&k->is_stopping, true);
    pthread_cond_broadcast(&k->is_waiting);
    pthread_mutex_unlock(&k->lock);
}

bool fleet_link_wait(uint32_t wait_ms)
{
    for (uint32_t i = 0; i < wait_ms / 10 && atomic_load(&leaving) > 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
    return atomic_load(&leaving) == 0;
}

void fleet_link_send(struct fleet_link *k, struct span key, struct span value)
{
    struct message *m = NULL;
    if (k->type->can & CONNECTOR_LINES) {
        m = malloc(sizeof *m + 2 * value.len + 1);
        if (m) {
            m->key_len = 0;
            m->value_len = to_line(value, m->bytes);
        }
    } else {
        m = copy_of(key, value);
    }
    pthread_mutex_lock(&k->lock);
    put_bounded(k, &k->out, m);
    pthread_cond_signal(&k->is_waiting);
    pthread_mutex_unlock(&k->lock);
}

void fleet_link_take(struct fleet_link *k, fleet_link_each *each, void *arg)
{
    pthread_mutex_lock(&k->lock);
    struct message *m = k->in.first;
    k->in = (struct queue){.first = NULL, .last = &k->in.first};
    pthread_mutex_unlock(&k->lock);
    while (m) {
        struct message *next = m->next;
        each(arg, (struct span){m->bytes + m->key_len, m->value_len});
        free(m);
        m = next;
    }
}

void fleet_link_state_read(struct fleet_link *k, struct fleet_link_state *state)
{
    pthread_mutex_lock(&k->lock);
    *state = k->state;
    pthread_mutex_unlock(&k->lock);
}

/* ---- what the connector is lent ---- */

/* Every node hears everything: a consumer group of its own, from the newest message on. */
static const char *value_of(const void *ctx, const char *key)
{
    const struct fleet_link *k = ctx;
    if (strcmp(key, "group") == 0)
        return k->group;
    if (strcmp(key, "start") == 0)
        return "latest";
    const char *value = conf_connector_value(k->c, key);
    return value ? value : "";
}

static bool no_position(void *ctx, const char *topic, uint32_t partition,
                        char out[CONNECTOR_POSITION_BYTES])
{
    (void)ctx;
    (void)topic;
    (void)partition;
    out[0] = '\0';
    return false;
}

static bool is_stopping(void *ctx)
{
    return atomic_load_explicit(&((struct fleet_link *)ctx)->is_stopping, memory_order_relaxed);
}

/* Of the sender: what it has at hand it may send. */
static bool is_over(void *ctx)
{
    const struct fleet_link *k = ctx;
    return is_stopping(ctx) && fb_mono_us() >= atomic_load(&k->left_us) + LAST_US;
}

static void say(void *ctx, enum fb_log_level level, const char *text)
{
    const struct fleet_link *k = ctx;
    fb_log(level, "fleet, connector %s: %s", k->c->name, text);
}

static struct connector_setup setup_of(struct fleet_link *k, bool is_source)
{
    return (struct connector_setup){.name = k->c->name,
                                    .node = k->node,
                                    .state_dir = k->state_dir,
                                    .is_source = is_source,
                                    .value = value_of,
                                    .conf = k,
                                    .position = no_position,
                                    .is_stopping = is_source ? is_stopping : is_over,
                                    .say = say,
                                    .ctx = k};
}

static void rest(struct fleet_link *k)
{
    for (int i = 0; i < REST_MS / 50 && !is_stopping(k); i++)
        nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
}

static void note_error(struct fleet_link *k, const struct fb_err *err)
{
    pthread_mutex_lock(&k->lock);
    bool is_new = strncmp(k->state.last_error, err->text, sizeof k->state.last_error - 1) != 0;
    k->state.errors++;
    snprintf(k->state.last_error, sizeof k->state.last_error, "%.*s",
             (int)sizeof k->state.last_error - 1, err->text);
    pthread_mutex_unlock(&k->lock);
    if (is_new)
        fb_log(FB_LOG_WARN, "fleet: %s", err->text);
}

/* The sender tries once even when the link was left before it came to run: for its last words. */
static struct connector *open_again(struct fleet_link *k, bool is_source)
{
    struct connector *c = NULL;
    struct fb_err err = {0};
    struct connector_setup setup = setup_of(k, is_source);
    for (bool is_due = !is_source; is_due || !is_stopping(k); is_due = false) {
        if (k->type->open(&c, &setup, &err) == FB_OK)
            return c;
        note_error(k, &err);
        rest(k);
    }
    return NULL;
}

/* ---- threads ---- */

static uint32_t wait_for_some(struct fleet_link *k, struct message **batch)
{
    uint32_t n = 0;
    pthread_mutex_lock(&k->lock);
    while (!k->out.first && !is_stopping(k))
        pthread_cond_wait(&k->is_waiting, &k->lock);
    uint32_t most = fb_min_u32(BATCH_MAX, k->type->send_max ? k->type->send_max : 1);
    while (n < most && (batch[n] = pop(&k->out)))
        n++;
    pthread_mutex_unlock(&k->lock);
    return n;
}

static void send_batch(struct fleet_link *k, struct connector *c, struct message **batch,
                       uint32_t n)
{
    struct connector_record records[BATCH_MAX];
    struct fb_err err = {0};
    uint64_t wall_ms = fb_wall_us() / 1000;
    for (uint32_t i = 0; i < n; i++)
        records[i] = (struct connector_record){
            .key = {batch[i]->bytes, batch[i]->key_len},
            .value = {batch[i]->bytes + batch[i]->key_len, batch[i]->value_len},
            .wall_ms = wall_ms};
    struct connector_batch b = {.at = records, .count = n, .timeout_ms = SEND_TIMEOUT_MS};
    enum fb_code code = k->type->send(c, &b, &err);
    if (code != FB_OK)
        note_error(k, &err);
    pthread_mutex_lock(&k->lock);
    for (uint32_t i = 0; i < n; i++) {
        bool is_sent = records[i].result == CONNECTOR_DELIVERED;
        k->state.sent += is_sent;
        k->state.sent_bytes += is_sent ? batch[i]->value_len : 0;
        k->state.dropped += !is_sent; /* the next tick says it better */
    }
    pthread_mutex_unlock(&k->lock);
    if (code != FB_OK)
        rest(k);
}

static void *send_all(void *arg)
{
    struct fleet_link *k = arg;
    struct message *batch[BATCH_MAX];
    struct connector *c = open_again(k, false);
    uint32_t n;
    bool is_last = false;
    while (c && !is_last && (n = wait_for_some(k, batch)) > 0) {
        is_last = is_over(k); /* until then all last words may go */
        send_batch(k, c, batch, n);
        for (uint32_t i = 0; i < n; i++)
            free(batch[i]);
    }
    if (c)
        k->type->close(c);
    thread_ends(k);
    return NULL;
}

#define DONE_MAX 64
struct hearing {
    struct fleet_link *link;
    struct connector_done done[DONE_MAX];
    char topics[DONE_MAX][128];
    uint32_t count;
};

static bool hear(void *arg, const struct connector_message *message)
{
    struct hearing *h = arg;
    struct fleet_link *k = h->link;
    if (h->count == DONE_MAX)
        return false;
    bool is_ours = message->value.len <= 2 * FLEET_MESSAGE_BYTES_MAX + 2;
    struct message *m =
        copy_of((struct span){NULL, 0}, is_ours ? message->value : (struct span){NULL, 0});
    if (m && (k->type->can & CONNECTOR_LINES))
        m->value_len = from_line(m->bytes + m->key_len, m->value_len);
    pthread_mutex_lock(&k->lock);
    k->state.heard++;
    k->state.heard_bytes += message->value.len;
    put_bounded(k, &k->in, m);
    pthread_mutex_unlock(&k->lock);
    uint32_t at = h->count;
    for (uint32_t i = 0; i < h->count && !(k->type->can & CONNECTOR_UNORDERED); i++)
        if (h->done[i].partition == message->partition && strcmp(h->topics[i], message->topic) == 0)
            at = i; /* only the newest of a partition is acknowledged */
    snprintf(h->topics[at], sizeof h->topics[0], "%s", message->topic);
    h->done[at] = (struct connector_done){
        .topic = h->topics[at], .partition = message->partition, .token = message->token};
    memcpy(h->done[at].position, message->position, sizeof h->done[at].position);
    h->count += at == h->count;
    return true;
}

static void *receive_all(void *arg)
{
    struct fleet_link *k = arg;
    struct hearing h = {.link = k};
    struct fb_err err = {0};
    struct connector *c = open_again(k, true);
    while (c && !is_stopping(k)) {
        h.count = 0;
        enum fb_code code = k->type->receive(c, hear, &h, RECEIVE_TIMEOUT_MS, &err);
        /* so that a broker that keeps a list of what was not acknowledged lets go of it */
        if (h.count && k->type->commit)
            (void)!(k->type->commit(c, h.done, h.count, &err) == FB_OK);
        if (code != FB_OK && code != FB_E_TIMEOUT) {
            note_error(k, &err);
            rest(k);
        }
    }
    if (c)
        k->type->close(c);
    thread_ends(k);
    return NULL;
}
