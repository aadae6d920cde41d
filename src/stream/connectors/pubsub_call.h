/* SPDX-License-Identifier: Apache-2.0 */
/* pubsub_call: HTTP calls that wait together: unary gRPC (HTTP/2, a 5-byte prefix, trailers) and
 * the plain requests that bring tokens.
 *
 *   call_grpc / call_http -> calls_drive until is_done -> read status, answer -> call_free
 *
 * A gRPC library is not needed for unary calls.  Every wait ends when <is_stopping> says so.
 * Answers are bounded; a call that is freed early is reset, not waited for.
 * Threads: one struct calls belongs to one thread. */
#ifndef FB_STREAM_CONNECTORS_PUBSUB_CALL_H
#define FB_STREAM_CONNECTORS_PUBSUB_CALL_H
#include "base/buf.h"
#include "base/error.h"

#include <curl/curl.h>

enum grpc_status {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_UNAVAILABLE = 14,
    GRPC_UNAUTHENTICATED = 16,
    GRPC_NONE = 99 /* no answer at all: see <transport> */
};

struct call {
    struct calls *owner;
    CURL *easy;
    struct curl_slist *headers;
    struct buf request, answer; /* gRPC: with the prefix */
    char error[CURL_ERROR_SIZE];
    bool is_grpc, is_done;
    CURLcode transport;
    long http;
    /* gRPC, when done */
    enum grpc_status status;
    char message[256];  /* what the server said, printable */
    struct buf details; /* google.rpc.Status, "" none */
};

struct calls {
    CURLM *multi;
    const char *ca_file; /* "" the system's */
    bool (*is_stopping)(void *ctx);
    void *ctx;
    bool is_suspect; /* a call timed out: its connection may be dead, the next opens another */
};

FB_MUST_USE
bool calls_init(struct calls *cs); /* the other fields stay as they are; false without memory */
void calls_fini(struct calls *cs); /* all calls must be freed */

struct call_grpc {
    const char *base;   /* "https://pubsub.googleapis.com" */
    const char *method; /* "google.pubsub.v1.Publisher/Publish" */
    const char *token;  /* "" none; never sent over http:// */
    uint32_t timeout_ms;
};
/* <request> becomes the call's and is empty after this.  NULL without memory. */
struct call *call_grpc(struct calls *cs, const struct call_grpc *how, struct buf *request);
/* POST of a form when <body> is not empty, else GET; <header> may be NULL. */
struct call *call_http(struct calls *cs, const char *url, struct span body, const char *header,
                       uint32_t timeout_ms);
void call_free(struct call *call); /* NULL is fine */

/* Moves all calls on; waits at most <ms>, less when something happens or a stop comes. */
void calls_drive(struct calls *cs, uint32_t ms);
/* Until <call> is done; false: a stop came first. */
FB_MUST_USE
bool calls_wait(struct calls *cs, struct call *call);

/* The message of a gRPC answer; false: there is not exactly one whole, uncompressed message. */
FB_MUST_USE
bool call_message(const struct call *call, struct span *message);
/* One header line as libcurl gives it; for tests, too. */
void call_header(struct call *call, struct span line);
/* "UNAVAILABLE" */
const char *grpc_status_name(enum grpc_status status);
#endif
