/* SPDX-License-Identifier: Apache-2.0 */
/* From a stream of Redis, as one consumer of a group.
 *
 *   drain: what this consumer was given and never acknowledged (a crash, no room)   XREADGROUP id
 *   claim: what a consumer that is gone holds, each quarter of claim_after          XAUTOCLAIM
 *   read:  new entries, waiting for the first                                       XREADGROUP >
 *   commit: what is in foldback's log                                               XACK
 *
 * A group whose entries are trimmed before it read them has a gap: entries-added, entries-read and
 * length of Redis 7 tell its size.  It is said in the log and comes in as an event of its own,
 * {"name": "foldback.connector.gap", "value": <entries>}, so that it is counted where the events
 * are.
 *
 * Value of a message: the field `data`, or else all fields as one JSON object. */
#include "stream/connectors/redis_int.h"

#include "base/clock.h"
#include "base/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CALL_MS 10000          /* of a question that does not wait for entries */
#define LOOK_US (1 * US_PER_S) /* between two looks at the group */
#define CLAIM_MS_MAX 15000
#define ENTRY_BYTES_MAX (8 * MIB)
#define GAP_POSITION "gap-"

#define COMMIT_IDS 512

struct taking {
    struct connector *c;
    connector_each *each;
    void *arg;
    bool has_room;
    uint32_t given;
    char gone[REDIS_COUNT_MAX][REDIS_ID_BYTES]; /* trimmed while they were ours */
    uint32_t gone_count;
};

static const struct redis_answer *ask(struct connector *c, const char *const *command,
                                      uint32_t wait_ms, struct fb_err *err);

/* ---- ids ---- */
struct id {
    uint64_t ms, seq;
};

static struct id id_of(const char *text)
{
    char *end;
    struct id id = {.ms = strtoull(text, &end, 10)};
    if (*end == '-')
        id.seq = strtoull(end + 1, NULL, 10);
    return id;
}

static bool is_before(struct id a, struct id b)
{
    return a.ms != b.ms ? a.ms < b.ms : a.seq < b.seq;
}

static bool is_id(const struct redis_answer *a)
{
    if (!redis_is_text(a) || a->text.len == 0 || a->text.len >= REDIS_ID_BYTES)
        return false;
    return strspn(a->text.at, "0123456789-") == a->text.len;
}

static void copy_id(char out[REDIS_ID_BYTES], const struct redis_answer *a)
{
    if (is_id(a))
        snprintf(out, REDIS_ID_BYTES, "%s", a->text.at);
}

/* ---- one entry ---- */
static bool is_number(struct span s)
{
    char *end, text[64];
    if (s.len == 0 || s.len >= sizeof text || !strchr("-0123456789", s.at[0]))
        return false;
    memcpy(text, s.at, s.len);
    text[s.len] = '\0';
    (void)strtod(text, &end);
    /* strtod knows more than JSON does: 0x1, 01 and inf are texts. */
    return *end == '\0' && strspn(text, "-0123456789.eE+") == s.len &&
           !(text[0] == '0' && s.len > 1 && text[1] != '.') && text[s.len - 1] != '.';
}

static void fields_as_json(const struct redis_answer *fields, struct buf *out)
{
    struct json j;
    json_init(&j, out);
    json_object_begin(&j);
    for (uint32_t i = 0; i + 1 < fields->count; i += 2) {
        const struct redis_answer *name = &fields->at[i], *value = &fields->at[i + 1];
        if (!redis_is_text(name) || !redis_is_text(value))
            continue;
        json_key(&j, name->text.at);
        if (span_eq(name->text, SPAN("value")) && is_number(value->text))
            json_raw(&j, value->text);
        else
            json_span(&j, value->text);
    }
    json_object_end(&j);
}

static bool give_message(struct taking *t, const char *id, const struct redis_answer *fields)
{
    const struct redis_answer *data = redis_member(fields, "data"),
                              *key = redis_member(fields, "key");
    struct connector_message m = {.topic = t->c->stream, .wall_ms = id_of(id).ms};
    struct buf json;
    snprintf(m.position, sizeof m.position, "%s", id);
    if (redis_is_text(key))
        m.key = key->text;
    buf_init(&json, ENTRY_BYTES_MAX);
    if (redis_is_text(data)) {
        m.value = data->text;
    } else {
        fields_as_json(fields, &json);
        m.value = buf_span(&json);
    }
    t->has_room = t->each(t->arg, &m);
    buf_fini(&json);
    return t->has_room;
}

static void note_lost(struct connector *c, uint64_t count, const char *id)
{
    c->lost += count;
    snprintf(c->lost_id, sizeof c->lost_id, "%.*s", REDIS_ID_BYTES - 1, id);
}

/* [[id, [name, value, ...]], ...]; a nil in the place of the fields is an entry that was trimmed
 * while a consumer held it. */
static void give_entries(struct taking *t, const struct redis_answer *entries)
{
    struct connector *c = t->c;
    for (uint32_t i = 0; entries && entries->kind == REDIS_LIST && i < entries->count; i++) {
        const struct redis_answer *e = &entries->at[i];
        if (e->kind != REDIS_LIST || e->count < 2 || !is_id(&e->at[0]))
            continue;
        const char *id = e->at[0].text.at;
        if (e->at[1].kind != REDIS_LIST) {
            note_lost(c, 1, id);
            if (t->gone_count < REDIS_COUNT_MAX)
                copy_id(t->gone[t->gone_count++], &e->at[0]);
        } else if (!give_message(t, id, &e->at[1])) {
            c->is_draining = true; /* this one and those behind it are ours already */
            return;
        } else {
            t->given++;
        }
        snprintf(c->drain_from, sizeof c->drain_from, "%s", id);
    }
}

/* ---- the group ---- */
static enum fb_code make_group(struct connector *c, struct fb_err *err)
{
    const char *from = c->setup.value(c->setup.conf, "from");
    const char *create[] = {
        "XGROUP",   "CREATE", c->stream, c->group, strcmp(from, "start") == 0 ? "0" : "$",
        "MKSTREAM", NULL};
    const struct redis_answer *answer;
    uint64_t until_us = fb_mono_us() + CALL_MS * US_PER_MS;
    enum fb_code code = redis_link_ask_one(&c->link, create, until_us, &answer, err);
    if (code != FB_OK)
        return code;
    if (answer->kind == REDIS_ERROR && !span_starts(answer->text, SPAN("BUSYGROUP")))
        return redis_link_refused(&c->link, answer->text, err);
    c->has_group = true;
    c->is_draining = true;
    snprintf(c->drain_from, sizeof c->drain_from, "0");
    snprintf(c->claim_cursor, sizeof c->claim_cursor, "0-0");
    c->claim_at_us = c->look_at_us = 0;
    return FB_OK;
}

static enum fb_code be_ready(struct connector *c, uint32_t timeout_ms, struct fb_err *err)
{
    uint64_t opened = c->link.opened;
    /* A connection may take longer than a call waits for entries. */
    uint64_t until_us = fb_mono_us() + fb_max_u64(timeout_ms, CALL_MS) * US_PER_MS;
    enum fb_code code = redis_link_open(&c->link, until_us, err);
    if (code != FB_OK)
        return code;
    if (opened != c->link.opened)
        c->has_group = false; /* it may be another server, or an empty one */
    return c->has_group ? FB_OK : make_group(c, err);
}

/* NULL after an error; what a NOGROUP says is healed by the next call. */
static const struct redis_answer *ask(struct connector *c, const char *const *command,
                                      uint32_t wait_ms, struct fb_err *err)
{
    const struct redis_answer *answer;
    uint64_t until_us = fb_mono_us() + (CALL_MS + wait_ms) * US_PER_MS;
    if (redis_link_ask_one(&c->link, command, until_us, &answer, err) != FB_OK)
        return NULL;
    if (answer->kind != REDIS_ERROR)
        return answer;
    if (span_starts(answer->text, SPAN("NOGROUP"))) {
        c->has_group = false;
        c->lost_said = 0; /* a new group counts anew */
    }
    redis_link_refused(&c->link, answer->text, err);
    return NULL;
}

/* ---- gaps ---- */
static uint64_t number_of(const struct redis_answer *list, const char *name)
{
    const struct redis_answer *a = redis_member(list, name);
    return a && a->kind == REDIS_NUMBER && a->number >= 0 ? (uint64_t)a->number : UINT64_MAX;
}

static const struct redis_answer *group_of(const struct connector *c,
                                           const struct redis_answer *groups)
{
    for (uint32_t i = 0; groups->kind == REDIS_LIST && i < groups->count; i++) {
        const struct redis_answer *name = redis_member(&groups->at[i], "name");
        if (redis_is_text(name) && span_eq(name->text, span_of(c->group)))
            return &groups->at[i];
    }
    return NULL;
}

struct look {
    bool is_known, is_bad;
    uint64_t added, length, read, lag;
    char last[REDIS_ID_BYTES], newest[REDIS_ID_BYTES], first[REDIS_ID_BYTES];
    struct connector *c;
};

/* Answers of: XINFO GROUPS, XINFO STREAM. */
static void on_look(void *arg, uint32_t at, const struct redis_answer *answer)
{
    struct look *k = arg;
    if (answer->kind != REDIS_LIST) {
        k->is_bad = true;
    } else if (at == 0) {
        const struct redis_answer *group = group_of(k->c, answer);
        k->is_known = group != NULL;
        k->read = number_of(group, "entries-read");
        k->lag = number_of(group, "lag");
        copy_id(k->last, redis_member(group, "last-delivered-id"));
    } else {
        const struct redis_answer *first = redis_member(answer, "first-entry");
        k->added = number_of(answer, "entries-added");
        k->length = number_of(answer, "length");
        copy_id(k->newest, redis_member(answer, "last-generated-id"));
        if (first && first->kind == REDIS_LIST && first->count > 0)
            copy_id(k->first, &first->at[0]);
    }
}

static bool is_before_all(const struct look *k)
{
    return is_before(id_of(k->last), id_of(k->first[0] ? k->first : k->newest));
}

/* How many entries were trimmed unread.  All that is left is unread when the group stands before
 * the first entry: then what was added and is not left was either read or lost. */
static uint64_t lost_of(const struct look *k)
{
    if (!k->is_known || k->added == UINT64_MAX || k->length == UINT64_MAX ||
        k->read == UINT64_MAX || k->added < k->length)
        return 0;
    return is_before_all(k) ? fb_sub_floor_u64(k->added - k->length, k->read) : 0;
}

static bool read_gaps(struct connector *c, struct fb_err *err)
{
    struct look k = {.c = c, .last = "0", .newest = "0", .first = ""};
    const char *groups[] = {"XINFO", "GROUPS", c->stream, NULL};
    const char *stream[] = {"XINFO", "STREAM", c->stream, NULL};
    redis_put_texts(&c->link.out, groups);
    redis_put_texts(&c->link.out, stream);
    struct redis_ask ask = {
        .count = 2, .until_us = fb_mono_us() + CALL_MS * US_PER_MS, .each = on_look, .arg = &k};
    c->look_at_us = fb_mono_us() + LOOK_US;
    if (redis_link_ask(&c->link, &ask, err) != FB_OK)
        return false;
    if (k.is_bad) /* no right to look, or no stream: neither keeps entries away */
        return true;
    bool is_at_end = k.is_known && !is_before(id_of(k.last), id_of(k.newest));
    c->behind = is_at_end ? 0 : is_before_all(&k) ? k.length : k.lag;
    /* entries-read is not moved when the group passes a gap: what was lost once stays in the
     * difference, and is known exactly whenever the group is at the end. */
    if (is_at_end && k.read != UINT64_MAX && k.added != UINT64_MAX)
        c->lost_said = fb_sub_floor_u64(k.added, k.read);
    uint64_t lost = lost_of(&k);
    if (lost > c->lost_said) {
        note_lost(c, lost - c->lost_said, k.first[0] ? k.first : k.newest);
        c->lost_said = lost;
    }
    return true;
}

/* A gap that waits comes in as an event. */
static void tell_gap(struct taking *t)
{
    struct connector *c = t->c;
    char text[400];
    if (!c->lost_id[0])
        return;
    struct connector_message m = {
        .topic = c->stream, .wall_ms = fb_wall_us() / US_PER_MS, .is_own = true};
    snprintf(m.position, sizeof m.position, GAP_POSITION "%.*s", REDIS_ID_BYTES - 1, c->lost_id);
    int len = snprintf(text, sizeof text,
                       "{\"name\":\"foldback.connector.gap\",\"value\":%" PRIu64
                       ",\"text\":\"%s: entries trimmed before %s\"}",
                       c->lost, c->setup.name, c->lost_id);
    m.value = (struct span){text, (size_t)len};
    t->has_room = t->each(t->arg, &m);
    if (!t->has_room)
        return;
    t->given++;
    snprintf(text, sizeof text,
             "redis %s: %" PRIu64 " entries of %.100s were trimmed before they were read (before "
             "%s): raise its max length, or read faster",
             redis_link_address(&c->link), c->lost, c->stream, c->lost_id);
    c->setup.say(c->setup.ctx, FB_LOG_WARN, text);
    c->lost = 0;
    c->lost_id[0] = '\0';
}

/* ---- questions ---- */
/* [[stream, entries]]; nil: nothing came. */
static const struct redis_answer *entries_of(const struct redis_answer *a)
{
    if (a->kind != REDIS_LIST || a->count != 1 || a->at[0].kind != REDIS_LIST ||
        a->at[0].count != 2)
        return NULL;
    return &a->at[0].at[1];
}

/* Nothing is left of them that could be delivered. */
static bool acknowledge_gone(struct taking *t, struct fb_err *err)
{
    const char *ack[3 + REDIS_COUNT_MAX + 1] = {"XACK", t->c->stream, t->c->group};
    for (uint32_t i = 0; i < t->gone_count; i++)
        ack[3 + i] = t->gone[i];
    ack[3 + t->gone_count] = NULL;
    t->gone_count = 0;
    return ask(t->c, ack, 0, err) != NULL;
}

static bool drain(struct taking *t, struct fb_err *err)
{
    struct connector *c = t->c;
    char count[16];
    snprintf(count, sizeof count, "%u", c->count_max);
    const char *read[] = {"XREADGROUP", "GROUP",   c->group,  c->consumer,   "COUNT",
                          count,        "STREAMS", c->stream, c->drain_from, NULL};
    const struct redis_answer *a = ask(c, read, 0, err);
    if (!a)
        return false;
    const struct redis_answer *entries = entries_of(a);
    c->is_draining = entries && entries->kind == REDIS_LIST && entries->count > 0;
    give_entries(t, entries);
    return t->gone_count == 0 || acknowledge_gone(t, err);
}

/* [next cursor, entries, ids that are gone] */
static bool claim(struct taking *t, struct fb_err *err)
{
    struct connector *c = t->c;
    char count[16], idle[24];
    snprintf(count, sizeof count, "%u", c->count_max);
    snprintf(idle, sizeof idle, "%" PRIu64, c->claim_after_ms);
    const char *command[] = {"XAUTOCLAIM",    c->stream, c->group, c->consumer, idle,
                             c->claim_cursor, "COUNT",   count,    NULL};
    uint64_t pause_ms = fb_min_u64(c->claim_after_ms / 4, CLAIM_MS_MAX);
    c->claim_at_us = fb_mono_us() + pause_ms * US_PER_MS;
    const struct redis_answer *a = ask(c, command, 0, err);
    if (!a)
        return false;
    if (a->kind != REDIS_LIST || a->count < 2 || !is_id(&a->at[0]))
        return true;
    copy_id(c->claim_cursor, &a->at[0]);
    if (strcmp(c->claim_cursor, "0-0") != 0)
        c->claim_at_us = 0; /* the round is not over */
    if (a->count > 2 && a->at[2].kind == REDIS_LIST && a->at[2].count > 0 && is_id(&a->at[2].at[0]))
        note_lost(c, a->at[2].count, a->at[2].at[0].text.at);
    /* Should there be no room, all of them are read again as ours. */
    snprintf(c->drain_from, sizeof c->drain_from, "0");
    give_entries(t, a->at[1].kind == REDIS_LIST ? &a->at[1] : NULL);
    return true;
}

static bool read_new(struct taking *t, uint32_t wait_ms, struct fb_err *err)
{
    struct connector *c = t->c;
    char count[16], block[16];
    snprintf(count, sizeof count, "%u", c->count_max);
    snprintf(block, sizeof block, "%u", wait_ms ? wait_ms : 1);
    const char *read[] = {"XREADGROUP", "GROUP", c->group,  c->consumer, "COUNT", count,
                          "BLOCK",      block,   "STREAMS", c->stream,   ">",     NULL};
    const struct redis_answer *a = ask(c, read, wait_ms, err);
    if (!a)
        return false;
    const struct redis_answer *entries = entries_of(a);
    if (entries && c->count_max < REDIS_COUNT_MAX)
        c->count_max *= 2;
    give_entries(t, entries);
    return true;
}

/* The first entry behind drain_from that is ours: alone it is larger than an answer may be.  It
 * comes in as a text that is no event, so that the runner writes it to the dead letters, and is
 * acknowledged; the stream still has it. */
static bool give_giant(struct taking *t, struct fb_err *err)
{
    struct connector *c = t->c;
    char from[REDIS_ID_BYTES + 2];
    snprintf(from, sizeof from, "(%s", c->drain_from);
    const char *pending[] = {"XPENDING", c->stream, c->group, from, "+", "1", c->consumer, NULL};
    const struct redis_answer *a = ask(c, pending, 0, err);
    if (!a)
        return false;
    c->count_max = 2; /* whatever it was: it is passed */
    if (a->kind != REDIS_LIST || a->count == 0 || a->at[0].kind != REDIS_LIST ||
        a->at[0].count == 0 || !is_id(&a->at[0].at[0]))
        return true;
    struct connector_message m = {.topic = c->stream,
                                  .value = SPAN("an entry larger than 32 MiB; see its id")};
    copy_id(m.position, &a->at[0].at[0]);
    t->has_room = t->each(t->arg, &m);
    if (t->has_room) {
        t->given++;
        snprintf(c->drain_from, sizeof c->drain_from, "%.*s", REDIS_ID_BYTES - 1, m.position);
    }
    return true;
}

/* Entries that do not fit into an answer: fewer at once.  They are ours by now and are read again
 * when the connection is made anew. */
static enum fb_code failed(struct connector *c, struct fb_err *err)
{
    if (err->code == FB_E_AGAIN && c->setup.is_stopping(c->setup.ctx))
        return FB_OK; /* waiting for entries was given up; nothing failed */
    if (err->code == FB_E_RANGE) {
        c->is_giant = c->count_max == 1;
        c->count_max = c->count_max > 4 ? c->count_max / 4 : 1;
        err->code = FB_E_AGAIN;
    }
    return err->code;
}

/* One question and what came; *is_done: nothing more is at hand. */
static bool turn(struct taking *t, uint64_t until_us, bool *is_done, struct fb_err *err)
{
    struct connector *c = t->c;
    uint64_t now_us = fb_mono_us();
    if (now_us >= c->look_at_us)
        return read_gaps(c, err);
    if (c->is_giant && c->is_draining) {
        c->is_giant = false;
        return give_giant(t, err);
    }
    if (c->is_draining)
        return drain(t, err);
    if (c->claim_after_ms && now_us >= c->claim_at_us)
        return claim(t, err);
    uint32_t given = t->given;
    uint32_t wait_ms = (uint32_t)(fb_sub_floor_u64(until_us, now_us) / US_PER_MS);
    bool is_good = read_new(t, given ? 1 : wait_ms, err);
    *is_done = t->given == given;
    return is_good;
}

enum fb_code redis_receive(struct connector *c, connector_each *each, void *arg,
                           uint32_t timeout_ms, struct fb_err *err)
{
    struct taking t = {.c = c, .each = each, .arg = arg, .has_room = true};
    uint64_t until_us = fb_mono_us() + (uint64_t)timeout_ms * US_PER_MS;
    enum fb_code code = be_ready(c, timeout_ms, err);
    if (code != FB_OK)
        return code;
    for (bool is_done = false; t.has_room && !is_done;) {
        if (c->lost_id[0])
            tell_gap(&t);
        else if (!turn(&t, until_us, &is_done, err))
            return failed(c, err);
        if (fb_mono_us() >= until_us || c->setup.is_stopping(c->setup.ctx))
            break;
    }
    return FB_OK;
}

enum fb_code redis_commit(struct connector *c, const struct connector_done *done, uint32_t count,
                          struct fb_err *err)
{
    enum fb_code code = be_ready(c, CALL_MS, err);
    for (uint32_t i = 0; i < count && code == FB_OK;) {
        const struct redis_answer *answer;
        const char *ack[3 + COMMIT_IDS + 1] = {"XACK", c->stream, c->group};
        uint32_t n = 3;
        for (; i < count && n < 3 + COMMIT_IDS; i++)
            if (strncmp(done[i].position, GAP_POSITION, strlen(GAP_POSITION)) != 0)
                ack[n++] = done[i].position;
        if (n == 3)
            break;
        ack[n] = NULL;
        uint64_t until_us = fb_mono_us() + CALL_MS * US_PER_MS;
        code = redis_link_ask_one(&c->link, ack, until_us, &answer, err);
        if (code == FB_OK && answer->kind == REDIS_ERROR)
            code = redis_link_refused(&c->link, answer->text, err);
    }
    return code;
}

uint64_t redis_behind(struct connector *c)
{
    return c->behind;
}
