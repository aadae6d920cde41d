/* SPDX-License-Identifier: Apache-2.0 */
#include "io/digest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void the_key_of_the_standard_has_the_answer_of_the_standard(void **state)
{
    char accept[DIGEST_ACCEPT_BYTES];
    (void)state;
    assert_true(digest_websocket_accept(SPAN("dGhlIHNhbXBsZSBub25jZQ=="), accept));
    assert_memory_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", sizeof accept);
}

static void what_is_no_key_has_none(void **state)
{
    char accept[DIGEST_ACCEPT_BYTES], large[65];
    (void)state;
    memset(large, 'a', sizeof large);
    assert_false(digest_websocket_accept(SPAN(""), accept));
    assert_false(digest_websocket_accept((struct span){large, sizeof large}, accept));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_key_of_the_standard_has_the_answer_of_the_standard),
        cmocka_unit_test(what_is_no_key_has_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
