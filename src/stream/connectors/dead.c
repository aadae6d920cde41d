/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/dead.h"

#include "base/base64.h"
#include "base/json.h"
#include "stream/connectors/connector.h"

static void put_base64(struct json *j, const char *key, struct span s)
{
    struct buf text;
    buf_init(&text, s.len / 3 * 4 + 8);
    base64_put(&text, s);
    json_key_str(j, key, buf_str(&text));
    buf_fini(&text);
}

static void put_headers(struct json *j, const struct dead_letter *letter)
{
    json_key(j, "headers");
    json_object_begin(j);
    for (uint32_t i = 0; i < letter->header_count; i++) {
        const struct connector_header *h = &letter->headers[i];
        json_key(j, h->name);
        json_span(j, h->value);
    }
    json_object_end(j);
}

void dead_put(const struct dead_letter *letter, const char *connector, uint64_t time_ms,
              struct buf *out)
{
    struct json j;
    json_init(&j, out);
    json_object_begin(&j);
    json_key_u64(&j, "time_ms", time_ms);
    json_key_str(&j, "connector", connector);
    json_key_str(&j, "reason", letter->reason);
    if (letter->topic[0]) {
        json_key_str(&j, "topic", letter->topic);
        json_key_str(&j, "position", letter->position);
    } else {
        json_key_u64(&j, "offset", letter->offset);
        json_key_u64(&j, "events", letter->count);
        if (letter->header_count) {
            json_key_u64(&j, "wall_ms", letter->wall_ms);
            put_headers(&j, letter);
        }
    }
    put_base64(&j, "key_base64", letter->key);
    put_base64(&j, "value_base64", letter->value);
    json_object_end(&j);
    buf_putc(out, '\n');
}
