/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/kinesis_says.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <time.h>

/* Text of a peer in a message: printable, bounded. */
static void keep_text(char *out, size_t size, struct span s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len && n + 1 < size; i++) {
        unsigned char c = (unsigned char)s.at[i];
        out[n++] = c >= 0x20 && c < 0x7f ? (char)c : ' ';
    }
    out[n] = '\0';
}

/* What stands between <Name> and </Name>. */
static struct span xml_text(struct span body, const char *name)
{
    char tag[40];
    int len = snprintf(tag, sizeof tag, "<%s>", name);
    for (size_t i = 0; i + (size_t)len <= body.len; i++)
        if (memcmp(body.at + i, tag, (size_t)len) == 0) {
            struct span rest = {body.at + i + len, body.len - i - (size_t)len}, after;
            return span_cut(rest, '<', &after);
        }
    return (struct span){"", 0};
}

void kinesis_refusal_read(struct kinesis_refusal *out, long status, struct span body)
{
    json_t *root = json_loadb(body.at ? body.at : "", body.len, 0, NULL);
    const char *type = json_string_value(json_object_get(root, "__type"));
    const char *message = json_string_value(json_object_get(root, "message"));
    if (!message)
        message = json_string_value(json_object_get(root, "Message"));
    if (type && strrchr(type, '#'))
        type = strrchr(type, '#') + 1;
    struct span type_text = type ? span_of(type) : xml_text(body, "Code");
    keep_text(out->type, sizeof out->type, type_text);
    keep_text(out->message, sizeof out->message,
              message ? span_of(message) : xml_text(body, "Message"));
    if (!out->type[0])
        snprintf(out->type, sizeof out->type, "HTTP status %ld", status);
    json_decref(root);
}

static bool is_one_of(const char *word, const char *const *list)
{
    for (; *list; list++)
        if (strncmp(word, *list, strlen(*list)) == 0)
            return true;
    return false;
}

enum fb_code kinesis_refusal_code(const struct kinesis_refusal *refusal, long status)
{
    static const char *const again[] = {"ProvisionedThroughputExceeded",
                                        "LimitExceeded",
                                        "Throttling",
                                        "KMSThrottling",
                                        "RequestTimeout",
                                        "ResourceInUse",
                                        "ServiceUnavailable",
                                        "InternalFailure",
                                        "ExpiredToken",
                                        "ExpiredIterator",
                                        NULL};
    static const char *const denied[] = {"AccessDenied",
                                         "UnrecognizedClient",
                                         "InvalidClientTokenId",
                                         "SignatureDoesNotMatch",
                                         "InvalidSignature",
                                         "IncompleteSignature",
                                         "MissingAuthenticationToken",
                                         "NotAuthorized",
                                         "OptInRequired",
                                         "KMS",
                                         NULL};
    static const char *const config[] = {"ResourceNotFound", "UnknownOperation", NULL};
    static const char *const illegal[] = {"Validation", "InvalidArgument", "Serialization", NULL};
    if (is_one_of(refusal->type, again))
        return FB_E_AGAIN;
    if (is_one_of(refusal->type, denied))
        return FB_E_DENIED;
    if (is_one_of(refusal->type, config))
        return FB_E_CONFIG;
    /* "Value 'x' at 'streamName' failed to satisfy constraint": no record is at fault */
    if (strstr(refusal->message, "'streamName'") || strstr(refusal->message, "'streamARN'"))
        return FB_E_CONFIG;
    if (is_one_of(refusal->type, illegal) || status == 413)
        return FB_E_RANGE;
    if (status == 401 || status == 403)
        return FB_E_DENIED;
    return status >= 400 && status < 500 && status != 408 && status != 429 ? FB_E_CONFIG
                                                                           : FB_E_AGAIN;
}

/* ---- credentials ---- */
/* What goes into a header: visible, no blanks, and it must fit. */
static bool keep_secret(char *out, size_t size, struct span s)
{
    if (s.len == 0 || s.len >= size)
        return false;
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.at[i] <= 0x20 || (unsigned char)s.at[i] >= 0x7f)
            return false;
    memcpy(out, s.at, s.len);
    out[s.len] = '\0';
    return true;
}

uint64_t kinesis_time_s(const char *text)
{
    struct tm t = {0};
    int used = 0;
    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour,
               &t.tm_min, &t.tm_sec, &used) != 6 ||
        t.tm_year < 1970 || t.tm_mon < 1 || t.tm_mon > 12 || t.tm_mday < 1 || t.tm_mday > 31)
        return 0;
    text += used;
    if (*text == '.')
        for (text++; isdigit((unsigned char)*text);)
            text++;
    if (strcmp(text, "Z") != 0 && strcmp(text, "+00:00") != 0)
        return 0;
    t.tm_year -= 1900;
    t.tm_mon--;
    time_t s = timegm(&t);
    return s > 0 ? (uint64_t)s : 0;
}

bool kinesis_keys_from_json(struct kinesis_keys *out, struct span body, char why[120])
{
    json_t *root = json_loadb(body.at ? body.at : "", body.len, 0, NULL);
    const char *expires = json_string_value(json_object_get(root, "Expiration"));
    const char *token = json_string_value(json_object_get(root, "Token"));
    bool is_good = false;
    *out = (struct kinesis_keys){0};
    if (!json_is_object(root))
        snprintf(why, 120, "its answer is not JSON");
    else if (!keep_secret(out->id, sizeof out->id,
                          span_of(json_string_value(json_object_get(root, "AccessKeyId")))))
        snprintf(why, 120, "its answer has no usable AccessKeyId");
    else if (!keep_secret(out->secret, sizeof out->secret,
                          span_of(json_string_value(json_object_get(root, "SecretAccessKey")))))
        snprintf(why, 120, "its answer has no usable SecretAccessKey");
    else if (token && *token && !keep_secret(out->token, sizeof out->token, span_of(token)))
        snprintf(why, 120, "its answer has no usable Token");
    else if (expires && !(out->expires_s = kinesis_time_s(expires)))
        snprintf(why, 120, "its answer has no usable Expiration");
    else
        is_good = true;
    json_decref(root);
    return is_good;
}

bool kinesis_keys_from_ini(struct kinesis_keys *out, struct span text, const char *profile,
                           char why[120])
{
    bool is_mine = false, is_there = false;
    *out = (struct kinesis_keys){0};
    while (text.len) {
        struct span line = span_cut(text, '\n', &text), value;
        if (line.len && line.at[line.len - 1] == '\r')
            line.len--;
        line = span_trim(line);
        if (line.len == 0 || line.at[0] == '#' || line.at[0] == ';')
            continue;
        if (line.at[0] == '[') {
            struct span name = span_trim((struct span){line.at + 1, line.len - 1});
            name.len -= name.len > 0 && name.at[name.len - 1] == ']';
            is_mine = span_eq(span_trim(name), span_of(profile));
            is_there |= is_mine;
            continue;
        }
        struct span key = span_trim(span_cut(line, '=', &value));
        value = span_trim(value);
        bool is_good = true;
        if (!is_mine)
            continue;
        if (span_ieq(key, SPAN("aws_access_key_id")))
            is_good = keep_secret(out->id, sizeof out->id, value);
        else if (span_ieq(key, SPAN("aws_secret_access_key")))
            is_good = keep_secret(out->secret, sizeof out->secret, value);
        else if (span_ieq(key, SPAN("aws_session_token")))
            is_good = keep_secret(out->token, sizeof out->token, value);
        if (!is_good) {
            snprintf(why, 120, "%.*s of [%.40s] is empty, too long or has blanks", SPAN_ARG(key),
                     profile);
            return false;
        }
    }
    if (!is_there)
        snprintf(why, 120, "it has no profile [%.60s]", profile);
    else if (!out->id[0] || !out->secret[0])
        snprintf(why, 120, "[%.40s] lacks %s", profile,
                 out->id[0] ? "aws_secret_access_key" : "aws_access_key_id");
    return is_there && out->id[0] && out->secret[0];
}

/* ---- PutRecords ---- */
bool kinesis_put_read(struct span body, uint32_t count, bool *is_stored,
                      struct kinesis_refusal *first)
{
    json_t *root = json_loadb(body.at ? body.at : "", body.len, 0, NULL);
    json_t *records = json_object_get(root, "Records");
    bool is_good = json_is_array(records) && json_array_size(records) == count;
    first->type[0] = first->message[0] = '\0';
    for (uint32_t i = 0; is_good && i < count; i++) {
        json_t *r = json_array_get(records, i);
        const char *error = json_string_value(json_object_get(r, "ErrorCode"));
        const char *message = json_string_value(json_object_get(r, "ErrorMessage"));
        const char *sequence = json_string_value(json_object_get(r, "SequenceNumber"));
        is_stored[i] = !error && sequence && *sequence;
        if (is_stored[i] || first->type[0])
            continue;
        keep_text(first->type, sizeof first->type, span_of(error ? error : "no sequence number"));
        keep_text(first->message, sizeof first->message, span_of(message));
    }
    json_decref(root);
    return is_good;
}

bool kinesis_shard_number(const char *shard_id, uint32_t *number)
{
    uint64_t v;
    const char *dash = strrchr(shard_id, '-');
    if (!dash || !span_to_u64(span_of(dash + 1), &v) || v > UINT32_MAX)
        return false;
    *number = (uint32_t)v;
    return true;
}

/* ---- packing ---- */
#define MAGIC "\xf3\x89\x9a\xc2"
#define MAGIC_BYTES 4
#define MD5_BYTES 16

static void put_varint(struct buf *out, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        buf_putc(out, (char)(v | 0x80));
    buf_putc(out, (char)v);
}

static void put_field(struct buf *out, char tag, struct span s)
{
    buf_putc(out, tag);
    put_varint(out, s.len);
    buf_put_span(out, s);
}

static size_t varint_bytes(uint64_t v)
{
    size_t n = 1;
    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}

void kinesis_pack_begin(struct buf *out, struct span key)
{
    buf_put(out, MAGIC, MAGIC_BYTES);
    put_field(out, 0x0a, key);
}

void kinesis_pack_add(struct buf *out, struct span value)
{
    buf_putc(out, 0x1a);
    put_varint(out, 2 + 1 + varint_bytes(value.len) + value.len);
    buf_put(out, "\x08\x00", 2); /* the first key */
    put_field(out, 0x1a, value);
}

static bool md5(struct span s, unsigned char out[EVP_MAX_MD_SIZE])
{
    unsigned int len = 0;
    return EVP_Digest(s.at, s.len, out, &len, EVP_md5(), NULL) == 1 && len == MD5_BYTES;
}

void kinesis_pack_end(struct buf *out, size_t begin)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    size_t from = begin + MAGIC_BYTES;
    if (out->failed || !md5((struct span){out->at + from, out->len - from}, digest))
        out->failed = true;
    else
        buf_put(out, digest, MD5_BYTES);
}

static bool get_varint(struct span *s, uint64_t *v)
{
    *v = 0;
    for (uint32_t shift = 0; shift < 64 && s->len; shift += 7) {
        unsigned char c = (unsigned char)*s->at;
        s->at++;
        s->len--;
        *v |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80)
            return true;
    }
    return false;
}

/* The next field of a message; a number is in <number>, bytes are in <bytes>. */
static bool get_field(struct span *s, uint64_t *tag, uint64_t *number, struct span *bytes)
{
    if (!get_varint(s, tag))
        return false;
    if ((*tag & 7) == 0)
        return get_varint(s, number);
    if ((*tag & 7) != 2 || !get_varint(s, number) || *number > s->len)
        return false;
    *bytes = (struct span){s->at, (size_t)*number};
    s->at += bytes->len;
    s->len -= bytes->len;
    return true;
}

bool kinesis_unpack_begin(struct kinesis_unpack *u, struct span data)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    struct span all, bytes;
    uint64_t tag, number;
    u->keys = 0;
    if (data.len < MAGIC_BYTES + MD5_BYTES || memcmp(data.at, MAGIC, MAGIC_BYTES) != 0)
        return false;
    all = (struct span){data.at + MAGIC_BYTES, data.len - MAGIC_BYTES - MD5_BYTES};
    if (!md5(all, digest) || memcmp(digest, all.at + all.len, MD5_BYTES) != 0)
        return false;
    u->rest = all;
    while (all.len) {
        if (!get_field(&all, &tag, &number, &bytes))
            return false;
        if (tag == 0x0a && u->keys < KINESIS_PACK_KEYS)
            u->key[u->keys++] = bytes;
    }
    return true;
}

bool kinesis_unpack_next(struct kinesis_unpack *u, struct span *key, struct span *value)
{
    struct span record = {NULL, 0}, bytes = {NULL, 0};
    uint64_t tag, number, key_at = UINT64_MAX;
    do {
        if (u->rest.len == 0 || !get_field(&u->rest, &tag, &number, &record))
            return false;
    } while (tag != 0x1a);
    *value = (struct span){"", 0};
    while (record.len && get_field(&record, &tag, &number, &bytes)) {
        if (tag == 0x08)
            key_at = number;
        else if (tag == 0x1a)
            *value = bytes;
    }
    *key = key_at < u->keys ? u->key[key_at] : (struct span){"", 0};
    return true;
}

/* ---- base64 ---- */
static bool is_base64(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!isalnum((unsigned char)s.at[i]) && s.at[i] != '+' && s.at[i] != '/')
            return false;
    return true;
}

#define BASE64_BYTES_MAX (64 * MIB)

bool kinesis_unbase64(struct buf *out, struct span text)
{
    size_t pad = 0;
    if (text.len == 0)
        return true;
    while (pad < 2 && pad < text.len && text.at[text.len - 1 - pad] == '=')
        pad++;
    if (text.len % 4 || text.len > BASE64_BYTES_MAX ||
        !is_base64((struct span){text.at, text.len - pad}) ||
        !buf_reserve(out, text.len / 4 * 3 + 8))
        return false;
    int n = EVP_DecodeBlock((unsigned char *)out->at + out->len, (const unsigned char *)text.at,
                            (int)text.len);
    if (n < (int)pad || (size_t)n != text.len / 4 * 3)
        return false;
    out->len += (size_t)n - pad;
    return true;
}
