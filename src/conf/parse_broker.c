/* SPDX-License-Identifier: Apache-2.0 */
/* connectors: what a broker would refuse, or what says nothing there, refused at its line: names
 * that are none, keys that belong together, addresses.  What stands in files is looked at by the
 * library of the type (`config check` opens it); what only the broker knows, by `connector check`.
 */
#include "conf/conf_int.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

struct one {
    struct reader *rd;
    const struct node *n;
    const struct conf_connector *c;
};

static const char *get(const struct one *o, const char *key)
{
    const char *v = conf_connector_value(o->c, key);
    return v ? v : "";
}

static bool is(const struct one *o, const char *key, const char *value)
{
    return strcmp(get(o, key), value) == 0;
}

/* Where the key stands; else the connector. */
static const struct node *at(const struct one *o, const char *key)
{
    for (const struct node *k = o->n->first; k; k = k->next)
        if (span_eq(k->key->text, span_of(key)))
            return k;
    return o->n->key;
}

static bool is_given(const struct one *o, const char *key)
{
    return at(o, key) != o->n->key;
}

#define WRONG(o, key, fmt, ...)                                                                    \
    problem((o)->rd, at(o, key), "%s.%s.%s: " fmt, (o)->c->section, (o)->c->name, key, __VA_ARGS__)

static void must_be_given(const struct one *o, const char *key, const char *because)
{
    if (!get(o, key)[0])
        problem(o->rd, o->n->key, "%s.%s needs `%s` %s", o->c->section, o->c->name, key, because);
}

/* A key that would be read by nobody. */
static void must_not_be_given(const struct one *o, const char *key, const char *because)
{
    if (is_given(o, key))
        WRONG(o, key, "it says nothing %s", because);
}

/* ... that does no harm there, and is left where directions share their keys. */
static void is_of_the_other(const struct one *o, const char *key)
{
    if (is_given(o, key) && !o->c->is_fleet)
        problem_warn(o->rd, at(o, key), "%s.%s.%s says nothing in a %s", o->c->section, o->c->name,
                     key, o->c->is_source ? "source" : "sink");
}

static bool is_made_of(struct span s, const char *more)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char ch = (unsigned char)s.at[i];
        if (ch >= 0x80 || (!isalnum(ch) && (ch == '\0' || !strchr(more, ch))))
            return false;
    }
    return s.len > 0;
}

static bool is_edged_by_letters(struct span s)
{
    return s.len && isalnum((unsigned char)s.at[0]) && isalnum((unsigned char)s.at[s.len - 1]);
}

static uint32_t count_of(const char *list)
{
    uint32_t count = 0;
    for (struct span rest = span_of(list); rest.len; count++)
        (void)span_cut(rest, ',', &rest);
    return count;
}

/* HOST:PORT, [IPv6]:PORT or HOST alone. */
static bool is_address(struct span s)
{
    struct span host, port;
    uint64_t number = 0;
    bool has_port, is_ip6 = s.len && s.at[0] == '[';
    if (is_ip6) {
        host = span_cut((struct span){s.at + 1, s.len - 1}, ']', &port);
        has_port = port.len > 0;
        if (host.len + 2 > s.len || (has_port && port.at[0] != ':'))
            return false;
        port = (struct span){port.at + has_port, port.len - has_port};
    } else {
        host = span_cut(s, ':', &port);
        has_port = host.len < s.len;
    }
    bool is_host = is_made_of(host, is_ip6 ? ":.%" : ".-_");
    return is_host && (!has_port || (span_to_u64(port, &number) && number >= 1 && number <= 65535));
}

static void check_address_list(const struct one *o, const char *key)
{
    for (struct span rest = span_of(get(o, key)); rest.len;) {
        struct span one = span_trim(span_cut(rest, ',', &rest));
        if (!is_address(one))
            WRONG(o, key, "\"%.*s\" is no address; write HOST:PORT, such as broker-1:9093",
                  SHOWN(one));
    }
}

static void check_url_of(const struct one *o, const char *key, const char *example)
{
    const char *url = get(o, key);
    size_t scheme = strncmp(url, "https://", 8) == 0 ? 8 : strncmp(url, "http://", 7) == 0 ? 7 : 0;
    if (*url && (!scheme || !url[scheme] || strchr("/?#", url[scheme])))
        WRONG(o, key, "\"%.80s\" is no URL; write for example %s", url, example);
}

/* A certificate is shown with its key, or not at all; files for TLS are read with TLS only. */
static void check_tls_keys(const struct one *o, bool is_on)
{
    static const char *const keys[] = {"ca_file", "cert_file", "key_file", "server_name"};
    for (size_t i = 0; !is_on && i < FB_COUNT(keys); i++)
        must_not_be_given(o, keys[i], "without `tls: true`; add that, or leave it out");
    if (is_given(o, "cert_file") && !is_given(o, "key_file"))
        WRONG(o, "cert_file", "it needs `key_file`, the private key of \"%.120s\"",
              get(o, "cert_file"));
    if (is_given(o, "key_file") && !is_given(o, "cert_file"))
        WRONG(o, "key_file", "it needs `cert_file`, the certificate of \"%.120s\"",
              get(o, "key_file"));
}

/* ---- Kafka and Event Hubs ---- */
static void check_tokens(const struct one *o)
{
    static const char *const of_url[] = {"client_id", "client_secret_file", "scope",
                                         "token_ca_file"};
    bool has_url = is_given(o, "token_url");
    check_url_of(o, "token_url", "https://login.example.com/oauth2/token");
    struct span url = span_of(get(o, "token_url"));
    if (has_url && span_starts(url, SPAN("http://")) && !span_starts(url, SPAN("http://127.")) &&
        !span_starts(url, SPAN("http://localhost")) && !span_starts(url, SPAN("http://[::1]")))
        WRONG(o, "token_url",
              "https://...: the secret of the client would go through the net in the clear, got "
              "\"%.120s\"",
              get(o, "token_url"));
    for (size_t i = 0; i < FB_COUNT(of_url); i++)
        if (!has_url)
            must_not_be_given(o, of_url[i], "without `token_url`");
        else if (i < 2)
            must_be_given(o, of_url[i], "with `token_url`: the provider asks who wants a token");
    if (has_url && is_given(o, "token_file"))
        WRONG(o, "token_file", "one of it and `token_url`, got both (\"%.100s\")",
              get(o, "token_file"));
}

static bool has_token(const struct one *o)
{
    return get(o, "token_url")[0] || get(o, "token_file")[0] || get(o, "token_command")[0];
}

static void must_have_no_token(const struct one *o, const char *because)
{
    static const char *const keys[] = {"token_url", "token_file", "token_command"};
    for (size_t i = 0; i < FB_COUNT(keys); i++)
        must_not_be_given(o, keys[i], because);
}

static void check_topics(const struct one *o, size_t most, bool is_hub)
{
    const char *list = get(o, "topic");
    for (struct span rest = span_of(list); rest.len;) {
        struct span one = span_cut(rest, ',', &rest);
        bool is_dots = span_eq(one, SPAN(".")) || span_eq(one, SPAN(".."));
        if (!is_made_of(one, "._-") || one.len > most || is_dots ||
            (is_hub && !is_edged_by_letters(one)))
            WRONG(o, "topic", "\"%.*s\" is no name of %s: 1..%zu letters, digits, `.`, `_`, `-`%s",
                  SHOWN(one), is_hub ? "an event hub" : "a topic", most,
                  is_hub ? ", letters or digits at both ends" : "");
    }
    if (!o->c->is_source && count_of(list) > 1)
        WRONG(o, "topic", "a sink has one topic, got %u; add a connector for each", count_of(list));
}

static void check_kafka(const struct one *o)
{
    bool is_on = is(o, "tls", "true");
    bool is_password = strncmp(get(o, "sasl"), "scram", 5) == 0 || is(o, "sasl", "plain");
    check_address_list(o, "brokers");
    check_topics(o, 249, false);
    check_tls_keys(o, is_on);
    check_tokens(o);
    if (is_password) {
        must_be_given(o, "username", "for the login by password");
        must_be_given(o, "password_file", "for the login by password");
    } else {
        must_not_be_given(o, "username", "without `sasl: plain`, scram-sha-256 or scram-sha-512");
        must_not_be_given(o, "password_file", "without `sasl: plain`, scram-sha-256 or -512");
    }
    if (!is(o, "sasl", "oauthbearer"))
        must_have_no_token(o, "without `sasl: oauthbearer`");
    else if (!has_token(o))
        WRONG(o, "sasl", "%s needs one of `token_url`, `token_command` and `token_file`",
              "oauthbearer");
    if (is(o, "transactions", "true") && !is(o, "acks", "all"))
        WRONG(o, "acks", "transactions need `acks: all`, got %.10s", get(o, "acks"));
    if (!o->c->is_source) {
        is_of_the_other(o, "group");
        must_not_be_given(o, "start", "in a sink; `from` tells where it begins in the log");
    }
}

static void check_eventhubs(const struct one *o)
{
    bool has_string = is_given(o, "connection_string_file");
    check_address_list(o, "brokers");
    check_topics(o, 256, true);
    check_tokens(o);
    if (has_string) {
        must_have_no_token(o, "with `connection_string_file`: that holds a key");
    } else if (!has_token(o) || !get(o, "brokers")[0]) {
        problem(o->rd, o->n->key,
                "%s.%s needs `connection_string_file`, or `brokers` with one of `token_url`, "
                "`token_command` and `token_file`",
                o->c->section, o->c->name);
    } else {
        must_be_given(o, "topic", "without a connection string: the name of the event hub");
    }
    if (!o->c->is_source) {
        is_of_the_other(o, "group");
        must_not_be_given(o, "start", "in a sink; `from` tells where it begins in the log");
    }
}

/* ---- Kinesis ---- */
static bool is_aws_region(struct span s)
{
    bool has_line = s.len && memchr(s.at, '-', s.len);
    for (size_t i = 0; i < s.len; i++)
        if (isupper((unsigned char)s.at[i]))
            return false;
    return has_line && s.len >= 4 && s.len <= 38 && is_made_of(s, "-") && is_edged_by_letters(s);
}

static bool is_stream(struct span s)
{
    return s.len <= 128 && is_made_of(s, "._-");
}

/* arn:aws:kinesis:REGION:ACCOUNT:stream/NAME */
static void check_arn(const struct one *o, struct span arn)
{
    struct span part[6], rest = arn;
    for (size_t i = 0; i < FB_COUNT(part) - 1; i++)
        part[i] = span_cut(rest, ':', &rest);
    part[5] = rest;
    struct span name = {"", 0}, head = span_cut(part[5], '/', &name);
    if (!span_starts(part[1], SPAN("aws")) || !span_eq(part[2], SPAN("kinesis")) ||
        !is_made_of(part[4], "") || !span_eq(head, SPAN("stream")) || !is_stream(name))
        WRONG(o, "stream",
              "\"%.*s\" is no ARN of a stream; write arn:aws:kinesis:REGION:ACCOUNT:stream/NAME",
              SHOWN(arn));
    else if (!span_eq(part[3], span_of(get(o, "aws_region"))))
        WRONG(o, "stream", "its region is %.*s, `aws_region` says %.40s: they must be the same",
              SHOWN(part[3]), get(o, "aws_region"));
}

static void check_kinesis(const struct one *o)
{
    struct span stream = span_of(get(o, "stream")), region = span_of(get(o, "aws_region"));
    if (region.len && !is_aws_region(region))
        WRONG(o, "aws_region", "\"%.*s\" is no region of AWS; write for example eu-central-1",
              SHOWN(region));
    else if (span_starts(stream, SPAN("arn:")))
        check_arn(o, stream);
    else if (is_given(o, "stream") && !is_stream(stream))
        WRONG(o, "stream",
              "\"%.*s\" is no name of a stream: 1..128 letters, digits, `.`, `_`, `-`, or an ARN",
              SHOWN(stream));
    check_url_of(o, "endpoint", "https://vpce-1.kinesis.eu-central-1.vpce.amazonaws.com");
    check_url_of(o, "metadata_endpoint", "http://169.254.169.254");
    if (is(o, "credentials", "file"))
        must_be_given(o, "credentials_file", "with `credentials: file`");
    else if (!is(o, "credentials", "auto"))
        must_not_be_given(o, "credentials_file", "with `credentials` from elsewhere");
    if (is_given(o, "pack") && !o->c->is_per_event)
        must_not_be_given(o, "pack", "without `per: event`: a block is one record");
    if (!o->c->is_source)
        is_of_the_other(o, "poll");
}

/* ---- Pub/Sub ---- */
static bool is_resource(struct span s)
{
    return s.len >= 3 && s.len <= 255 && isalpha((unsigned char)s.at[0]) &&
           is_made_of(s, "-_.~+%") && !span_starts(s, SPAN("goog"));
}

static void check_pubsub(const struct one *o)
{
    const char *key = o->c->is_source ? "subscription" : "topic";
    char between[24];
    must_be_given(o, key, o->c->is_source ? "in a source" : "in a sink");
    must_not_be_given(o, o->c->is_source ? "topic" : "subscription",
                      o->c->is_source ? "in a source; name its `subscription`"
                                      : "in a sink; name its `topic`");
    struct span name = span_of(get(o, key)), project = {"", 0};
    if (span_starts(name, SPAN("projects/"))) {
        struct span rest;
        int len = snprintf(between, sizeof between, "%ss", key);
        project = span_cut((struct span){name.at + 9, name.len - 9}, '/', &rest);
        struct span kind = span_cut(rest, '/', &name);
        if (!project.len || !span_eq(kind, (struct span){between, (size_t)len}))
            WRONG(o, key, "must be NAME or projects/PROJECT/%s/NAME, got \"%.100s\"", between,
                  get(o, key));
    }
    if (name.len && !is_resource(name))
        WRONG(o, key,
              "\"%.*s\" is no name of a %s: 3..255 letters, digits, `-_.~+%%`, a letter first, not "
              "goog",
              SHOWN(name), key);
    if (!project.len && get(o, key)[0] && !is_given(o, "key_file"))
        must_be_given(o, "project", "without `key_file`: the id of the project");
    struct span id = span_of(get(o, "project"));
    if (id.len && !is_made_of(id, "-.:"))
        WRONG(o, "project", "\"%.*s\" is no id of a project: letters, digits, `-`", SHOWN(id));
    if (!strstr(get(o, "endpoint"), "://"))
        check_address_list(o, "endpoint");
    else
        check_url_of(o, "endpoint", "europe-west1-pubsub.googleapis.com");
    if (!o->c->is_source) {
        is_of_the_other(o, "pull_max");
        is_of_the_other(o, "ack_deadline");
    }
}

/* ---- Redis ---- */
static void check_redis(const struct one *o)
{
    for (struct span rest = span_of(get(o, "address")); rest.len;) {
        struct span one = span_trim(span_cut(rest, ',', &rest)), port;
        bool has_port = span_cut(one, ':', &port).len < one.len;
        if (!one.len || (one.at[0] != '/' && (!has_port || !is_address(one))))
            WRONG(o, "address",
                  "\"%.*s\" is no address; write HOST:PORT, [IPv6]:PORT or the path of a socket",
                  SHOWN(one));
    }
    if (is_given(o, "stream") && !get(o, "stream")[0])
        WRONG(o, "stream", "must be the key of a stream, such as %s", "foldback:{node}");
    check_tls_keys(o, is(o, "tls", "true"));
    if (is_given(o, "user"))
        must_be_given(o, "password_file", "with `user`");
    if (o->c->is_source) {
        is_of_the_other(o, "max_len");
        is_of_the_other(o, "max_age");
        if (!get(o, "group")[0])
            WRONG(o, "group", "must be a name, such as %s", "foldback");
    } else {
        is_of_the_other(o, "group");
        is_of_the_other(o, "consumer");
        is_of_the_other(o, "claim_after");
    }
}

void check_broker(struct reader *rd, const struct node *n, const struct conf_connector *c)
{
    static const struct {
        const char *type;
        void (*check)(const struct one *o);
    } rows[] = {{"kafka", check_kafka},
                {"eventhubs", check_eventhubs},
                {"kinesis", check_kinesis},
                {"pubsub", check_pubsub},
                {"redis", check_redis}};
    static const char *const of_sinks[] = {"events", "filter", "format",    "per",
                                           "delay",  "block",  "in_flight", "redact"};
    const struct one o = {rd, n, c};
    for (size_t i = 0; c->is_source && i < FB_COUNT(of_sinks); i++)
        is_of_the_other(&o, of_sinks[i]); /* a filter, say: what comes in is not filtered */
    for (size_t i = 0; i < FB_COUNT(rows); i++)
        if (strcmp(rows[i].type, c->type) == 0)
            rows[i].check(&o);
}
