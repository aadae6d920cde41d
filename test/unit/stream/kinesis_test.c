/* SPDX-License-Identifier: Apache-2.0 */
/* What Kinesis and the places of credentials say, well meant or not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/base64.h"
#include "stream/connectors/kinesis_says.h"

static enum fb_code code_of(long status, const char *body, struct kinesis_refusal *r)
{
    kinesis_refusal_read(r, status, span_of(body));
    return kinesis_refusal_code(r, status);
}

static void test_a_refusal_says_whether_to_try_again(void **state)
{
    static const struct {
        long status;
        const char *body;
        enum fb_code code;
        const char *type;
    } cases[] = {
        {400, "{\"__type\":\"ProvisionedThroughputExceededException\",\"message\":\"slow\"}",
         FB_E_AGAIN, "ProvisionedThroughputExceededException"},
        {400, "{\"__type\":\"com.amazonaws.kinesis#ResourceNotFoundException\"}", FB_E_CONFIG,
         "ResourceNotFoundException"},
        {400, "{\"__type\":\"AccessDeniedException\",\"Message\":\"no\"}", FB_E_DENIED,
         "AccessDeniedException"},
        {400, "{\"__type\":\"ExpiredTokenException\"}", FB_E_AGAIN, "ExpiredTokenException"},
        {400, "{\"__type\":\"KMSThrottlingException\"}", FB_E_AGAIN, "KMSThrottlingException"},
        {400, "{\"__type\":\"KMSDisabledException\"}", FB_E_DENIED, "KMSDisabledException"},
        {400, "{\"__type\":\"ValidationException\"}", FB_E_RANGE, "ValidationException"},
        {400,
         "{\"__type\":\"ValidationException\",\"message\":\"1 validation error detected: Value 'a "
         "b' at 'streamName' failed to satisfy constraint\"}",
         FB_E_CONFIG, "ValidationException"},
        {403, "<Error><Code>SignatureDoesNotMatch</Code><Message>bad</Message></Error>",
         FB_E_DENIED, "SignatureDoesNotMatch"},
        {500, "", FB_E_AGAIN, "HTTP status 500"},
        {503, "<html>", FB_E_AGAIN, "HTTP status 503"},
        {404, "not found", FB_E_CONFIG, "HTTP status 404"},
        {429, "", FB_E_AGAIN, "HTTP status 429"},
        {400, "{\"__type\":7,\"message\":{}}", FB_E_CONFIG, "HTTP status 400"},
        {400, "[[[[", FB_E_CONFIG, "HTTP status 400"},
    };
    struct kinesis_refusal r;
    (void)state;
    for (size_t i = 0; i < FB_COUNT(cases); i++) {
        assert_int_equal(code_of(cases[i].status, cases[i].body, &r), cases[i].code);
        assert_string_equal(r.type, cases[i].type);
    }
    (void)code_of(400, "{\"__type\":\"X\\nlevel=error\",\"message\":\"a\\u0007b\"}", &r);
    assert_string_equal(r.type, "X level=error");
    assert_string_equal(r.message, "a b");
}

static void test_of_a_partial_failure_only_the_failed_are_open(void **state)
{
    bool is_stored[3];
    struct kinesis_refusal first;
    (void)state;
    assert_true(kinesis_put_read(
        SPAN("{\"FailedRecordCount\":1,\"Records\":[{\"SequenceNumber\":\"1\",\"ShardId\":\"s\"},"
             "{\"ErrorCode\":\"InternalFailure\",\"ErrorMessage\":\"m\"},"
             "{\"SequenceNumber\":\"2\"}]}"),
        3, is_stored, &first));
    assert_true(is_stored[0] && !is_stored[1] && is_stored[2]);
    assert_string_equal(first.type, "InternalFailure");
    /* neither stored nor an error: not stored */
    assert_true(kinesis_put_read(SPAN("{\"Records\":[{},7]}"), 2, is_stored, &first));
    assert_true(!is_stored[0] && !is_stored[1]);
    static const char *const hostile[] = {"",
                                          "{}",
                                          "null",
                                          "{\"Records\":[]}",
                                          "{\"Records\":{}}",
                                          "{\"Records\":[{\"SequenceNumber\":\"1\"}]}",
                                          "[1,2,3]"};
    for (size_t i = 0; i < FB_COUNT(hostile); i++)
        assert_false(kinesis_put_read(span_of(hostile[i]), 3, is_stored, &first));
}

static void test_times_of_expiry(void **state)
{
    (void)state;
    assert_int_equal(kinesis_time_s("1970-01-02T00:00:01Z"), 86401);
    assert_int_equal(kinesis_time_s("2026-11-22T18:00:00Z"), 1795370400);
    assert_int_equal(kinesis_time_s("2026-11-22T18:00:00.123Z"), 1795370400);
    static const char *const bad[] = {"",
                                      "never",
                                      "2026-11-22",
                                      "2026-11-22T18:00:00",
                                      "2026-13-22T18:00:00Z",
                                      "2026-11-22T18:00:00+05:00"};
    for (size_t i = 0; i < FB_COUNT(bad); i++)
        assert_int_equal(kinesis_time_s(bad[i]), 0);
}

static void test_credentials_of_a_role(void **state)
{
    struct kinesis_keys k;
    char why[120];
    (void)state;
    assert_true(kinesis_keys_from_json(
        &k,
        SPAN("{\"Code\":\"Success\",\"AccessKeyId\":\"ASIA1\",\"SecretAccessKey\":\"s/+=\","
             "\"Token\":\"t\",\"Expiration\":\"2026-11-22T18:00:00Z\"}"),
        why));
    assert_string_equal(k.id, "ASIA1");
    assert_string_equal(k.secret, "s/+=");
    assert_string_equal(k.token, "t");
    assert_int_equal(k.expires_s, 1795370400);
    static const char *const bad[] = {
        "",
        "no role",
        "[]",
        "{\"AccessKeyId\":\"A\"}",
        "{\"AccessKeyId\":\"A\\r\\nX: y\",\"SecretAccessKey\":\"hush\"}",
        "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"\"}",
        "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"hush\",\"Token\":\"a b\"}",
        "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"hush\",\"Expiration\":\"soon\"}"};
    for (size_t i = 0; i < FB_COUNT(bad); i++) {
        assert_false(kinesis_keys_from_json(&k, span_of(bad[i]), why));
        assert_null(strstr(why, "hush"));
    }
}

static void test_credentials_of_a_file(void **state)
{
    static const char file[] = "# of ops\n[default]\naws_access_key_id=AKIA1\n"
                               "aws_secret_access_key = one\r\n\n[ shop ]\n"
                               "AWS_ACCESS_KEY_ID = AKIA2\naws_secret_access_key=two\n"
                               "aws_session_token=tok\nregion = eu-central-1\n[half]\n"
                               "aws_access_key_id=A\n[bad]\naws_secret_access_key=a b\n";
    struct kinesis_keys k;
    char why[120];
    (void)state;
    assert_true(kinesis_keys_from_ini(&k, SPAN(file), "default", why));
    assert_string_equal(k.id, "AKIA1");
    assert_string_equal(k.secret, "one");
    assert_string_equal(k.token, "");
    assert_true(kinesis_keys_from_ini(&k, SPAN(file), "shop", why));
    assert_string_equal(k.id, "AKIA2");
    assert_string_equal(k.secret, "two");
    assert_string_equal(k.token, "tok");
    assert_false(kinesis_keys_from_ini(&k, SPAN(file), "nobody", why));
    assert_string_equal(why, "it has no profile [nobody]");
    assert_false(kinesis_keys_from_ini(&k, SPAN(file), "half", why));
    assert_string_equal(why, "[half] lacks aws_secret_access_key");
    assert_false(kinesis_keys_from_ini(&k, SPAN(file), "bad", why));
    assert_null(strstr(why, "a b"));
    assert_false(kinesis_keys_from_ini(&k, SPAN("["), "", why));
    assert_false(kinesis_keys_from_ini(&k, SPAN(""), "default", why));
}

static void test_what_is_packed_is_unpacked(void **state)
{
    struct buf b;
    struct kinesis_unpack u;
    struct span key, value;
    char text[16];
    (void)state;
    buf_init(&b, MIB);
    kinesis_pack_begin(&b, SPAN("red"));
    for (int i = 0; i < 300; i++) {
        snprintf(text, sizeof text, "event %d", i);
        kinesis_pack_add(&b, span_of(text));
    }
    kinesis_pack_end(&b, 0);
    assert_false(b.failed);
    assert_true(kinesis_unpack_begin(&u, buf_span(&b)));
    for (int i = 0; i < 300; i++) {
        snprintf(text, sizeof text, "event %d", i);
        assert_true(kinesis_unpack_next(&u, &key, &value));
        assert_true(span_eq(key, SPAN("red")) && span_eq(value, span_of(text)));
    }
    assert_false(kinesis_unpack_next(&u, &key, &value));
    /* one wrong bit anywhere, or a cut: a plain record */
    for (size_t i = 0; i < b.len; i += 7) {
        b.at[i] ^= 4;
        assert_false(kinesis_unpack_begin(&u, buf_span(&b)));
        b.at[i] ^= 4;
        assert_false(kinesis_unpack_begin(&u, (struct span){b.at, i}));
    }
    buf_fini(&b);
}

/* A right checksum over protobuf that lies about its lengths and keys. */
static void test_a_pack_that_lies_is_read_within_its_bytes(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        bool is_pack;
    } cases[] = {{"\x1a\x7f", 2, false},
                 {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, false},
                 {"\x1d\x00\x00\x00\x00", 5, false},
                 {"\x1a\x04\x08\x09\x1a\x7f", 6, true}, /* key 9 of none, value beyond */
                 {"\x1a\x00", 2, true},
                 {"\xff", 1, false}};
    struct kinesis_unpack u;
    struct span key, value;
    (void)state;
    for (size_t i = 0; i < FB_COUNT(cases); i++) {
        struct buf b;
        buf_init(&b, MIB);
        buf_put(&b, "\xf3\x89\x9a\xc2", 4);
        buf_put(&b, cases[i].bytes, cases[i].len);
        kinesis_pack_end(&b, 0);
        assert_int_equal(kinesis_unpack_begin(&u, buf_span(&b)), cases[i].is_pack);
        while (cases[i].is_pack && kinesis_unpack_next(&u, &key, &value))
            assert_true(key.len == 0 && value.len == 0);
        buf_fini(&b);
    }
}

static void test_base64_and_names_of_shards(void **state)
{
    struct buf b;
    uint32_t number;
    (void)state;
    buf_init(&b, MIB);
    for (size_t len = 0; len < 9; len++) {
        buf_clear(&b);
        base64_put(&b, (struct span){"foldback!", len});
        struct span text = buf_span(&b);
        assert_int_equal(text.len, (len + 2) / 3 * 4);
        char copy[16];
        if (text.len)
            memcpy(copy, text.at, text.len);
        text.at = copy;
        buf_clear(&b);
        assert_true(kinesis_unbase64(&b, text));
        assert_true(span_eq(buf_span(&b), (struct span){"foldback!", len}));
    }
    static const char *const bad[] = {"a", "abc", "====", "ab=d", " abc", "a\nbc", "ab\"d"};
    for (size_t i = 0; i < FB_COUNT(bad); i++) {
        buf_clear(&b);
        assert_false(kinesis_unbase64(&b, span_of(bad[i])));
    }
    buf_fini(&b);
    assert_true(kinesis_shard_number("shardId-000000000012", &number));
    assert_int_equal(number, 12);
    assert_false(kinesis_shard_number("shardId", &number));
    assert_false(kinesis_shard_number("shardId-99999999999", &number));
    assert_false(kinesis_shard_number("shardId--1x", &number));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_refusal_says_whether_to_try_again),
        cmocka_unit_test(test_of_a_partial_failure_only_the_failed_are_open),
        cmocka_unit_test(test_times_of_expiry),
        cmocka_unit_test(test_credentials_of_a_role),
        cmocka_unit_test(test_credentials_of_a_file),
        cmocka_unit_test(test_what_is_packed_is_unpacked),
        cmocka_unit_test(test_a_pack_that_lies_is_read_within_its_bytes),
        cmocka_unit_test(test_base64_and_names_of_shards),
    };
    return cmocka_run_group_tests_name("kinesis", tests, NULL, NULL);
}
