/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tls_mem.h"

#include "base/base.h"
#include "base/sanitize.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

static void fill(unsigned char *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (unsigned char)(i * 31 + bytes);
}

static bool is_filled(const unsigned char *at, size_t bytes, size_t of)
{
    for (size_t i = 0; i < bytes; i++)
        if (at[i] != (unsigned char)(i * 31 + of))
            return false;
    return true;
}

static void pieces_of_all_sizes_lie_beside_each_other(void **state)
{
    enum { COUNT = 600 };
    static unsigned char *at[COUNT];
    (void)state;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT; i++) {
            size_t bytes = 1 + i * i / 8; /* to 44,850 */
            at[i] = OPENSSL_malloc(bytes);
            assert_non_null(at[i]);
            assert_int_equal((uintptr_t)at[i] % 16, 0);
            fill(at[i], bytes);
        }
        for (size_t i = 0; i < COUNT; i++) {
            size_t bytes = 1 + i * i / 8;
            assert_true(is_filled(at[i], bytes, bytes));
            OPENSSL_free(at[i]);
        }
    }
}

static void a_piece_that_grows_keeps_what_is_in_it(void **state)
{
    (void)state;
    unsigned char *at = OPENSSL_malloc(10);
    assert_non_null(at);
    fill(at, 10);
    for (size_t bytes = 11; bytes < 40000; bytes += bytes / 3) {
        at = OPENSSL_realloc(at, bytes);
        assert_non_null(at);
        assert_true(is_filled(at, 10, 10));
        memset(at + 10, 0xee, bytes - 10);
    }
    at = OPENSSL_realloc(at, 5);
    assert_non_null(at);
    assert_true(is_filled(at, 5, 10));
    OPENSSL_free(at);
    assert_null(OPENSSL_malloc(0));
}

static void what_was_given_back_last_comes_first(void **state)
{
    (void)state;
    if (FB_IS_SANITIZED) /* each piece is the C library's then, which watches it */
        return;
    void *first = OPENSSL_malloc(7000), *second = OPENSSL_malloc(7100);
    uintptr_t was[2] = {(uintptr_t)first, (uintptr_t)second};
    OPENSSL_free(first);
    OPENSSL_free(second);
    first = OPENSSL_malloc(7168);
    second = OPENSSL_malloc(6145);
    assert_int_equal((uintptr_t)first, was[1]);
    assert_int_equal((uintptr_t)second, was[0]);
    OPENSSL_free(first);
    OPENSSL_free(second);
}

static void *give_all(void *arg)
{
    void **at = arg;
    for (int i = 0; i < 1000; i++)
        OPENSSL_free(at[i]);
    at[0] = OPENSSL_malloc(100); /* one of them, most likely: it goes back with another thread */
    return NULL;
}

static void another_thread_may_give_it_back(void **state)
{
    static void *at[1000];
    pthread_t thread;
    (void)state;
    for (size_t i = 0; i < FB_COUNT(at); i++)
        assert_non_null(at[i] = OPENSSL_zalloc(100 + i));
    assert_int_equal(pthread_create(&thread, NULL, give_all, at), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_non_null(at[0]);
    OPENSSL_free(at[0]);
}

static void a_piece_given_back_twice_ends_the_process(void **state)
{
    (void)state;
    if (FB_IS_SANITIZED)
        return;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        void *at = OPENSSL_malloc(64);
        void *volatile alias = at;
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, STDERR_FILENO); /* what it says is not for this log */
        signal(SIGABRT, SIG_DFL);
        OPENSSL_free(at);
        OPENSSL_free(alias);
        _exit(0);
    }
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how));
    assert_int_equal(WTERMSIG(how), SIGABRT);
}

static void it_comes_before_openssl_or_not_at_all(void **state)
{
    (void)state;
    assert_true(tls_mem_begin()); /* again: nothing changes */
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    unsigned char out[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    assert_int_equal(EVP_DigestInit_ex(md, EVP_sha256(), NULL), 1);
    assert_int_equal(EVP_DigestFinal_ex(md, out, &len), 1);
    assert_int_equal(len, 32);
    EVP_MD_CTX_free(md);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_of_all_sizes_lie_beside_each_other),
        cmocka_unit_test(a_piece_that_grows_keeps_what_is_in_it),
        cmocka_unit_test(what_was_given_back_last_comes_first),
        cmocka_unit_test(another_thread_may_give_it_back),
        cmocka_unit_test(a_piece_given_back_twice_ends_the_process),
        cmocka_unit_test(it_comes_before_openssl_or_not_at_all),
    };
    if (!tls_mem_begin())
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
