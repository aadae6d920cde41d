/* SPDX-License-Identifier: Apache-2.0 */
#include "guard/secret.h"

#include <openssl/crypto.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t whole_pages(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

void *secret_alloc(size_t bytes)
{
    size_t room = whole_pages(bytes ? bytes : 1);
    void *at = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    (void)!mlock(at, room);
    (void)!madvise(at, room, MADV_DONTDUMP);
    (void)!madvise(at, room, MADV_DONTFORK);
    return at;
}

void secret_free(void *secret, size_t bytes)
{
    if (!secret)
        return;
    size_t room = whole_pages(bytes ? bytes : 1);
    OPENSSL_cleanse(secret, room);
    munmap(secret, room);
}

void secret_wipe(void *secret, size_t bytes)
{
    OPENSSL_cleanse(secret, bytes);
}
