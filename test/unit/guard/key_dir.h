/* SPDX-License-Identifier: Apache-2.0 */
/* key_dir: a state folder in memory per test, and a master key beside it.  Threads: one. */
#ifndef FB_TEST_KEY_DIR_H
#define FB_TEST_KEY_DIR_H
#include "guard/keyring.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct key_dir {
    char path[64], master[100]; /* "file:PATH/master" */
};

static inline void key_dir_write(const struct key_dir *d, const char *name, const char *text,
                                 mode_t mode)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", d->path, name);
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fchmod(fd, mode) != 0)
        abort();
    close(fd);
}

static inline void key_dir_make(struct key_dir *d)
{
    snprintf(d->path, sizeof d->path, "%s/fb-key-test-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(d->path))
        abort();
    snprintf(d->master, sizeof d->master, "file:%s/master", d->path);
    key_dir_write(d, "master", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n",
                  0600);
}

static inline void key_dir_remove(const struct key_dir *d)
{
    static const char *const names[] = {"keys", "keys.lock", "keys.new", "master", "other", "kms"};
    char path[200];
    for (size_t i = 0; i < FB_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", d->path, names[i]);
        unlink(path);
    }
    rmdir(d->path);
}

/* The key file's bytes; free() them. */
static inline char *key_dir_read(const struct key_dir *d, size_t *len)
{
    char path[200];
    snprintf(path, sizeof path, "%s/keys", d->path);
    FILE *f = fopen(path, "re");
    char *text = calloc(1, MIB);
    if (!f || !text)
        abort();
    *len = fread(text, 1, MIB - 1, f);
    fclose(f);
    return text;
}
#endif
