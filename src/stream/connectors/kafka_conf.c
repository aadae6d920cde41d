/* SPDX-License-Identifier: Apache-2.0 */
/* Settings, credentials, and what the library says about the connection.
 *
 * retry.backoff.ms 2: with librdkafka's 100 each small transaction took 87-117 ms, with 2 it took
 * 11 (the broker answers CONCURRENT_TRANSACTIONS for some ms after each).  linger 0: the runner has
 * made blocks already; 5 ms (the library's default) only add themselves to the delay. */
#include "base/clock.h"
#include "stream/connectors/kafka_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Before it the client's nonce was sent twice, which brokers refuse since Kafka 4.0. */
#define SCRAM_WHOLE_VERSION 0x020601ff
#define WAITS_LONG_US (1500 * US_PER_MS)
#define RECONNECT_MAX_MS "2000" /* a broker that is back is found within 2 s */

const char *kafka_value(const struct connector *c, const char *key)
{
    return c->setup.value(c->setup.conf, key);
}

enum fb_code kafka_secret(const struct connector *c, const char *key, char *out, size_t size,
                          struct fb_err *err)
{
    const char *path = kafka_value(c, key);
    out[0] = '\0';
    if (!path[0])
        return FB_OK;
    FILE *f = fopen(path, "re");
    bool is_read = f && fgets(out, (int)size, f) != NULL;
    int why = errno;
    if (f)
        fclose(f);
    out[strcspn(out, "\r\n")] = '\0';
    if (is_read && out[0])
        return FB_OK;
    return fb_fail(err, FB_E_CONFIG, "connectors.%s.%s %s: %s", c->setup.name, key, path,
                   f ? "is empty" : strerror(why));
}

#ifdef FB_EVENTHUBS
/* The value of <name>= in a connection string; <out> "" when it has none. */
static void string_part(const char *text, const char *name, char *out, size_t size)
{
    size_t len = strlen(name);
    out[0] = '\0';
    for (const char *at = text; *at; at += strcspn(at, ";"), at += *at == ';')
        if (strncasecmp(at, name, len) == 0 && at[len] == '=') {
            snprintf(out, size, "%.*s", (int)strcspn(at + len + 1, ";"), at + len + 1);
            return;
        }
}

/* What the endpoint would refuse without saying why. */
static enum fb_code read_rights(const struct connector *c, const char *hub, struct fb_err *err)
{
    static const char *const parts[] = {"SharedAccessKeyName", "SharedAccessKey"};
    const char *topic = kafka_value(c, "topic");
    char part[600];
    for (size_t i = 0; i < FB_COUNT(parts); i++) {
        string_part(c->password, parts[i], part, sizeof part);
        bool is_there = part[0] != '\0';
        memset(part, 0, sizeof part);
        if (!is_there)
            return fb_fail(err, FB_E_CONFIG,
                           "connectors.%s.connection_string_file has no %s=...; copy the whole "
                           "string that the portal shows",
                           c->setup.name, parts[i]);
    }
    if (hub[0] && topic[0] && strcmp(hub, topic) != 0)
        return fb_fail(err, FB_E_CONFIG,
                       "connectors.%s.connection_string_file is for the event hub %.100s "
                       "(EntityPath), `topic` says %.100s: take the string of that one, or of the "
                       "namespace",
                       c->setup.name, hub, topic);
    return FB_OK;
}

/* Endpoint=sb://NAME.servicebus.windows.net/;SharedAccessKeyName=...;EntityPath=HUB */
static enum fb_code read_place(struct connector *c, struct fb_err *err)
{
    char endpoint[KAFKA_TEXT] = "", hub[256] = "";
    enum fb_code code =
        kafka_secret(c, "connection_string_file", c->password, sizeof c->password, err);
    if (code != FB_OK)
        return code;
    snprintf(c->user, sizeof c->user, "$ConnectionString");
    snprintf(c->brokers, sizeof c->brokers, "%s", kafka_value(c, "brokers"));
    snprintf(c->topics, sizeof c->topics, "%s", kafka_value(c, "topic"));
    string_part(c->password, "Endpoint", endpoint, sizeof endpoint);
    string_part(c->password, "EntityPath", hub, sizeof hub);
    if (!c->topics[0])
        snprintf(c->topics, sizeof c->topics, "%s", hub);
    const char *host = strncmp(endpoint, "sb://", 5) == 0 ? endpoint + 5 : "";
    if (!c->brokers[0] && host[0])
        snprintf(c->brokers, sizeof c->brokers, "%.*s:9093", (int)strcspn(host, "/:"), host);
    if (c->password[0] && !host[0])
        return fb_fail(err, FB_E_CONFIG,
                       "connectors.%s.connection_string_file has no Endpoint=sb://...; copy the "
                       "whole string that the portal shows",
                       c->setup.name);
    if (c->password[0])
        code = read_rights(c, hub, err);
    if (code != FB_OK)
        return code;
    if (!c->brokers[0])
        return fb_fail(
            err, FB_E_CONFIG,
            "connectors.%s needs `connection_string_file`, or `brokers` with `token_url`, "
            "`token_command` or `token_file`",
            c->setup.name);
    if (!c->topics[0])
        return fb_fail(err, FB_E_CONFIG,
                       "connectors.%s needs `topic`: the connection string has no EntityPath",
                       c->setup.name);
    return FB_OK;
}
#else
static enum fb_code read_place(struct connector *c, struct fb_err *err)
{
    snprintf(c->brokers, sizeof c->brokers, "%s", kafka_value(c, "brokers"));
    snprintf(c->topics, sizeof c->topics, "%s", kafka_value(c, "topic"));
    snprintf(c->user, sizeof c->user, "%s", kafka_value(c, "username"));
    c->is_transactional = strcmp(kafka_value(c, "transactions"), "true") == 0;
    return kafka_secret(c, "password_file", c->password, sizeof c->password, err);
}
#endif

enum fb_code kafka_conf_read(struct connector *c, struct fb_err *err)
{
    enum fb_code code = read_place(c, err);
    if (code == FB_OK && !c->setup.is_source && strchr(c->topics, ','))
        code = fb_fail(err, FB_E_CONFIG, "connectors.%s: a sink has one topic", c->setup.name);
    return code;
}

/* ---- what the library says ---- */
/* Without " (after 302ms in state AUTH_REQ, 1 identical error(s) suppressed)". */
static int plain_length(const char *reason, int max)
{
    const char *end = strstr(reason, " (after ");
    size_t len = end ? (size_t)(end - reason) : strlen(reason);
    return len < (size_t)max ? (int)len : max;
}

static void note_passing(struct connector *c, const char *reason)
{
    snprintf(c->passing_text, sizeof c->passing_text, "%.*s", plain_length(reason, 250), reason);
}

static const char *login_keys(const struct connector *c)
{
#ifdef FB_EVENTHUBS
    if (c->password[0])
        return "`connection_string_file`";
#else
    if (strcmp(kafka_value(c, "sasl"), "oauthbearer") != 0)
        return "`username` and `password_file`";
#endif
    (void)c;
    return "the token of `token_url`, `token_command` or `token_file`";
}

/* librdkafka tries again for ever whatever is wrong: what only a person can mend is told apart. */
static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    struct connector *c = opaque;
    char text[300];
    if (code == RD_KAFKA_RESP_ERR__FATAL)
        code = rd_kafka_fatal_error(rk, text, sizeof text);
    bool is_login = code == RD_KAFKA_RESP_ERR__AUTHENTICATION ||
                    code == RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED;
    if (is_login && c->bad != FB_OK)
        return; /* said better already (kafka_token.c) */
    /* A handshake that a dying broker cut short says "SSL" too; a bad certificate is named. */
    bool is_tls = code == RD_KAFKA_RESP_ERR__SSL &&
                  (strstr(reason, "certificate") || strstr(reason, "unknown ca"));
    bool is_right = code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
                    code == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED ||
                    code == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED ||
                    code == RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    if (!is_login && !is_tls && !is_right) {
        /* "all are down" says less than what it was for each, which came just before. */
        bool is_all = code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
        c->is_down |= is_all;
        if (!is_all || !c->passing_text[0])
            note_passing(c, reason);
        return;
    }
    c->bad = is_tls ? FB_E_CONFIG : FB_E_DENIED;
    int len = snprintf(c->bad_text, sizeof c->bad_text, "%.*s; see %s of connectors.%s",
                       plain_length(reason, 220), reason,
                       is_login ? login_keys(c)
                       : is_tls ? "`ca_file`"
                                : "the rights of its user",
                       c->setup.name);
    if (is_login && c->is_scram && rd_kafka_version() < SCRAM_WHOLE_VERSION)
        snprintf(c->bad_text + len, sizeof c->bad_text - (size_t)len,
                 "; librdkafka %s cannot do SCRAM with Kafka 4 (2.6.1 can): see doc/guide/kafka.md",
                 rd_kafka_version_str());
}

enum fb_code kafka_complaint(const struct connector *c, struct fb_err *err)
{
    return c->bad == FB_OK ? FB_OK : fb_fail(err, c->bad, "%s", c->bad_text);
}

enum fb_code kafka_no_answer(const struct connector *c, enum fb_code code, struct fb_err *err)
{
#ifdef FB_EVENTHUBS
    const char *next =
        kafka_value(c, "brokers")[0] ? "`brokers`" : "Endpoint= in `connection_string_file`";
#else
    bool is_tls = strcmp(kafka_value(c, "tls"), "true") == 0;
    const char *next = is_tls ? "`brokers`, and whether that port has TLS (`tls`)"
                              : "`brokers`; a port with TLS wants `tls: true`";
#endif
    return fb_fail(err, code, "%.150s: no answer%s%.170s; see %s", c->brokers,
                   c->passing_text[0] ? ": " : "", c->passing_text, next);
}

void kafka_call(struct connector *c)
{
    c->call_us = fb_mono_us();
    c->is_told = false;
}

void kafka_moves(struct connector *c)
{
    kafka_call(c);
    c->is_down = false;
}

void kafka_waits(struct connector *c)
{
    struct fb_err err;
    if (c->is_told || !c->setup.trouble || c->bad != FB_OK ||
        (!c->is_down && fb_mono_us() - c->call_us < WAITS_LONG_US))
        return;
    kafka_no_answer(c, FB_E_AGAIN, &err);
    c->is_told = true;
    c->setup.trouble(c->setup.ctx, &err);
}

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk, (void)level, (void)facility, (void)text; /* on_error has what matters, once */
}

/* ---- settings ---- */
struct settings {
    rd_kafka_conf_t *conf;
    bool is_bad;
    char why[300];
};

static void set(struct settings *s, const char *key, const char *value)
{
    char text[256];
    if (s->is_bad || rd_kafka_conf_set(s->conf, key, value, text, sizeof text) == RD_KAFKA_CONF_OK)
        return;
    s->is_bad = true;
    snprintf(s->why, sizeof s->why, "%s", text);
}

static void set_key(struct settings *s, const struct connector *c, const char *name,
                    const char *key)
{
    const char *value = kafka_value(c, key);
    if (value[0])
        set(s, name, value);
}

static void set_oauth(struct settings *s)
{
    set(s, "sasl.mechanisms", "OAUTHBEARER");
    rd_kafka_conf_set_oauthbearer_token_refresh_cb(s->conf, kafka_token);
}

static void set_security(struct settings *s, struct connector *c)
{
#ifdef FB_EVENTHUBS
    bool is_tls = true, is_sasl = true, is_oauth = !c->password[0];
    const char *mechanism = "PLAIN";
#else
    const char *sasl = kafka_value(c, "sasl");
    bool is_tls = strcmp(kafka_value(c, "tls"), "true") == 0, is_sasl = strcmp(sasl, "none") != 0;
    bool is_oauth = strcmp(sasl, "oauthbearer") == 0;
    const char *mechanism = strcmp(sasl, "plain") == 0           ? "PLAIN"
                            : strcmp(sasl, "scram-sha-256") == 0 ? "SCRAM-SHA-256"
                                                                 : "SCRAM-SHA-512";
#endif
    set(s, "security.protocol",
        is_tls ? (is_sasl ? "SASL_SSL" : "SSL") : (is_sasl ? "SASL_PLAINTEXT" : "PLAINTEXT"));
    if (is_tls)
        set_key(s, c, "ssl.ca.location", "ca_file");
#ifndef FB_EVENTHUBS
    if (is_tls) {
        set_key(s, c, "ssl.certificate.location", "cert_file");
        set_key(s, c, "ssl.key.location", "key_file");
    }
#endif
    if (is_oauth) {
        set_oauth(s);
    } else if (is_sasl) {
        set(s, "sasl.mechanisms", mechanism);
        c->is_scram = strncmp(mechanism, "SCRAM", 5) == 0;
        set(s, "sasl.username", c->user);
        set(s, "sasl.password", c->password);
    }
}

static void set_sink(struct settings *s, const struct connector *c)
{
    char text[64];
    set_key(s, c, "linger.ms", "linger");
#ifdef FB_EVENTHUBS
    /* A request over 1,046,528 bytes costs the connection. */
    set(s, "message.max.bytes", "1000000");
    set(s, "compression.codec", "none");
    set(s, "enable.idempotence", "true");
#else
    set_key(s, c, "message.max.bytes", "message_max");
    set_key(s, c, "compression.codec", "compression");
    set_key(s, c, "request.required.acks", "acks");
    /* Without all acknowledgements the broker cannot tell repeats. */
    bool is_idempotent = strcmp(kafka_value(c, "acks"), "all") == 0;
    set(s, "enable.idempotence", is_idempotent ? "true" : "false");
    if (c->is_transactional)
        set(s, "transactional.id", c->id);
#endif
    snprintf(text, sizeof text, "%llu",
             strtoull(kafka_value(c, "timeout"), NULL, 10) + 60000); /* send gives up before */
    set(s, "message.timeout.ms", text);
    if (c->is_transactional)
        set(s, "transaction.timeout.ms", text);
    rd_kafka_conf_set_dr_msg_cb(s->conf, kafka_delivered);
}

static void set_source(struct settings *s, const struct connector *c)
{
    set_key(s, c, "group.id", "group");
    set(s, "auto.offset.reset", kafka_value(c, "start"));
    set(s, "enable.auto.commit", "false");
    set(s, "enable.auto.offset.store", "false");
    set(s, "isolation.level", "read_committed");
    set(s, "enable.partition.eof", "true");       /* for kafka_lag.c */
    set(s, "queued.max.messages.kbytes", "8192"); /* waiting here; the broker keeps the rest */
#ifdef FB_EVENTHUBS
    set(s, "session.timeout.ms", "30000");
#else
    set(s, "session.timeout.ms", "10000"); /* after a kill the group waits so long for us */
#endif
    rd_kafka_conf_set_rebalance_cb(s->conf, kafka_rebalance);
}

/* What every handle has; the callbacks work on <c>. */
static void set_common(struct settings *s, struct connector *c)
{
    set(s, "bootstrap.servers", c->brokers);
    set(s, "client.id", c->id);
    set(s, "retry.backoff.ms", "2");
    set(s, "reconnect.backoff.max.ms", RECONNECT_MAX_MS);
    set(s, "socket.keepalive.enable", "true");
    set(s, "metadata.max.age.ms", "180000");
    set(s, "connections.max.idle.ms", "180000");
    set(s, "log.connection.close", "false");
    set_security(s, c);
    rd_kafka_conf_set_error_cb(s->conf, on_error);
    rd_kafka_conf_set_log_cb(s->conf, on_log);
    rd_kafka_conf_set_opaque(s->conf, c);
}

static enum fb_code make(struct connector *c, struct settings *s, rd_kafka_type_t kind,
                         rd_kafka_t **out, struct fb_err *err)
{
    char text[256];
    *out = s->is_bad ? NULL : rd_kafka_new(kind, s->conf, text, sizeof text);
    if (*out)
        return FB_OK;
    rd_kafka_conf_destroy(s->conf);
    return fb_fail(err, FB_E_CONFIG, "connectors.%s: %s", c->setup.name, s->is_bad ? s->why : text);
}

enum fb_code kafka_start(struct connector *c, struct fb_err *err)
{
    if (c->rk)
        return FB_OK;
    struct settings s = {.conf = rd_kafka_conf_new()};
    c->bad = FB_OK;
    c->passing_text[0] = '\0';
    c->started_us = fb_mono_us();
    c->is_down = c->is_reached = false;
    set_common(&s, c);
    if (c->setup.is_source)
        set_source(&s, c);
    else
        set_sink(&s, c);
    enum fb_code code =
        make(c, &s, c->setup.is_source ? RD_KAFKA_CONSUMER : RD_KAFKA_PRODUCER, &c->rk, err);
    /* A check looks on from outside: to join the group would take partitions from its members. */
    if (code == FB_OK && c->setup.is_source && !c->setup.state_dir[0])
        rd_kafka_poll_set_consumer(c->rk);
    else if (code == FB_OK && c->setup.is_source)
        code = kafka_subscribe(c, err);
    return code;
}

enum fb_code kafka_asker(struct connector *c, const char *group, bool is_stable, rd_kafka_t **out,
                         struct fb_err *err)
{
    struct settings s = {.conf = rd_kafka_conf_new()};
    set_common(&s, c);
    set(&s, "group.id", group);
    set(&s, "enable.auto.commit", "false");
    /* stable: not before a pending one is decided */
    set(&s, "isolation.level", is_stable ? "read_committed" : "read_uncommitted");
    return make(c, &s, RD_KAFKA_CONSUMER, out, err);
}

void kafka_drop(struct connector *c)
{
    if (!c->rk)
        return;
    if (c->held)
        rd_kafka_message_destroy(c->held);
    c->held = NULL;
    c->is_begun = c->is_session = false;
    if (!c->setup.is_source)
        rd_kafka_purge(c->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    /* Without leaving the group politely: that waits for a broker that may be away. */
    rd_kafka_destroy_flags(c->rk, c->setup.is_source ? 0 : RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    c->rk = NULL;
    kafka_assigned(c, NULL);
}
