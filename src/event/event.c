/* SPDX-License-Identifier: Apache-2.0 */
#include "event/event.h"

#include "base/assert.h"

#include <stdio.h>
#include <string.h>

#define EV_ROW(ftype, fname, funit, fprivacy, fwhat)                                               \
    {.name = #fname,                                                                               \
     .unit = funit,                                                                                \
     .what = fwhat,                                                                                \
     .offset = (uint16_t)offsetof(THIS, fname),                                                    \
     .bytes = sizeof(((THIS *)0)->fname),                                                          \
     .type = EV_FT_##ftype,                                                                        \
     .privacy = EV_##fprivacy},
#define EV_TEXT_ROW(fname, fbytes, fprivacy, fwhat)                                                \
    {.name = #fname,                                                                               \
     .unit = "",                                                                                   \
     .what = fwhat,                                                                                \
     .offset = (uint16_t)offsetof(THIS, fname),                                                    \
     .bytes = fbytes,                                                                              \
     .type = EV_FT_text,                                                                           \
     .privacy = EV_##fprivacy},

#define THIS struct ev_request
static const struct ev_field_row request_fields[] = {EV_REQUEST_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_health
static const struct ev_field_row health_fields[] = {EV_HEALTH_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_resource
static const struct ev_field_row resource_fields[] = {EV_RESOURCE_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_tick
static const struct ev_field_row tick_fields[] = {EV_TICK_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_decision
static const struct ev_field_row decision_fields[] = {EV_DECISION_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_outcome
static const struct ev_field_row outcome_fields[] = {EV_OUTCOME_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_config
static const struct ev_field_row config_fields[] = {EV_CONFIG_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_alert
static const struct ev_field_row alert_fields[] = {EV_ALERT_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_gap
static const struct ev_field_row gap_fields[] = {EV_GAP_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_custom
static const struct ev_field_row custom_fields[] = {EV_CUSTOM_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_name
static const struct ev_field_row name_fields[] = {EV_NAME_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_gauge
static const struct ev_field_row gauge_fields[] = {EV_GAUGE_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_proposal
static const struct ev_field_row proposal_fields[] = {EV_PROPOSAL_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_command
static const struct ev_field_row command_fields[] = {EV_COMMAND_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_sample
static const struct ev_field_row sample_fields[] = {EV_SAMPLE_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_cache_use
static const struct ev_field_row cache_use_fields[] = {EV_CACHE_USE_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_cache_sample
static const struct ev_field_row cache_sample_fields[] = {
    EV_CACHE_SAMPLE_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_fleet_share
static const struct ev_field_row fleet_share_fields[] = {
    EV_FLEET_SHARE_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS
#define THIS struct ev_key
static const struct ev_field_row key_fields[] = {EV_KEY_FIELDS(EV_ROW, EV_TEXT_ROW)};
#undef THIS

static const struct ev_type_row types[EV_TYPE_END] = {
#define EVENT(upper, lower, id, ncells, says)                                                      \
    [id] = {.name = #lower,                                                                        \
            .what = says,                                                                          \
            .cells = ncells,                                                                       \
            .field_count = FB_COUNT(lower##_fields),                                               \
            .fields = lower##_fields},
#include "event/events.def"
#undef EVENT
};
static const struct ev_type_row no_type;

const uint8_t ev_type_cells[256] = {
#define EVENT(upper, lower, id, ncells, says) [id] = ncells,
#include "event/events.def"
#undef EVENT
};

#define REASON(rkind, rname, rword, rid, rstatus, rproxy, rsentence)                               \
    [rid] = {.name = #rword,                                                                       \
             .proxy_status = rproxy,                                                               \
             .sentence = rsentence,                                                                \
             .id = rid,                                                                            \
             .status = rstatus,                                                                    \
             .kind = REASON_KIND_##rkind},
static const struct ev_reason_row reasons[REASON_END] = {
#include "event/reasons.def"
};
#undef REASON
static const struct ev_reason_row no_reason;

static const struct ev_trait_row traits[EV_TRAIT_COUNT] = {
#define TRAIT(upper, word, bit, text) [bit] = {.name = #word, .sentence = text},
#include "event/traits.def"
#undef TRAIT
};

const struct ev_type_row *ev_type_row(uint8_t type)
{
    return type < EV_TYPE_END ? &types[type] : &no_type;
}

uint8_t ev_type_by_name(struct span name)
{
    for (uint8_t i = 0; i < EV_TYPE_END; i++)
        if (types[i].name && span_eq(name, span_of(types[i].name)))
            return i;
    return 0;
}

const struct ev_reason_row *ev_reason_row(uint16_t reason)
{
    return reason < REASON_END ? &reasons[reason] : &no_reason;
}

const struct ev_trait_row *ev_trait_row(unsigned trait)
{
    fb_assert(trait < EV_TRAIT_COUNT);
    return &traits[trait];
}

uint16_t ev_reason_by_name(struct span name)
{
    for (uint16_t i = 0; i < REASON_END; i++)
        if (reasons[i].name && span_ieq(name, span_of(reasons[i].name)))
            return i;
    return 0;
}

static const char *const class_names[] = {"critical", "default", "degraded", "best-effort"};
static const char *const mode_names[] = {"observe", "recommend", "act"};
static const char *const kind_names[] = {"none", "route", "service", "endpoint", "version"};
static const char *const health_names[] = {"ok",        "ramping",  "ejected",
                                           "half-open", "draining", "gone"};
static const char *const outcome_names[] = {"better", "no change", "worse", "unknown"};
static const char *const verb_names[] = {"pin",      "unpin", "mode",  "freeze",
                                         "unfreeze", "reset", "drain", "undrain"};

static const char *name_at(const char *const *names, size_t count, uint8_t i)
{
    return i < count ? names[i] : "?";
}

static int index_of(const char *const *names, size_t count, struct span name)
{
    for (size_t i = 0; i < count; i++)
        if (span_ieq(name, span_of(names[i])))
            return (int)i;
    return -1;
}

const char *ev_class_name(uint8_t class)
{
    return name_at(class_names, FB_COUNT(class_names), class);
}
int ev_class_by_name(struct span name)
{
    if (span_ieq(name, SPAN("best_effort")))
        return EV_CLASS_BEST_EFFORT;
    return index_of(class_names, FB_COUNT(class_names), name);
}
const char *ev_mode_name(uint8_t mode)
{
    return name_at(mode_names, FB_COUNT(mode_names), mode);
}
int ev_mode_by_name(struct span name)
{
    return index_of(mode_names, FB_COUNT(mode_names), name);
}
const char *ev_kind_name(uint8_t kind)
{
    return name_at(kind_names, FB_COUNT(kind_names), kind);
}
const char *ev_health_name(uint8_t health)
{
    return name_at(health_names, FB_COUNT(health_names), health);
}
const char *ev_outcome_name(uint8_t outcome)
{
    return name_at(outcome_names, FB_COUNT(outcome_names), outcome);
}
const char *ev_verb_name(uint8_t verb)
{
    return name_at(verb_names, FB_COUNT(verb_names), verb);
}

const char *ev_key_op_name(uint8_t op)
{
    static const char *const names[] = {"",          "started",      "rotated",      "rewrapped",
                                        "destroyed", "period_began", "period_ended", "erased"};
    return name_at(names, FB_COUNT(names), op);
}

const char *ev_protocol_name(uint8_t protocol)
{
    static const char *const names[] = {"HTTP/1", "HTTP/2", "TCP"};
    return name_at(names, FB_COUNT(names), protocol);
}

const char *ev_tls_name(uint8_t tls)
{
    static const char *const names[] = {"", "1.2", "1.3"};
    return name_at(names, FB_COUNT(names), tls);
}

const char *ev_cipher_name(uint64_t tls_cipher)
{
    static const struct {
        uint16_t id;
        const char *name;
    } rows[] = {{0x1301, "TLS_AES_128_GCM_SHA256"},
                {0x1302, "TLS_AES_256_GCM_SHA384"},
                {0x1303, "TLS_CHACHA20_POLY1305_SHA256"},
                {0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
                {0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
                {0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"},
                {0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"},
                {0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"},
                {0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"}};
    for (size_t i = 0; i < FB_COUNT(rows); i++)
        if (rows[i].id == (tls_cipher & 0xffff))
            return rows[i].name;
    return "another";
}

const char *ev_grpc_name(uint16_t status)
{
    static const char *const names[] = {"OK",
                                        "CANCELLED",
                                        "UNKNOWN",
                                        "INVALID_ARGUMENT",
                                        "DEADLINE_EXCEEDED",
                                        "NOT_FOUND",
                                        "ALREADY_EXISTS",
                                        "PERMISSION_DENIED",
                                        "RESOURCE_EXHAUSTED",
                                        "FAILED_PRECONDITION",
                                        "ABORTED",
                                        "OUT_OF_RANGE",
                                        "UNIMPLEMENTED",
                                        "INTERNAL",
                                        "UNAVAILABLE",
                                        "DATA_LOSS",
                                        "UNAUTHENTICATED"};
    return status < FB_COUNT(names) ? names[status] : "unknown";
}

const char *ev_cache_name(uint8_t cache)
{
    static const char *const names[EV_CACHE_END] = {"off",         "miss",      "hit",   "stale",
                                                    "revalidated", "collapsed", "bypass"};
    return names[cache < EV_CACHE_END ? cache : 0];
}

bool ev_reason_is_cached(uint16_t reason)
{
    return (reason >= REASON_CACHE_HIT && reason <= REASON_CACHE_COLLAPSED) ||
           reason == REASON_CACHE_GUARDED;
}

bool ev_reason_is_shed(uint16_t reason)
{
    return (reason >= REASON_SHED_PRIORITY && reason <= REASON_SHED_ATTEMPTS) ||
           (reason >= REASON_SHED_OWN_LOAD && reason <= REASON_SHED_ERRORS);
}

bool ev_reason_is_mirror(uint16_t reason)
{
    return reason == REASON_MIRRORED || reason == REASON_MIRROR_FAILED;
}

bool ev_reason_is_rule(uint16_t reason)
{
    return reason == REASON_RATE_LIMITED || reason == REASON_QUOTA_EXCEEDED ||
           reason == REASON_ADDRESS_DENIED || reason == REASON_CLIENT_CAPPED;
}

bool ev_owner_is_other(struct ev_owners *o, const struct ev_name *n)
{
    if (n->kind != EV_KIND_ENDPOINT || n->is_gone || n->number >= EV_OWNERS_MAX)
        return false;
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < sizeof n->name && n->name[i]; i++)
        hash = (hash ^ (unsigned char)n->name[i]) * UINT64_C(0x100000001b3);
    uint64_t was = o->hash[n->number];
    o->hash[n->number] = hash;
    return was && was != hash;
}

static void field_to_json(struct json *j, const struct ev_field_row *f, const unsigned char *at)
{
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    double f64;
    switch (f->type) {
    case EV_FT_u8:
        json_u64(j, at[0]);
        break;
    case EV_FT_u16:
        memcpy(&u16, at, sizeof u16);
        json_u64(j, u16);
        break;
    case EV_FT_u32:
        memcpy(&u32, at, sizeof u32);
        json_u64(j, u32);
        break;
    case EV_FT_u64:
        memcpy(&u64, at, sizeof u64);
        json_u64(j, u64);
        break;
    case EV_FT_f64:
        memcpy(&f64, at, sizeof f64);
        json_f64(j, f64);
        break;
    case EV_FT_text:
        json_span(j, (struct span){(const char *)at, strnlen((const char *)at, f->bytes)});
        break;
    }
}

void ev_redact(struct ev_head *ev)
{
    const struct ev_type_row *row = ev_type_row(ev->type);
    for (uint8_t i = 0; i < row->field_count; i++) {
        const struct ev_field_row *f = &row->fields[i];
        unsigned char *at = (unsigned char *)ev + f->offset;
        if (f->privacy != EV_PERSONAL)
            continue;
        memset(at, 0, f->bytes);
        if (f->type == EV_FT_text)
            at[0] = '-';
    }
}

void ev_traits_to_json(struct json *j, uint64_t bits)
{
    json_key(j, "trait_names");
    json_array_begin(j);
    for (unsigned i = 0; i < EV_TRAIT_COUNT; i++)
        if (bits >> i & 1)
            json_str(j, traits[i].name);
    json_array_end(j);
}

void ev_to_json(struct json *j, const struct ev_head *ev, uint64_t offset, bool redact)
{
    const struct ev_type_row *row = ev_type_row(ev->type);
    fb_assert(row->name);
    json_object_begin(j);
    json_key_str(j, "type", row->name);
    json_key_u64(j, "offset", offset);
    json_key_u64(j, "time_us", ev->time_us);
    json_key_u64(j, "origin", ev->origin);
    json_key_u64(j, "sequence", ev->sequence);
    for (uint8_t i = 0; i < row->field_count; i++) {
        const struct ev_field_row *f = &row->fields[i];
        if (ev_field_is_reserved(f))
            continue;
        json_key(j, f->name);
        if (redact && f->privacy == EV_PERSONAL)
            json_str(j, "-");
        else
            field_to_json(j, f, (const unsigned char *)ev + f->offset);
    }
    /* numbers that have a word get it too, so that a reader needs no table */
    if (ev->type == EV_REQUEST) {
        const struct ev_request *r = (const struct ev_request *)ev;
        json_key_str(j, "reason_name", ev_reason_row(r->reason)->name);
        json_key_str(j, "class_name", ev_class_name(r->class));
        if (r->traits)
            ev_traits_to_json(j, r->traits);
    }
    json_object_end(j);
}

static void schema_member(struct json *j, const char *name, const char *type, const char *what)
{
    json_key(j, name);
    json_object_begin(j);
    json_key_str(j, "type", type);
    json_key_str(j, "description", what);
    json_object_end(j);
}

/* What ev_to_json writes of the head, and the words of a request. */
static void schema_of_head(struct json *j, uint8_t type)
{
    json_key(j, "type");
    json_object_begin(j);
    json_key_str(j, "const", ev_type_row(type)->name);
    json_object_end(j);
    schema_member(j, "offset", "integer", "Number of the event in the log.");
    schema_member(j, "time_us", "integer", "Stream time, us.");
    schema_member(j, "origin", "integer", "Gateway thread 0..191, 254 brain, 255 replay.");
    schema_member(j, "sequence", "integer", "Per origin, wraps; shows losses.");
    if (type == EV_REQUEST) {
        schema_member(j, "reason_name", "string", "Name of the reason.");
        schema_member(j, "class_name", "string", "Name of the priority.");
        schema_member(j, "trait_names", "array", "Names of its traits; absent without any.");
    }
}

void ev_schema(struct json *j, uint8_t type)
{
    const struct ev_type_row *row = ev_type_row(type);
    fb_assert(row->name);
    json_object_begin(j);
    char id[64]; /* what the dataschema of a CloudEvent names */
    snprintf(id, sizeof id, "urn:foldback:schema:%s:1", row->name);
    json_key_str(j, "$schema", "https://json-schema.org/draft/2020-12/schema");
    json_key_str(j, "$id", id);
    json_key_str(j, "title", row->name);
    json_key_str(j, "description", row->what);
    json_key_str(j, "type", "object");
    json_key(j, "properties");
    json_object_begin(j);
    schema_of_head(j, type);
    for (uint8_t i = 0; i < row->field_count; i++) {
        const struct ev_field_row *f = &row->fields[i];
        if (ev_field_is_reserved(f))
            continue;
        json_key(j, f->name);
        json_object_begin(j);
        json_key(j, "type");
        if (f->type == EV_FT_f64)
            json_raw(j, SPAN("[\"number\",\"null\"]")); /* null: not a number */
        else
            json_str(j, f->type == EV_FT_text ? "string" : "integer");
        json_key_str(j, "description", f->what);
        if (f->unit[0])
            json_key_str(j, "x-unit", f->unit);
        if (f->privacy != EV_OPEN)
            json_key_str(j, "x-privacy", f->privacy == EV_PERSONAL ? "personal" : "pseudonym");
        json_object_end(j);
    }
    json_object_end(j);
    json_object_end(j);
}
