/* SPDX-License-Identifier: Apache-2.0 */
/* From the shards of a stream to the runner.
 *
 *   ListShards -> which may be read -> GetShardIterator -> GetRecords at most each <poll> per shard
 *
 * A shard begins when its parents are read to their end, so that a key keeps its order through a
 * split or merge.  Its end is an answer without a next iterator.  Positions are sequence numbers;
 * of packed records SEQUENCE-INDEX, and reading goes on at the record itself.  One request is under
 * way at a time; an answer is given out before the next is asked for. */
#include "base/clock.h"
#include "base/json.h"
#include "stream/connectors/kinesis_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SHARDS_MAX 4096
#define LIST_US (60 * US_PER_S)
#define LIST_SOON_US US_PER_S
#define READ_RECORDS_MAX "10000"
#define REFUSED_MAX 8 /* reads in a row that are throttled before it is an error */
#define IDLE_MS 20

enum shard_state { SHARD_WAITS, SHARD_READ, SHARD_OVER };
struct shard {
    char id[132], parent[2][132];
    uint32_t number;
    enum shard_state state;
    bool is_closed, is_listed, is_new, is_behind;
    uint64_t behind_us; /* by the last answer */
    bool is_from_newest;
    char at[CONNECTOR_POSITION_BYTES]; /* given last; "" none */
    char iterator[1024];
    uint64_t due_us;
    uint32_t refused; /* in a row */
};

enum asked { ASKED_NOTHING, ASKED_LIST, ASKED_ITERATOR, ASKED_RECORDS };
struct shards {
    struct shard *shard;
    uint32_t count, cap;
    bool was_listed; /* once, whole */
    uint64_t list_us;
    char list_token[2048]; /* of the next page; "" none */
    enum asked asked;
    uint32_t of; /* which shard */
    /* answer that is being given out */
    json_t *answer, *records;
    size_t record, sub;
    struct buf data;
    bool is_decoded;
};

static struct shards *want(struct connector *c)
{
    if (!c->shards && (c->shards = calloc(1, sizeof *c->shards)))
        buf_init(&c->shards->data, 16 * MIB);
    return c->shards;
}

static void drop_answer(struct shards *s)
{
    json_decref(s->answer);
    s->answer = s->records = NULL;
    s->record = s->sub = 0;
    s->is_decoded = false;
}

void kinesis_shards_free(struct connector *c)
{
    if (!c->shards)
        return;
    drop_answer(c->shards);
    buf_fini(&c->shards->data);
    free(c->shards->shard);
    free(c->shards);
    c->shards = NULL;
}

static struct shard *by_id(struct shards *s, const char *id)
{
    for (uint32_t i = 0; id[0] && i < s->count; i++)
        if (strcmp(s->shard[i].id, id) == 0)
            return &s->shard[i];
    return NULL;
}

/* ---- shards ---- */
static bool keep(char *out, size_t size, const char *text)
{
    size_t len = text ? strlen(text) : 0;
    if (len >= size)
        return false;
    memcpy(out, text ? text : "", len + 1);
    return true;
}

static bool add_shard(struct connector *c, json_t *j)
{
    struct shards *s = c->shards;
    struct shard fresh = {.is_new = true};
    json_t *range = json_object_get(j, "SequenceNumberRange");
    const char *id = json_string_value(json_object_get(j, "ShardId"));
    if (!id || !keep(fresh.id, sizeof fresh.id, id) || !kinesis_shard_number(id, &fresh.number) ||
        !keep(fresh.parent[0], sizeof fresh.parent[0],
              json_string_value(json_object_get(j, "ParentShardId"))) ||
        !keep(fresh.parent[1], sizeof fresh.parent[1],
              json_string_value(json_object_get(j, "AdjacentParentShardId"))))
        return false;
    struct shard *known = by_id(s, id);
    if (!known) {
        if (s->count == SHARDS_MAX)
            return false;
        if (s->count == s->cap) {
            uint32_t cap = s->cap ? 2 * s->cap : 16;
            struct shard *more = realloc(s->shard, cap * sizeof *more);
            if (!more)
                return false;
            s->shard = more;
            s->cap = cap;
        }
        known = &s->shard[s->count++];
        *known = fresh;
        if (!c->setup.position(c->setup.ctx, c->stream, known->number, known->at))
            known->at[0] = '\0';
    }
    known->is_listed = true;
    known->is_closed = json_string_value(json_object_get(range, "EndingSequenceNumber")) != NULL;
    return true;
}

/* A child that was read says that its parents were read to the end. */
static void end_parents(struct shards *s, const struct shard *child, uint32_t depth)
{
    for (uint32_t k = 0; k < 2 && depth < 64; k++) {
        struct shard *parent = by_id(s, child->parent[k]);
        if (parent && parent->state != SHARD_OVER) {
            parent->state = SHARD_OVER;
            end_parents(s, parent, depth + 1);
        }
    }
}

static bool has_waiting_parent(struct shards *s, const struct shard *shard)
{
    for (uint32_t k = 0; k < 2; k++) {
        const struct shard *parent = by_id(s, shard->parent[k]);
        if (parent && parent != shard && parent->state != SHARD_OVER)
            return true;
    }
    return false;
}

/* After a whole list: what is gone, what is new, what may begin. */
static void look_over(struct connector *c)
{
    struct shards *s = c->shards;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->count; i++)
        if (s->shard[i].is_listed)
            s->shard[kept++] = s->shard[i];
    s->count = kept;
    for (uint32_t i = 0; i < s->count; i++)
        if (s->shard[i].is_new && s->shard[i].at[0])
            end_parents(s, &s->shard[i], 0);
    /* `from: end`: what was before foldback is left out, never what came while it was away. */
    bool is_first = !s->was_listed && c->is_from_newest;
    for (uint32_t i = 0; i < s->count && is_first; i++)
        if (s->shard[i].at[0])
            is_first = false;
    for (uint32_t i = 0; i < s->count; i++) {
        struct shard *shard = &s->shard[i];
        if (shard->is_new && is_first && shard->is_closed)
            shard->state = SHARD_OVER;
        shard->is_from_newest |= shard->is_new && is_first && !shard->is_closed;
        shard->is_new = false;
    }
    for (uint32_t i = 0; i < s->count; i++)
        if (s->shard[i].state == SHARD_WAITS && !has_waiting_parent(s, &s->shard[i]))
            s->shard[i].state = SHARD_READ;
    s->was_listed = true;
}

static void list_soon(struct shards *s)
{
    s->list_us = fb_min_u64(s->list_us, fb_mono_us() + LIST_SOON_US);
}

/* ---- asking ---- */
static void begin_body(struct connector *c, struct json *j)
{
    buf_clear(&c->body);
    json_init(j, &c->body);
    json_object_begin(j);
}

static enum fb_code ask_list(struct connector *c, struct fb_err *err)
{
    struct json j;
    struct shards *s = c->shards;
    begin_body(c, &j);
    if (s->list_token[0])
        json_key_str(&j, "NextToken", s->list_token);
    else
        json_key_str(&j, c->stream_key, c->stream);
    json_object_end(&j);
    if (!s->list_token[0])
        for (uint32_t i = 0; i < s->count; i++)
            s->shard[i].is_listed = false;
    s->asked = ASKED_LIST;
    return kinesis_begin(c, "ListShards", fb_mono_us() + c->timeout_us, err);
}

static enum fb_code ask_iterator(struct connector *c, struct shard *shard, struct fb_err *err)
{
    struct json j;
    char sequence[CONNECTOR_POSITION_BYTES];
    snprintf(sequence, sizeof sequence, "%s", shard->at);
    char *sub = strchr(sequence, '-');
    if (sub)
        *sub = '\0';
    begin_body(c, &j);
    json_key_str(&j, c->stream_key, c->stream);
    json_key_str(&j, "ShardId", shard->id);
    json_key_str(&j, "ShardIteratorType",
                 shard->at[0]            ? (sub ? "AT_SEQUENCE_NUMBER" : "AFTER_SEQUENCE_NUMBER")
                 : shard->is_from_newest ? "LATEST"
                                         : "TRIM_HORIZON");
    if (shard->at[0])
        json_key_str(&j, "StartingSequenceNumber", sequence);
    json_object_end(&j);
    c->shards->asked = ASKED_ITERATOR;
    return kinesis_begin(c, "GetShardIterator", fb_mono_us() + c->timeout_us, err);
}

static enum fb_code ask_records(struct connector *c, struct shard *shard, struct fb_err *err)
{
    struct json j;
    begin_body(c, &j);
    json_key_str(&j, "ShardIterator", shard->iterator);
    json_key(&j, "Limit");
    json_raw(&j, SPAN(READ_RECORDS_MAX));
    if (strcmp(c->stream_key, "StreamARN") == 0)
        json_key_str(&j, "StreamARN", c->stream);
    json_object_end(&j);
    c->shards->asked = ASKED_RECORDS;
    return kinesis_begin(c, "GetRecords", fb_mono_us() + c->timeout_us, err);
}

/* What is due next; ASKED_NOTHING: nothing is. */
static enum fb_code ask_next(struct connector *c, struct fb_err *err)
{
    struct shards *s = c->shards;
    uint64_t now_us = fb_mono_us();
    if (now_us >= s->list_us || s->list_token[0])
        return ask_list(c, err);
    for (uint32_t n = 0; n < s->count; n++) {
        s->of = (s->of + 1) % s->count;
        struct shard *shard = &s->shard[s->of];
        if (shard->state != SHARD_READ || now_us < shard->due_us)
            continue;
        return shard->iterator[0] ? ask_records(c, shard, err) : ask_iterator(c, shard, err);
    }
    return FB_OK;
}

/* ---- answers ---- */
static enum fb_code strange(struct connector *c, const char *action, struct fb_err *err)
{
    return fb_fail(err, FB_E_AGAIN,
                   "Kinesis at %.160s answered %s with something else; see "
                   "`endpoint`",
                   c->endpoint, action);
}

static enum fb_code on_list(struct connector *c, json_t *root, struct fb_err *err)
{
    struct shards *s = c->shards;
    json_t *list = json_object_get(root, "Shards");
    const char *token = json_string_value(json_object_get(root, "NextToken"));
    s->list_token[0] = '\0';
    s->list_us = fb_mono_us() + LIST_SOON_US;
    if (!json_is_array(list))
        return strange(c, "ListShards", err);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!add_shard(c, json_array_get(list, i)))
            return fb_fail(err, FB_E_AGAIN,
                           "stream %.160s has more than %d shards, or one with a "
                           "name that is not like shardId-000000000012",
                           c->stream, SHARDS_MAX);
    if (token && *token) {
        if (!keep(s->list_token, sizeof s->list_token, token))
            return strange(c, "ListShards", err);
        return FB_OK;
    }
    s->list_us = fb_mono_us() + LIST_US;
    look_over(c);
    return FB_OK;
}

static enum fb_code on_iterator(struct connector *c, struct shard *shard, json_t *root,
                                struct fb_err *err)
{
    const char *iterator = json_string_value(json_object_get(root, "ShardIterator"));
    if (!iterator || !*iterator || !keep(shard->iterator, sizeof shard->iterator, iterator))
        return strange(c, "GetShardIterator", err);
    return FB_OK;
}

static enum fb_code on_records(struct connector *c, struct shard *shard, json_t *root,
                               struct fb_err *err)
{
    struct shards *s = c->shards;
    const char *next = json_string_value(json_object_get(root, "NextShardIterator"));
    json_t *records = json_object_get(root, "Records");
    shard->due_us = fb_mono_us() + c->poll_us;
    if (!json_is_array(records) || !keep(shard->iterator, sizeof shard->iterator, next)) {
        shard->iterator[0] = '\0';
        return strange(c, "GetRecords", err);
    }
    shard->refused = 0;
    double behind_ms = json_number_value(json_object_get(root, "MillisBehindLatest"));
    shard->behind_us = behind_ms > 0 ? (uint64_t)(behind_ms < 1e12 ? behind_ms * 1e3 : 1e15) : 0;
    shard->is_behind = behind_ms > 0 || json_array_size(records);
    if (!shard->iterator[0]) { /* its children may begin when this answer was given out */
        shard->state = SHARD_OVER;
        s->list_us = 0;
    }
    drop_answer(s);
    s->answer = json_incref(root);
    s->records = records;
    return FB_OK;
}

/* Refusals that belong to the life of a shard are no errors. */
static enum fb_code on_refusal(struct connector *c, struct shard *shard,
                               const struct kinesis_refusal *refusal, enum fb_code code,
                               struct fb_err *err)
{
    uint64_t now_us = fb_mono_us();
    if (strncmp(refusal->type, "ExpiredIterator", 15) == 0) {
        shard->iterator[0] = '\0';
        shard->due_us = now_us + c->poll_us;
        return FB_OK;
    }
    if (strncmp(refusal->type, "ResourceNotFound", 16) == 0) { /* the list says what is left */
        shard->iterator[0] = '\0';
        shard->due_us = now_us + LIST_SOON_US;
        list_soon(c->shards);
        return FB_OK;
    }
    if (code == FB_E_RANGE) {
        shard->iterator[0] = '\0';
        shard->due_us = now_us + LIST_SOON_US;
        struct fb_err why = *err;
        return fb_fail(err, FB_E_CONFIG,
                       "%.330s; is it another stream of this name? `foldback connector reset %s` "
                       "begins anew",
                       why.text, c->setup.name);
    }
    /* Others read this shard, too: slower, up to 16 times. */
    shard->due_us = now_us + (c->poll_us << (shard->refused < 4 ? shard->refused : 4));
    if (strncmp(refusal->type, "ProvisionedThroughput", 21) == 0 && ++shard->refused < REFUSED_MAX)
        return FB_OK;
    return code;
}

static enum fb_code on_answer(struct connector *c, struct fb_err *err)
{
    static const char *const actions[] = {"", "ListShards", "GetShardIterator", "GetRecords"};
    struct shards *s = c->shards;
    enum asked asked = s->asked;
    struct kinesis_refusal refusal;
    s->asked = ASKED_NOTHING;
    enum fb_code code = kinesis_over(c, actions[asked], &refusal, err);
    if (code != FB_OK && asked == ASKED_LIST) {
        s->list_token[0] = '\0';
        return code;
    }
    if (code != FB_OK)
        return on_refusal(c, &s->shard[s->of], &refusal, code, err);
    json_t *root =
        json_loadb(c->http.answer.at ? c->http.answer.at : "", c->http.answer.len, 0, NULL);
    if (asked == ASKED_LIST)
        code = on_list(c, root, err);
    else if (asked == ASKED_ITERATOR)
        code = on_iterator(c, &s->shard[s->of], root, err);
    else
        code = on_records(c, &s->shard[s->of], root, err);
    json_decref(root);
    return code;
}

/* ---- giving out ---- */
struct giving {
    connector_each *each;
    void *arg;
    bool gave;
};

static bool give_one(struct connector *c, struct giving *g, struct connector_message *m)
{
    struct shard *shard = &c->shards->shard[c->shards->of];
    if (!g->each(g->arg, m))
        return false;
    g->gave = true;
    memcpy(shard->at, m->position, sizeof shard->at);
    return true;
}

static bool give_packed(struct connector *c, struct giving *g, struct kinesis_unpack *u,
                        struct connector_message *m)
{
    struct shards *s = c->shards;
    char sequence[CONNECTOR_POSITION_BYTES];
    memcpy(sequence, m->position, sizeof sequence);
    for (size_t k = 0; kinesis_unpack_next(u, &m->key, &m->value); k++) {
        if (k < s->sub)
            continue;
        snprintf(m->position, sizeof m->position, "%.56s-%zu", sequence, k);
        if (!give_one(c, g, m))
            return false;
        s->sub = k + 1;
    }
    return true;
}

/* One record; false: no room.  A record that cannot be read is given as it came. */
static bool give_record(struct connector *c, struct giving *g, json_t *record)
{
    struct shards *s = c->shards;
    struct kinesis_unpack u;
    const char *sequence = json_string_value(json_object_get(record, "SequenceNumber"));
    const char *data = json_string_value(json_object_get(record, "Data"));
    const char *key = json_string_value(json_object_get(record, "PartitionKey"));
    double wall_s = json_number_value(json_object_get(record, "ApproximateArrivalTimestamp"));
    struct connector_message m = {.topic = c->stream,
                                  .partition = s->shard[s->of].number,
                                  .key = span_of(key ? key : ""),
                                  .wall_ms =
                                      wall_s > 0 && wall_s < 1e11 ? (uint64_t)(wall_s * 1000) : 0};
    if (!sequence || !*sequence || strlen(sequence) > 56 ||
        strspn(sequence, "0123456789") != strlen(sequence)) {
        c->setup.say(c->setup.ctx, FB_LOG_WARN, "a record without a sequence number is left out");
        return true;
    }
    snprintf(m.position, sizeof m.position, "%s", sequence);
    if (!s->is_decoded) {
        buf_clear(&s->data);
        if (!data || !kinesis_unbase64(&s->data, span_of(data)))
            buf_puts(&s->data, data ? data : "");
        s->is_decoded = true;
    }
    m.value = buf_span(&s->data);
    return kinesis_unpack_begin(&u, m.value) ? give_packed(c, g, &u, &m) : give_one(c, g, &m);
}

/* False: no room; the rest is given in a later call. */
static bool give(struct connector *c, struct giving *g)
{
    struct shards *s = c->shards;
    for (; s->answer && s->record < json_array_size(s->records); s->record++) {
        if (!give_record(c, g, json_array_get(s->records, s->record)))
            return false;
        s->sub = 0;
        s->is_decoded = false;
    }
    drop_answer(s);
    return true;
}

static void idle(void)
{
    struct timespec t = {.tv_nsec = IDLE_MS * 1000000L};
    nanosleep(&t, NULL);
}

enum fb_code kinesis_receive(struct connector *c, connector_each *each, void *arg,
                             uint32_t timeout_ms, struct fb_err *err)
{
    struct giving g = {.each = each, .arg = arg};
    uint64_t until_us = fb_mono_us() + timeout_ms * US_PER_MS;
    struct shards *s = want(c);
    if (!s)
        return fb_fail(err, FB_E_NOMEM, "no memory for the connector %s", c->setup.name);
    while (give(c, &g) && !g.gave) {
        enum fb_code code = FB_OK;
        if (c->setup.is_stopping(c->setup.ctx))
            return FB_OK;
        if (!c->http.is_busy) {
            s->asked = ASKED_NOTHING;
            code = ask_next(c, err);
        }
        if (code == FB_OK && s->asked != ASKED_NOTHING) {
            code = http_wait(c, until_us, err);
            if (code == FB_E_AGAIN && !err->text[0])
                return FB_OK; /* goes on in the next call */
            code = code == FB_OK ? on_answer(c, err) : code;
        } else if (code == FB_OK) {
            if (fb_mono_us() >= until_us)
                return FB_OK;
            idle();
        }
        if (code != FB_OK) /* what a stop cuts off is asked again */
            return c->setup.is_stopping(c->setup.ctx) ? FB_OK : code;
    }
    return FB_OK;
}

uint64_t kinesis_behind(struct connector *c)
{
    const struct shards *s = c->shards;
    if (!s || !s->was_listed || s->answer)
        return UINT64_MAX;
    for (uint32_t i = 0; i < s->count; i++)
        if (s->shard[i].state == SHARD_WAITS ||
            (s->shard[i].state == SHARD_READ &&
             (!s->shard[i].iterator[0] || s->shard[i].is_behind)))
            return UINT64_MAX;
    return 0;
}

uint64_t kinesis_waits_us(struct connector *c)
{
    const struct shards *s = c->shards;
    uint64_t us = 0;
    if (!s || !s->was_listed)
        return UINT64_MAX;
    for (uint32_t i = 0; i < s->count; i++)
        if (s->shard[i].state == SHARD_READ && s->shard[i].behind_us > us)
            us = s->shard[i].behind_us;
    return us;
}
