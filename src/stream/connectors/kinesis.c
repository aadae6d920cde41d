/* SPDX-License-Identifier: Apache-2.0 */
/* kinesis: AWS Kinesis Data Streams, over libcurl with its own SigV4. */
#include "base/clock.h"
#include "base/json.h"
#include "stream/connectors/kinesis_int.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define BODY_BYTES_MAX (8 * MIB)

const char *kinesis_value(const struct connector *c, const char *key)
{
    const char *v = c->setup.value(c->setup.conf, key);
    return v ? v : "";
}

static int word(const char *text, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(text, words[i]) == 0)
            return i;
    return 0;
}

static bool is_region(const char *text)
{
    size_t len = strlen(text);
    if (len < 4 || len > 38)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!islower((unsigned char)text[i]) && !isdigit((unsigned char)text[i]) && text[i] != '-')
            return false;
    return true;
}

static enum fb_code read_conf(struct connector *c, struct fb_err *err)
{
    static const char *const places[] = {"auto",      "file",     "environment",
                                         "container", "instance", NULL};
    static const char *const packs[] = {"lines", "kpl", "none", NULL};
    const char *stream = kinesis_value(c, "stream"), *region = kinesis_value(c, "aws_region");
    const char *endpoint = kinesis_value(c, "endpoint");
    if (!*stream || strlen(stream) >= sizeof c->stream)
        return fb_fail(err, FB_E_CONFIG, "connectors.%s: `stream` is a name or an ARN",
                       c->setup.name);
    if (!is_region(region))
        return fb_fail(err, FB_E_CONFIG,
                       "connectors.%s: `aws_region` is a name like eu-central-1, got \"%.40s\"",
                       c->setup.name, region);
    if (*endpoint && strncmp(endpoint, "https://", 8) != 0 && strncmp(endpoint, "http://", 7) != 0)
        return fb_fail(err, FB_E_CONFIG,
                       "connectors.%s: `endpoint` begins with https:// or http://", c->setup.name);
    snprintf(c->stream, sizeof c->stream, "%s", stream);
    snprintf(c->stream_key, sizeof c->stream_key, "%s",
             strncmp(stream, "arn:", 4) == 0 ? "StreamARN" : "StreamName");
    snprintf(c->region, sizeof c->region, "%s", region);
    size_t len = strlen(endpoint);
    len -= len && endpoint[len - 1] == '/';
    if (*endpoint)
        snprintf(c->endpoint, sizeof c->endpoint, "%.*s/", (int)fb_min_u64(len, 290), endpoint);
    else
        snprintf(c->endpoint, sizeof c->endpoint, "https://kinesis.%s.amazonaws.com%s/", region,
                 strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
    c->profile = kinesis_value(c, "profile");
    c->credentials_file = kinesis_value(c, "credentials_file");
    c->metadata_endpoint = kinesis_value(c, "metadata_endpoint");
    c->ca_file = kinesis_value(c, "ca_file");
    c->credentials = (enum kinesis_credentials)word(kinesis_value(c, "credentials"), places);
    c->pack = (enum kinesis_pack)word(kinesis_value(c, "pack"), packs);
    c->is_verified = strcmp(kinesis_value(c, "verify"), "false") != 0;
    c->is_from_newest = strcmp(kinesis_value(c, "from"), "start") != 0;
    c->timeout_us = strtoull(kinesis_value(c, "timeout"), NULL, 10) * US_PER_MS;
    c->poll_us = strtoull(kinesis_value(c, "poll"), NULL, 10) * US_PER_MS;
    return FB_OK;
}

static void kinesis_close(struct connector *c)
{
    http_fini(c);
    kinesis_shards_free(c);
    buf_fini(&c->body);
    buf_fini(&c->packed);
    free(c->put);
    free(c->next);
    free(c->chain);
    explicit_bzero(&c->keys, sizeof c->keys);
    free(c);
    curl_global_cleanup();
}

static enum fb_code kinesis_open(struct connector **out, const struct connector_setup *setup,
                                 struct fb_err *err)
{
    struct connector *c = calloc(1, sizeof *c);
    if (!c || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) { /* counted, and locked */
        free(c);
        return fb_fail(err, FB_E_NOMEM, "no memory for the connector %s", setup->name);
    }
    c->setup = *setup;
    buf_init(&c->body, BODY_BYTES_MAX);
    buf_init(&c->packed, 2 * MIB);
    enum fb_code code = read_conf(c, err);
    if (code != FB_OK) {
        kinesis_close(c);
        return code;
    }
    *out = c;
    return FB_OK;
}

/* A stream that is there, and a key that may look at it. */
static enum fb_code count_shards(struct connector *c, uint32_t *open, struct fb_err *err)
{
    json_t *root =
        json_loadb(c->http.answer.at ? c->http.answer.at : "", c->http.answer.len, 0, NULL);
    json_t *list = json_object_get(root, "Shards");
    bool is_list = json_is_array(list);
    *open = 0;
    for (size_t i = 0; is_list && i < json_array_size(list); i++)
        *open += !json_object_get(json_object_get(json_array_get(list, i), "SequenceNumberRange"),
                                  "EndingSequenceNumber");
    json_decref(root);
    return is_list ? FB_OK
                   : fb_fail(err, FB_E_CONFIG,
                             "%.200s is no Kinesis: its answer to ListShards has "
                             "no shards; see `endpoint`",
                             c->endpoint);
}

static enum fb_code kinesis_check(struct connector *c, uint32_t timeout_ms, connector_step *step,
                                  void *arg, struct fb_err *err)
{
    char text[700];
    struct json j;
    struct kinesis_refusal refusal;
    uint32_t open = 0;
    uint64_t until_us = fb_mono_us() + timeout_ms * US_PER_MS;
    enum fb_code code = keys_want(c, err);
    snprintf(text, sizeof text, "credentials from %s", c->keys_from);
    step(arg, code == FB_OK, code == FB_OK ? text : err->text);
    if (code != FB_OK)
        return code;
    buf_clear(&c->body);
    json_init(&j, &c->body);
    json_object_begin(&j);
    json_key_str(&j, c->stream_key, c->stream);
    json_object_end(&j);
    code = kinesis_call(c, "ListShards", until_us, &refusal, err);
    if (code == FB_OK)
        code = count_shards(c, &open, err);
    snprintf(text, sizeof text, "%s reached, stream %s has %u open shards", c->endpoint, c->stream,
             open);
    step(arg, code == FB_OK, code == FB_OK ? text : err->text);
    return code;
}

static enum fb_code kinesis_commit(struct connector *c, const struct connector_done *done,
                                   uint32_t count, struct fb_err *err)
{
    (void)c, (void)done, (void)count, (void)err; /* positions are kept by foldback */
    return FB_OK;
}

CONNECTOR_EXPORT = {.abi = CONNECTOR_ABI,
                    .bytes = sizeof(struct connector_type),
                    .name = "kinesis",
                    .can = CONNECTOR_SINK | CONNECTOR_SOURCE | CONNECTOR_ORDERED,
                    .send_max = KINESIS_SEND_MAX,
                    .record_bytes_max = KINESIS_RECORD_BYTES_MAX,
                    .send_bytes_max = KINESIS_REQUEST_BYTES_MAX,
                    .open = kinesis_open,
                    .close = kinesis_close,
                    .check = kinesis_check,
                    .send = kinesis_send,
                    .receive = kinesis_receive,
                    .commit = kinesis_commit,
                    .behind = kinesis_behind,
                    .waits_us = kinesis_waits_us};
