/* SPDX-License-Identifier: Apache-2.0 */
#include "io/htpasswd.h"
#include "io/mac.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

/* Of "secret". */
#define BCRYPT_B "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"
#define BCRYPT_Y "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"
#define SHA256 "$5$rounds=1000$salt$CCvcOM6b7TEJDPb37Aec/9UpOg4QhPNAxPpL9ZzjTB7"
#define SHA512                                                                                     \
    "$6$rounds=1000$salt$HNxBeBnDfSfUrTj6KiLnmd7tGCvHEmcExh8kl/S0cZ5WrCciNZgfhbpkeFQ4JfkHX.8vPq45" \
    "lY0iINnCx1Lkm."
#define YESCRYPT "$y$j75$saltsalt$0gBD67sgmJgRX3RZ6wHHO7sHimQEWGCWN85o4Twogh2"

static struct htpasswd *parse(const char *text, char why[400])
{
    struct htpasswd *h = NULL;
    struct fb_err err = {0};
    enum fb_code code = htpasswd_parse(span_of(text), "u", &h, &err);
    assert_int_equal(code == FB_OK, h != NULL);
    snprintf(why, 400, "%.399s", err.text);
    return h;
}

static void each_scheme_tells_right_from_wrong(void **state)
{
    (void)state;
    char why[400], hash[HTPASSWD_HASH_BYTES_MAX];
    struct htpasswd *h = parse("# users\n\nb:" BCRYPT_B "\ny:" BCRYPT_Y ":a comment\r\n5:" SHA256
                               "\n6:" SHA512 "\nJ\xc3\xb6rg:" YESCRYPT,
                               why);
    assert_non_null(h);
    assert_int_equal(htpasswd_count(h), 5);
    static const char *const names[] = {"b", "y", "5", "6", "J\xc3\xb6rg"};
    void *room = htpasswd_room_new();
    for (size_t i = 0; i < FB_COUNT(names); i++) {
        assert_true(htpasswd_find(h, span_of(names[i]), hash));
        assert_int_equal(htpasswd_check(room, "secret", hash), HTPASSWD_RIGHT);
        assert_int_equal(htpasswd_check(room, "secre", hash), HTPASSWD_WRONG);
        assert_int_equal(htpasswd_check(room, "", hash), HTPASSWD_WRONG);
    }
    assert_int_equal(htpasswd_check(room, "secret", "*0"), HTPASSWD_FAILED);
    assert_false(htpasswd_find(h, SPAN("nobody"), hash));
    assert_int_equal(hash[0], '$'); /* somebody's: it takes as long */
    htpasswd_room_free(room);
    htpasswd_free(h);
}

static void who_is_unknown_costs_as_much_as_the_dearest_hash(void **state)
{
    (void)state;
    /* each dearer than the one above it */
    static const char *const hashes[] = {
        SHA512, /* 1000 rounds */
        SHA256,
        BCRYPT_B, /* 4 */
        ("$6$salt$HNxBeBnDfSfUrTj6KiLnmd7tGCvHEmcExh8kl/S0cZ5WrCciNZgfhbpkeFQ4JfkHX.8vPq45"
         "lY0iINnCx1Lkm."), /* 5000 rounds */
        "$2b$06$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW",
        "$y$j9T$saltsalt$0gBD67sgmJgRX3RZ6wHHO7sHimQEWGCWN85o4Twogh2",
        "$y$jAT$saltsalt$0gBD67sgmJgRX3RZ6wHHO7sHimQEWGCWN85o4Twogh2",
        "$2y$10$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW",
        "$5$rounds=1000000$salt$CCvcOM6b7TEJDPb37Aec/9UpOg4QhPNAxPpL9ZzjTB7",
        "$2a$14$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW",
    };
    for (size_t i = 1; i < FB_COUNT(hashes); i++) {
        for (size_t turn = 0; turn < 2; turn++) {
            char text[500], why[400], hash[HTPASSWD_HASH_BYTES_MAX];
            sprintf(text, "%s:%s\n%s:%s\n", turn ? "b" : "a", hashes[i - 1], turn ? "a" : "b",
                    hashes[i]);
            struct htpasswd *h = parse(text, why);
            assert_non_null(h);
            assert_false(htpasswd_find(h, SPAN("nobody"), hash));
            assert_string_equal(hash, hashes[i]);
            assert_true(htpasswd_find(h, turn ? SPAN("b") : SPAN("a"), hash));
            assert_string_equal(hash, hashes[i - 1]);
            htpasswd_free(h);
        }
    }
}

static void whoever_is_named_is_found_among_many(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    char *text = malloc(COUNT * 100), why[400], name[16], hash[HTPASSWD_HASH_BYTES_MAX];
    size_t at = 0;
    for (int i = 0; i < COUNT; i++)
        at += (size_t)sprintf(text + at, "user%d:%s\n", i * 7919 % COUNT, BCRYPT_B);
    struct htpasswd *h = parse(text, why);
    assert_non_null(h);
    for (int i = 0; i <= COUNT; i++) {
        sprintf(name, "user%d", i);
        assert_int_equal(htpasswd_find(h, span_of(name), hash), i < COUNT);
    }
    htpasswd_free(h);
    free(text);
}

static void the_version_is_of_the_content(void **state)
{
    (void)state;
    char why[400];
    struct htpasswd *a = parse("a:" BCRYPT_B, why), *b = parse("a:" BCRYPT_B, why),
                    *c = parse("b:" BCRYPT_B, why);
    assert_true(htpasswd_version(a) == htpasswd_version(b));
    assert_true(htpasswd_version(a) != htpasswd_version(c));
    htpasswd_free(a);
    htpasswd_free(b);
    htpasswd_free(c);
}

static void weak_and_broken_lines_are_refused_with_their_number(void **state)
{
    (void)state;
    static const struct {
        const char *line, *says;
    } rows[] = {
        {"a", "no colon"},
        {":" BCRYPT_B, "has no name"},
        {" a:" BCRYPT_B, "blanks at an end"},
        {"a\tb:" BCRYPT_B, "control character"},
        {"a:", "plain text"},
        {"a:secret", "plain text"},
        {"a:{PLAIN}secret", "plain text"},
        {"a:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "SHA-1"},
        {"a:$apr1$abcdefgh$0123456789012345678901", "MD5"},
        {"a:$1$abcdefgh$0123456789012345678901", "MD5"},
        {"a:abJnggxhB/yWI", "DES"},
        {"a:$2x$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW", "no scheme"},
        {"a:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIr", "no whole bcrypt"},
        {"a:$2b$15$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW", "cost above 14"},
        {"a:$2b$03$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW", "no whole bcrypt"},
        {"a:$6$salt$short", "no whole SHA"},
        {"a:$5$rounds=1000001$salt$CCvcOM6b7TEJDPb37Aec/9UpOg4QhPNAxPpL9ZzjTB7", "1000000 rounds"},
        {"a:$5$rounds=9$salt$CCvcOM6b7TEJDPb37Aec/9UpOg4QhPNAxPpL9ZzjTB7", "no whole SHA"},
        {"a:$y$jCT$saltsalt$0gBD67sgmJgRX3RZ6wHHO7sHimQEWGCWN85o4Twogh2", "cost above 6"},
        {"a:$y$j75$saltsalt$0gBD67sgmJgRX3RZ6wHHO7sHimQEWGCWN85o4Twogh", "no whole yescrypt"},
        {"a:$7$CU..../....x$0gBD67sgmJgRX3RZ6wHHO7sHimQEWGCWN85o4Twogh2", "no scheme"},
        {"ok:" SHA256, "names the user of line 1 again"},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        char text[600], why[400];
        sprintf(text, "ok:%s\n%s\n", SHA256, rows[i].line);
        assert_null(parse(text, why));
        if (!strstr(why, rows[i].says) || !strstr(why, "line 2"))
            fail_msg("%s: %s", rows[i].line, why);
    }
    char why[400];
    assert_null(parse("# nobody\n", why));
    assert_non_null(strstr(why, "names nobody"));
}

static void a_fingerprint_is_of_its_key_and_of_each_part(void **state)
{
    (void)state;
    unsigned char key[MAC_KEY_BYTES], a[MAC_BYTES], b[MAC_BYTES];
    const struct span parts[2][2] = {{SPAN("ab"), SPAN("c")}, {SPAN("a"), SPAN("bc")}};
    assert_true(mac_draw_key(key));
    struct mac *m = mac_new(key);
    assert_true(mac_make(m, parts[0], 2, a));
    assert_true(mac_make(m, parts[0], 2, b));
    assert_true(mac_is_same(a, b));
    assert_true(mac_make(m, parts[1], 2, b));
    assert_false(mac_is_same(a, b));
    mac_free(m);
    key[0] ^= 1;
    m = mac_new(key);
    assert_true(mac_make(m, parts[0], 2, b));
    assert_false(mac_is_same(a, b));
    mac_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_scheme_tells_right_from_wrong),
        cmocka_unit_test(who_is_unknown_costs_as_much_as_the_dearest_hash),
        cmocka_unit_test(whoever_is_named_is_found_among_many),
        cmocka_unit_test(the_version_is_of_the_content),
        cmocka_unit_test(weak_and_broken_lines_are_refused_with_their_number),
        cmocka_unit_test(a_fingerprint_is_of_its_key_and_of_each_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
