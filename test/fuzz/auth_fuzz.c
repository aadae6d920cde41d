/* SPDX-License-Identifier: Apache-2.0 */
/* Any Authorization, and any file of users: what is accepted names somebody, and he is found. */
#include "base/assert.h"
#include "io/htpasswd.h"
#include "proto/basic.h"

#include <stdint.h>

static void as_file(struct span text)
{
    struct htpasswd *h = NULL;
    struct fb_err err = {0};
    char hash[HTPASSWD_HASH_BYTES_MAX];
    if (htpasswd_parse(text, "users", &h, &err) != FB_OK) {
        fb_assert(h == NULL);
        fb_assert(err.text[0] != '\0');
        return;
    }
    fb_assert(htpasswd_count(h) > 0);
    while (text.len) {
        struct span line = span_cut(text, '\n', &text), rest;
        struct span name = span_cut(line, ':', &rest);
        if (name.len && name.at[0] != '#' && span_trim(rest).len)
            fb_assert(htpasswd_find(h, name, hash));
    }
    fb_assert(!htpasswd_find(h, SPAN("nobody\n"), hash));
    fb_assert(hash[0] == '$');
    htpasswd_free(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct span text = {(const char *)bytes, len};
    struct basic b;
    if (basic_read(text, &b)) {
        fb_assert(b.user.len > 0);
        fb_assert(strlen(b.user.at) == b.user.len);
        fb_assert(strlen(b.password.at) == b.password.len);
        fb_assert(b.password.len <= BASIC_PASSWORD_BYTES_MAX);
    }
    as_file(text);
    return 0;
}
