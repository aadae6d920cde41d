/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/pubsub_proto.h"
#include "stream/connectors/pubsub_token.h"

#include "base/clock.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Made for this test; it opens nothing. */
static const char test_key[] = "-----BEGIN PRIVATE KEY-----\n"
                               "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQCr1GLG2X7JMEr1\n"
                               "7duOuxAzBbhfwgEN1Pv/vOeVUgECFtChPonaJhrM5kDLyrM4upc+gti2Jl9p2Uk4\n"
                               "AMuW2VzjVoHJQT3CS6vKft3dg10ZOhg6K1I+1t/zoA2Ldnq0P9HUDHTDMGSrXsQw\n"
                               "C1WUdBMFuxdopXpANW/bEswpQn8XBW4meOJFy/qMXGzUfcALKw1BBDfX7S5sxWA1\n"
                               "xnm2rryceuvjIB4ATvAJugbQwPj3pdIo+by2ZvHsbfszzEVQKaIy8eff3G89eLtV\n"
                               "fQI3CgyFl4uGUeT5792A5nkYOkde47i3Wd6f14YJy8V1yIw4Lk7vf1wWNVBMIRRZ\n"
                               "y2GnHp9PAgMBAAECggEAJ4RQsyqR3fMdSjHJrKmYsCNAo8UaOPQigE4RdGXHlZNp\n"
                               "p6uaSHE6+KR7gmK7lPBUmCu/aySoDM/L5vVH3QlgM2hRsNcwPN7qQ0ep/qeXYZXa\n"
                               "vIX6BDmmh4DnnItC7PFAcGPs9nbKsB67P9FbfSi0tzyvxYFI/DtN3jQUf+irEb/t\n"
                               "X4LajX4soLXtAY2GlTnCXAeRea1q+0ukPKP/04muxMZHvf2YVP1WgZhRv0HCBEZC\n"
                               "L/DVNNIhLT7Q3ia23kpWpVJz8OzN2IFDNG/SR1IoGvUF3tMJFpJzIj97aliFVr0d\n"
                               "D+r51e13T+yUnfbJiYhtomhk7mFCLq2tzptivqxBAQKBgQDcO9XjOwl1pEPMyTUt\n"
                               "f44VXjUc9aqDkDfek7DSX4hf407JKx5DJF2DBYKyPUGOhQo8NRtghR33J5g1mdXt\n"
                               "I/j0g6k0NLU7KG5Y0eZjKMkQ7f7q4dOXB01ciITpJfocoADN3tilXApnyI0248kE\n"
                               "7/F7Y0bOjxjtREHC5XcJ2py6awKBgQDHvClY/UuWUX8eSVaQ3jkaTSvRfKPhEOPv\n"
                               "SM6DEWrOni6kAUrZ//27TVcR3aEXusGF0DdpJB2q4aRX3GpNN5VrG9WWze0RNNoV\n"
                               "gi2bZsXiXggJNKXY7UZ7uhpmeLTCITkAXYgftC/Qk0AcQEaaTNL9Nw6TqcqTrWC8\n"
                               "l4CeA7EvrQKBgG/+YZtHF11ipjPKkidL+UX2fU33w7lZqn+eXUnt2NziK9ty+NWt\n"
                               "9Xu+XqMjMWY3U2ggnYZsyzs3QFjpnPcV1vEIzw/ESfEGc27pdp4wTGc2j+6D3mSs\n"
                               "CvQmXGhvrovF9gK68zLL5mK2gtFJ7px7JDLZ3lUGQefOUR66L9mr+Q13AoGAHwgG\n"
                               "zIKd6b7DpyrxvhQofwOaWTOqKl97akO/gfGEzJEa4fQpcvEotJ7xdh8e1hb31hhh\n"
                               "Y35u9YuVAumFwnVuS3PJnWJlAJVbhJfzCf/PornFOdjqI2fJ2ZMyYtVCEB8lQf9G\n"
                               "FNbjzt3xyfHahkKFTT3uj9aDWKpJK0PGgcZFEwkCgYEA2002zAilohIzI4NRdfto\n"
                               "MVopSflZiiKi+xd/p35266Fiy0N49FhjU43p6pSTwRbmjwGiI5iCskx05NPmxm2h\n"
                               "bBex9NQ/MrSPZHC038O6GokMU0R78ip/rRZuMBW8Q3yLRXiWf2sgiBiVuL5cEiba\n"
                               "fO+R/ZWdLKoABZ6eC4L8L6g=\n"
                               "-----END PRIVATE KEY-----\n";
static const char test_jwt[] =
    "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImtpZC0xIn0.eyJpc3MiOiJmb2xkQHAuaWFt"
    "LmdzZXJ2aWNlYWNjb3VudC5jb20iLCJzY29wZSI6Imh0dHBzOi8vd3d3Lmdvb2dsZWFwaXMuY29tL2F1"
    "dGgvcHVic3ViIiwiYXVkIjoiaHR0cHM6Ly9vYXV0aDIuZ29vZ2xlYXBpcy5jb20vdG9rZW4iLCJpYXQi"
    "OjE3MDAwMDAwMDAsImV4cCI6MTcwMDAwMzYwMH0.RWQLNgeI3EAz-PT2Bt8YeXHL30w7OZgXK60yvOLX"
    "CdVHqN5c1CZeaN51VzkXts7bjH_SkjkYFNyp_STcHeI1JYQcq08MdwcnoXBQHkL1aa6_4ViSoMdBvouV"
    "435zgSOjREUpjY-bCGwxktid4-_cY9-NtCgV5BDWIvK8durgAM1JMLeA-selO74wwgFMHOi0mTG4VbFK"
    "waHtmEOan2Hpyf71TUaqK-O5nbnXEBEEPSCTAq2A5Xqlj1CtO4hoebQlu3t-ykBA5dt2z-NYC0OOKWJA"
    "2_N8pHj4fcu7tOtlCxd_wxkdaQHKeiLcG9PrYqqQ3DzsTs-Qm9eRuR0KQ08Ybw";

static void an_assertion_is_what_openssl_signs(void **state)
{
    (void)state;
    struct token_key key = {.email = "fold@p.iam.gserviceaccount.com",
                            .key_id = "kid-1",
                            .token_uri = "https://oauth2.googleapis.com/token",
                            .pem = strdup(test_key)};
    struct buf out;
    struct fb_err err;
    buf_init(&out, 8 * KIB);
    assert_int_equal(token_jwt(&key, 1700000000, &out, &err), FB_OK);
    assert_string_equal(buf_str(&out), test_jwt);
    buf_fini(&out);
    token_key_fini(&key);
}

static void a_key_that_cannot_sign_is_refused_without_being_shown(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "nonsense", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"};
    for (size_t i = 0; i < FB_COUNT(bad); i++) {
        struct token_key key = {.email = "a@b", .pem = strdup(bad[i])};
        struct buf out;
        struct fb_err err;
        buf_init(&out, 8 * KIB);
        assert_int_equal(token_jwt(&key, 1, &out, &err), FB_E_CONFIG);
        assert_non_null(strstr(err.text, "a@b"));
        assert_null(strstr(err.text, "c2VjcmV0"));
        buf_fini(&out);
        token_key_fini(&key);
    }
}

static void answers_of_token_servers_are_read_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        bool is_good;
        uint32_t life_s;
    } rows[] = {
        {"{\"access_token\":\"abc\",\"expires_in\":3599,\"token_type\":\"Bearer\"}", true, 3599},
        {"{\"access_token\":\"abc\",\"expires_in\":999999999999}", true, 12 * 3600},
        {"{\"access_token\":\"abc\",\"expires_in\":0}", false, 0},
        {"{\"access_token\":\"abc\",\"expires_in\":-5}", false, 0},
        {"{\"access_token\":\"abc\"}", false, 0},
        {"{\"access_token\":\"a\\r\\nx: y\",\"expires_in\":10}", false, 0},
        {"{\"access_token\":\"\",\"expires_in\":10}", false, 0},
        {"{\"access_token\":7,\"expires_in\":10}", false, 0},
        {"[]", false, 0},
        {"", false, 0},
        {"{", false, 0},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        char *value = NULL;
        uint32_t life_s = 0;
        assert_int_equal(token_answer(span_of(rows[i].json), &value, &life_s), rows[i].is_good);
        if (rows[i].is_good) {
            assert_string_equal(value, "abc");
            assert_int_equal(life_s, rows[i].life_s);
        }
        free(value);
    }
}

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

static void a_token_holds_until_shortly_before_its_end(void **state)
{
    (void)state;
    struct calls cs = {.ca_file = "", .is_stopping = never};
    struct fb_err err;
    assert_true(calls_init(&cs));
    struct token t = {.key_file = "", .metadata = "http://127.0.0.1:1", .value = strdup("abc")};
    t.renew_us = fb_mono_us() + 60 * US_PER_S;
    assert_int_equal(token_get(&t, &cs, &err), FB_OK); /* nobody is asked */
    token_refuse(&t);
    assert_int_equal(token_get(&t, &cs, &err), FB_E_AGAIN); /* now somebody is */
    assert_non_null(strstr(err.text, "not reached"));
    token_fini(&t);
    calls_fini(&cs);
}

static void a_message_is_coded_as_protobuf_says(void **state)
{
    (void)state;
    struct connector_header h = {.name = "n", .value = SPAN("v")};
    struct connector_record r = {
        .key = SPAN("k"), .value = SPAN("hi"), .headers = &h, .header_count = 1};
    /* messages { data: "hi" attributes { key: "n" value: "v" } ordering_key: "k" } */
    static const char want[] = "\x12\x0f\x0a\x02hi\x12\x06\x0a\x01n\x12\x01v\x2a\x01k";
    struct buf b;
    buf_init(&b, 4 * KIB);
    proto_publish_message(&b, &r, true);
    assert_int_equal(b.len, sizeof want - 1);
    assert_memory_equal(b.at, want, sizeof want - 1);
    buf_clear(&b);
    proto_publish_message(&b, &r, false); /* no ordering key */
    assert_int_equal(b.len, sizeof want - 1 - 3);
    buf_fini(&b);
}

/* A ReceivedMessage as a server writes it. */
static void make_received(struct buf *out, const char *ack, const char *id)
{
    struct buf m;
    buf_init(&m, 4 * KIB);
    proto_text(&m, 1, SPAN("data"));
    proto_text(&m, 3, span_of(id));
    proto_text(&m, 4, SPAN("\x08\xe8\x07\x10\xc0\x84\x3d")); /* 1000.001 s */
    proto_text(&m, 5, SPAN("key"));
    proto_text(out, 1, span_of(ack));
    proto_text(out, 2, buf_span(&m));
    proto_number(out, 3, 2);
    buf_fini(&m);
}

static void a_received_message_is_read(void **state)
{
    (void)state;
    struct buf b;
    struct proto_received m;
    buf_init(&b, 4 * KIB);
    make_received(&b, "ack", "42");
    assert_true(proto_received(buf_span(&b), &m));
    assert_true(span_eq(m.ack_id, SPAN("ack")) && span_eq(m.message_id, SPAN("42")));
    assert_true(span_eq(m.data, SPAN("data")) && span_eq(m.ordering_key, SPAN("key")));
    assert_int_equal(m.wall_ms, 1000001);
    assert_int_equal(m.attempt, 2);
    buf_clear(&b);
    make_received(&b, "ack", "with a blank");
    assert_false(proto_received(buf_span(&b), &m));
    buf_clear(&b);
    make_received(&b, "ack", "0123456789012345678901234567890123456789012345678901234567890123");
    assert_false(proto_received(buf_span(&b), &m)); /* no room for it as a position */
    buf_clear(&b);
    make_received(&b, "", "42");
    assert_false(proto_received(buf_span(&b), &m));
    buf_fini(&b);
}

static void hostile_bytes_are_never_read_beyond_their_end(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 7);
    struct buf good;
    buf_init(&good, 4 * KIB);
    make_received(&good, "ack", "42");
    for (uint32_t i = 0; i < 200000; i++) {
        /* a copy of its exact size: the sanitizer sees each byte beyond */
        size_t len = i % 2 ? good.len : rng_u64(&rng) % 64;
        char *bytes = malloc(len + 1);
        for (size_t k = 0; k < len; k++)
            bytes[k] = i % 2 ? good.at[k] : (char)rng_u64(&rng);
        if (i % 2)
            bytes[rng_u64(&rng) % len] = (char)rng_u64(&rng);
        size_t cut = i % 2 ? len - rng_u64(&rng) % 4 : len;
        char *exact = malloc(cut ? cut : 1);
        memcpy(exact, bytes, cut);
        struct span s = {exact, cut};
        struct proto_received m;
        struct proto_subscription sub;
        if (proto_received(s, &m))
            assert_true(m.message_id.len < CONNECTOR_POSITION_BYTES);
        (void)!proto_subscription(s, &sub);
        (void)proto_published(s);
        (void)proto_ack_failures(s);
        (void)proto_is_granted(s, "x");
        free(exact);
        free(bytes);
    }
    buf_fini(&good);
}

static void headers_of_an_answer_are_taken_with_care(void **state)
{
    (void)state;
    struct call call = {.is_grpc = true, .status = GRPC_NONE};
    buf_init(&call.details, 4 * KIB);
    call_header(&call, SPAN("grpc-status: 14\r\n"));
    assert_int_equal(call.status, GRPC_UNAVAILABLE);
    call_header(&call, SPAN("Grpc-Message: caf%C3%A9 %zz%0a%\r\n"));
    assert_string_equal(call.message, "caf   %zz %");
    call_header(&call, SPAN("grpc-status: 99999999999999999999\r\n"));
    assert_int_equal(call.status, GRPC_UNKNOWN);
    call_header(&call, SPAN("grpc-status: -1\r\n"));
    assert_int_equal(call.status, GRPC_UNKNOWN);
    call_header(&call, SPAN("grpc-status-details-bin: CAk\r\n"));
    assert_int_equal(call.details.len, 2);
    assert_memory_equal(call.details.at, "\x08\x09", 2);
    call_header(&call, SPAN("grpc-status-details-bin: !!!\r\n"));
    assert_int_equal(call.details.len, 0);
    buf_fini(&call.details);
}

static void an_answer_is_one_whole_message(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        bool is_good;
    } rows[] = {
        {"\0\0\0\0\0", 5, true},          {"\0\0\0\0\x02hi", 7, true}, {"\0\0\0\0\x03hi", 7, false},
        {"\x01\0\0\0\x02hi", 7, false},   {"\0\0\0", 3, false},        {"", 0, false},
        {"\0\xff\xff\xff\xff", 5, false},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct call call = {.is_grpc = true};
        struct span message;
        buf_init(&call.answer, 4 * KIB);
        buf_put(&call.answer, rows[i].bytes, rows[i].len);
        assert_int_equal(call_message(&call, &message), rows[i].is_good);
        buf_fini(&call.answer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_assertion_is_what_openssl_signs),
        cmocka_unit_test(a_key_that_cannot_sign_is_refused_without_being_shown),
        cmocka_unit_test(answers_of_token_servers_are_read_or_refused),
        cmocka_unit_test(a_token_holds_until_shortly_before_its_end),
        cmocka_unit_test(a_message_is_coded_as_protobuf_says),
        cmocka_unit_test(a_received_message_is_read),
        cmocka_unit_test(hostile_bytes_are_never_read_beyond_their_end),
        cmocka_unit_test(headers_of_an_answer_are_taken_with_care),
        cmocka_unit_test(an_answer_is_one_whole_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
