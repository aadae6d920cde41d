/* SPDX-License-Identifier: Apache-2.0 */
/* Protocols in /v1/status: requests from the events, connections and streams from the memory file.
 */
#include "output/admin_int.h"

#include <stdatomic.h>

static void put_counts(struct json *j, const char *key, const char *const *names,
                       const uint64_t *counts, size_t count)
{
    json_key(j, key);
    json_object_begin(j);
    for (size_t i = 0; i < count; i++)
        json_key_u64(j, names[i], counts[i]);
    json_object_end(j);
}

static void put_http2(struct json *j, const struct memfile_h2 *m)
{
    static const char *const floods[] = {"resets", "control", "headers"};
    uint64_t connections = 0, streams = 0, n[MEMFILE_H2_COUNTS];
    for (size_t i = 0; i < MEMFILE_RINGS_MAX; i++) {
        connections += atomic_load(&m->connections[i]);
        streams += atomic_load(&m->streams[i]);
    }
    for (size_t i = 0; i < MEMFILE_H2_COUNTS; i++)
        n[i] = atomic_load(&m->counts[i]);
    json_key(j, "http2");
    json_object_begin(j);
    json_key_u64(j, "connections", connections);
    json_key_u64(j, "streams_open", streams);
    json_key_u64(j, "streams", n[MEMFILE_H2_STREAMS]);
    json_key_u64(j, "refused", n[MEMFILE_H2_REFUSED]);
    json_key_u64(j, "resets_by_client", n[MEMFILE_H2_RESETS_IN]);
    json_key_u64(j, "resets_by_foldback", n[MEMFILE_H2_RESETS_OUT]);
    json_key_u64(j, "control_frames", n[MEMFILE_H2_CONTROL]);
    put_counts(j, "floods", floods, n + MEMFILE_H2_FLOOD_RESETS, FB_COUNT(floods));
    json_object_end(j);
}

void put_protocols(struct json *j, const struct admin *a)
{
    static const char *const protocols[] = {"http1", "http2", "tcp"};
    static const char *const versions[] = {"none", "1.2", "1.3"};
    static const char *const results[] = {"ok", "failed"};
    const struct metrics *m = a->metrics;
    json_object_begin(j);
    put_counts(j, "requests", protocols, m->protocol, FB_COUNT(protocols));
    put_counts(j, "tls", versions, m->tls, FB_COUNT(versions));
    put_counts(j, "grpc", results, m->grpc, FB_COUNT(results));
    put_http2(j, &a->source.memfile->head->h2);
    json_object_end(j);
}
