/* SPDX-License-Identifier: Apache-2.0 */
/* paths_fuzz: regular expressions of routes, and addresses of answers on their way back.
 *
 * Input: byte 0 selects.  Even: a pattern, a line feed, a text.  Asserted: what it matches begins
 * as regex_prefix says, and its groups lie in the text.  Odd: the name of a field, a line feed, its
 * value; bits of byte 0 choose prefixes and host.  Asserted: one line comes out, and no address
 * becomes another host by its two slashes. */
#include "base/assert.h"
#include "base/regex.h"
#include "gateway/back.h"

static void fuzz_regex(struct span pattern, struct span text, bool is_caseless)
{
    static struct regex_work *work;
    struct regex_fault fault;
    if (!work)
        work = regex_work_new();
    fb_assert(work != NULL);
    struct regex *rx = regex_new(pattern, is_caseless, &fault);
    if (!rx) {
        fb_assert(fault.text[0] != '\0');
        fb_assert(fault.at <= pattern.len);
        return;
    }
    if (regex_match(rx, work, text) == REGEX_YES) {
        fb_assert(span_starts(text, regex_prefix(rx)));
        for (uint32_t i = 0; i <= regex_groups(rx); i++) {
            struct span group = regex_group(work, text, i);
            fb_assert(group.len == 0 || group.at >= text.at);
            fb_assert(group.len == 0 || group.at + group.len <= text.at + text.len);
        }
    }
    regex_free(rx);
}

static void fuzz_back(struct span name, struct span value, unsigned bits)
{
    static const struct conf_endpoint endpoint = {.host = "10.0.0.1", .port = 3000};
    static const struct conf_pair pair = {"/a", "/b/"};
    static const struct conf_back back = {.location = {&pair, 1}, .cookie_path = {&pair, 1}};
    static const struct conf_back none;
    static char room[64 * 1024];
    const struct conf_rules rules = {.strip_prefix = bits & 2 ? "/api" : "",
                                     .add_prefix = bits & 4 ? "/v2" : "",
                                     .back = bits & 8 ? &back : &none};
    const struct conf_service sv = {.host_header = bits & 16 ? "app.internal" : "",
                                    .endpoints = &endpoint,
                                    .endpoint_count = 1};
    const struct back_note b = {.rules = &rules,
                                .sv = &sv,
                                .host = bits & 32 ? SPAN("shop.example:81") : SPAN(""),
                                .is_stripped = bits & 64,
                                .is_https = bits & 128};
    for (size_t i = 0; i < value.len; i++) /* as the parser of answers leaves them */
        if ((unsigned char)value.at[i] < ' ' && value.at[i] != '\t')
            return;
    value = span_trim(value);
    struct http1_out w = http1_out(room, sizeof room);
    if (!back_write(&b, name, value, &w))
        return;
    fb_assert(!w.failed);
    fb_assert(w.len >= name.len + 4);
    struct span out = {room + name.len + 2, w.len - name.len - 4};
    fb_assert(memcmp(out.at + out.len, "\r\n", 2) == 0);
    fb_assert(out.len == 0 || !memchr(out.at, '\n', out.len));
    bool was_host = value.len > 1 && (value.at[1] == '/' || value.at[1] == '\\');
    if (span_ieq(name, SPAN("location")) && !was_host && out.len > 1 && out.at[0] == '/')
        fb_assert(out.at[1] != '/');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct span rest,
        first = span_cut((struct span){(const char *)data + 1, size - 1}, '\n', &rest);
    if (data[0] % 2 == 0)
        fuzz_regex(first, rest, data[0] & 2);
    else
        fuzz_back(first, rest, data[0]);
    return 0;
}
