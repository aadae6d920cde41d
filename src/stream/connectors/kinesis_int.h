/* SPDX-License-Identifier: Apache-2.0 */
/* kinesis_int: one open connector to AWS Kinesis, shared by its files.
 *
 *   kinesis.c         open, close, check, what it can do
 *   kinesis_http.c    one request at a time, signed (SigV4), never longer than it may
 *   kinesis_keys.c    credentials: file, environment, container, instance; renewed before they end
 *   kinesis_sink.c    PutRecords
 *   kinesis_source.c  shards, iterators, GetRecords
 *   kinesis_says.c    what answers mean (pure)
 *
 * Threads: the runner's. */
#ifndef FB_STREAM_CONNECTORS_KINESIS_INT_H
#define FB_STREAM_CONNECTORS_KINESIS_INT_H
#include "stream/connectors/connector.h"
#include "stream/connectors/kinesis_says.h"

#include <curl/curl.h>

#define KINESIS_RECORDS_MAX 500
#define KINESIS_RECORD_BYTES_MAX (MIB - 1024) /* 1 MiB with its key */
#define KINESIS_REQUEST_BYTES_MAX (4 * MIB)   /* the service takes 5; base64 is not counted */
#define KINESIS_SEND_MAX 4096

enum kinesis_credentials { KEYS_AUTO, KEYS_FILE, KEYS_ENVIRONMENT, KEYS_CONTAINER, KEYS_INSTANCE };
enum kinesis_pack { PACK_LINES, PACK_KPL, PACK_NONE };

struct http {
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;
    struct buf answer;
    bool is_busy;
    long status;
    uint64_t deadline_us;
    char error[CURL_ERROR_SIZE];
};

/* One Kinesis record of a request: the events of one key, in order. */
struct put {
    struct span key;
    uint32_t first, last, count; /* records of the batch, by <next> */
    uint64_t bytes;
    bool is_closed; /* something of its key waits for the next request */
    uint32_t same;  /* next in the chain of its hash, + 1 */
};

struct shards; /* kinesis_source.c */
struct connector {
    struct connector_setup setup;
    char stream[260], region[40], endpoint[300], stream_key[12]; /* StreamName or StreamARN */
    const char *profile, *credentials_file, *metadata_endpoint, *ca_file;
    enum kinesis_credentials credentials;
    enum kinesis_pack pack;
    bool is_verified, is_from_newest;
    uint64_t timeout_us, poll_us;
    struct http http;
    struct buf body; /* of the request that is under way */
    struct kinesis_keys keys;
    char keys_from[200]; /* "the profile [default] of /etc/..." */
    uint64_t keys_at_us, keys_retry_us;
    int64_t keys_file_time;
    /* sink */
    struct put *put;
    uint32_t *next, *chain;
    struct buf packed;
    /* source */
    struct shards *shards;
};

const char *kinesis_value(const struct connector *c, const char *key);

/* ---- kinesis_http.c ---- */
struct http_request {
    const char *method, *url;
    const char *const *headers; /* ends with NULL */
    struct span body;           /* borrowed until the request is over */
    uint64_t timeout_us;
    bool is_signed;
};
FB_MUST_USE
enum fb_code http_begin(struct connector *c, const struct http_request *request,
                        struct fb_err *err);
/* FB_E_AGAIN with "" in err: not over at <until_us>.  Else it is over; FB_OK: c->http has status
 * and answer. */
FB_MUST_USE
enum fb_code http_wait(struct connector *c, uint64_t until_us, struct fb_err *err);
void http_drop(struct connector *c);
void http_fini(struct connector *c);
/* All of it, for the small requests for credentials. */
FB_MUST_USE
enum fb_code http_whole(struct connector *c, const struct http_request *request,
                        struct fb_err *err);

/* An action of Kinesis with c->body: begin, then wait until it is over.  */
FB_MUST_USE
enum fb_code kinesis_begin(struct connector *c, const char *action, uint64_t deadline_us,
                           struct fb_err *err);
/* After http_wait said FB_OK; <refusal> is filled when the code is not FB_OK. */
enum fb_code kinesis_over(struct connector *c, const char *action, struct kinesis_refusal *refusal,
                          struct fb_err *err);
FB_MUST_USE
enum fb_code kinesis_call(struct connector *c, const char *action, uint64_t deadline_us,
                          struct kinesis_refusal *refusal, struct fb_err *err);

/* ---- kinesis_keys.c ---- */
FB_MUST_USE
enum fb_code keys_want(struct connector *c, struct fb_err *err);
void keys_refused(struct connector *c); /* the next want reads them again */

/* ---- kinesis_sink.c, kinesis_source.c ---- */
enum fb_code kinesis_send(struct connector *c, struct connector_batch *batch, struct fb_err *err);
enum fb_code kinesis_receive(struct connector *c, connector_each *each, void *arg,
                             uint32_t timeout_ms, struct fb_err *err);
uint64_t kinesis_behind(struct connector *c);
uint64_t kinesis_waits_us(struct connector *c);
void kinesis_shards_free(struct connector *c);
#endif
