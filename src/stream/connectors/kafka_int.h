/* SPDX-License-Identifier: Apache-2.0 */
/* kafka_int: what the files of the Kafka connector share.  Event Hubs is the same library with
 * FB_EVENTHUBS: its address and password come from a connection string, and what its endpoint does
 * not have (topics by request, transactions, compression) is not asked for. */
#ifndef FB_STREAM_CONNECTORS_KAFKA_INT_H
#define FB_STREAM_CONNECTORS_KAFKA_INT_H
#include "stream/connectors/connector.h"
#include "stream/connectors/exec_call.h"

#include <librdkafka/rdkafka.h>

#define KAFKA_TEXT 600
#define KAFKA_TOPICS_MAX 16
#define KAFKA_TOKEN_BYTES 8192

struct connector {
    struct connector_setup setup;
    char brokers[KAFKA_TEXT], topics[KAFKA_TEXT], password[2400], user[256];
    rd_kafka_t *rk; /* NULL: made at the next call */
    bool is_transactional, is_begun;
    /* Transactions: the session is prepared; it was ended from outside. */
    bool is_session, is_claimed, is_fenced;
    char id[160];               /* transactional.id, and the group whose offset is the mark */
    struct connector_mark mark; /* of the transaction that is open */
    uint64_t marked;            /* the offset that was committed last in this session */
    /* The last word of the library: of the kind that a person must mend, or that passes. */
    enum fb_code bad;
    char bad_text[460], passing_text[300];
    bool is_scram;
    bool is_down, is_told; /* no broker at all can be reached; what this call waits for was said */
    bool is_reached;       /* by this handle, once */
    uint64_t started_us;
    uint64_t call_us; /* when the call began, or came further */
    /* sink: reports of one send */
    struct connector_batch *batch;
    uint32_t open;
    char record_text[200];
    enum fb_code record_code;
    /* the newest bearer token, "" none */
    char token[KAFKA_TOKEN_BYTES];
    int64_t token_end_ms; /* since 1970 */
    struct exec_call token_call;
    /* source */
    rd_kafka_message_t *held;                  /* <each> had no room for it */
    rd_kafka_topic_partition_list_t *assigned; /* kafka_lag.c; NULL: none */
    uint32_t known, era;                       /* of them, where it is known; changes with either */
    bool is_giving_back; /* partitions: positions are committed before it goes on */
};

const char *kafka_value(const struct connector *c, const char *key);
/* kafka_conf.c: the settings of both directions; credentials are read from their files here. */
FB_MUST_USE
enum fb_code kafka_conf_read(struct connector *c, struct fb_err *err);
/* First line of the file that <key> names; "" when the key is not given. */
FB_MUST_USE
enum fb_code kafka_secret(const struct connector *c, const char *key, char *out, size_t size,
                          struct fb_err *err);
/* kafka_oidc.c: a token of `token_url`, and how long it is good by the answer; 0 unsaid. */
FB_MUST_USE
enum fb_code kafka_oidc(struct connector *c, char out[KAFKA_TOKEN_BYTES], uint32_t *life_s,
                        struct fb_err *err);
/* kafka_token.c: the library wants a token. */
void kafka_token(rd_kafka_t *rk, const char *config, void *opaque);
FB_MUST_USE
enum fb_code kafka_start(struct connector *c, struct fb_err *err);
/* A consumer of the group <group> beside the handle, to ask for its offsets. */
FB_MUST_USE
enum fb_code kafka_asker(struct connector *c, const char *group, bool is_stable, rd_kafka_t **out,
                         struct fb_err *err);
void kafka_drop(struct connector *c); /* the handle, with what it still holds */
/* FB_OK, or what a person must mend, as one sentence. */
enum fb_code kafka_complaint(const struct connector *c, struct fb_err *err);
/* Nobody answers: what the library said last, and which key to look at. */
enum fb_code kafka_no_answer(const struct connector *c, enum fb_code code, struct fb_err *err);
/* A call begins; the cluster answered. */
void kafka_call(struct connector *c);
void kafka_moves(struct connector *c);
/* In each turn of a call that waits: says why, when it waits long or no broker can be reached. */
void kafka_waits(struct connector *c);
/* kafka_source.c */
FB_MUST_USE
enum fb_code kafka_subscribe(struct connector *c, struct fb_err *err);
void kafka_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t what,
                     rd_kafka_topic_partition_list_t *list, void *opaque);
enum fb_code kafka_receive(struct connector *c, connector_each *each, void *arg,
                           uint32_t timeout_ms, struct fb_err *err);
enum fb_code kafka_commit(struct connector *c, const struct connector_done *done, uint32_t count,
                          struct fb_err *err);
/* kafka_lag.c */
void kafka_assigned(struct connector *c, const rd_kafka_topic_partition_list_t *list);
void kafka_is_at_end(struct connector *c, const rd_kafka_message_t *m); /* as an error tells */
bool kafka_place(struct connector *c, struct connector_place *place);
/* kafka_session.c: transactions.  Each step is called until it is final, for at most <until_us>. */
enum kafka_step { KAFKA_INIT, KAFKA_MARK, KAFKA_COMMIT };
enum fb_code kafka_step(struct connector *c, enum kafka_step step, uint64_t until_us,
                        struct fb_err *err);
/* A handle with a session in which a transaction can begin. */
FB_MUST_USE
enum fb_code kafka_session(struct connector *c, uint64_t until_us, struct fb_err *err);
FB_MUST_USE
enum fb_code kafka_begin(struct connector *c, struct fb_err *err);
enum fb_code kafka_mark(struct connector *c, struct connector_mark *mark, struct fb_err *err);
bool kafka_must_give_up(const struct connector *c, uint64_t until_us);
/* kafka_sink.c */
enum fb_code kafka_send(struct connector *c, struct connector_batch *batch, struct fb_err *err);
void kafka_delivered(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque);
#endif
