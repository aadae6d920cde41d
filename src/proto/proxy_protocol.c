/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/proxy_protocol.h"

#include "base/assert.h"

#include <arpa/inet.h>
#include <stdio.h>

#define V2_FIXED_BYTES 16u
static const char v2_signature[12] = {'\r', '\n', '\r', '\n', 0,   '\r',
                                      '\n', 'Q',  'U',  'I',  'T', '\n'};

static enum proxy_step read_v1(struct span bytes, struct proxy_head *head);
static bool read_v1_addresses(struct span line, struct proxy_head *head);
static bool read_v1_port(struct span text, uint16_t *port);
static enum proxy_step read_v2(struct span bytes, struct proxy_head *head);
static bool are_extensions_whole(struct span bytes);
static uint16_t number16(const char *at);

static enum proxy_step failed(struct proxy_head *head)
{
    *head = (struct proxy_head){0};
    return PROXY_FAILED;
}

enum proxy_step proxy_read(struct span bytes, struct proxy_head *head)
{
    static const char v1_word[6] = "PROXY ";
    *head = (struct proxy_head){0};
    if (bytes.len == 0)
        return PROXY_MORE;
    bool is_v1 = bytes.at[0] == 'P';
    size_t word_bytes = is_v1 ? sizeof v1_word : sizeof v2_signature;
    size_t have = bytes.len < word_bytes ? bytes.len : word_bytes;
    if (memcmp(bytes.at, is_v1 ? v1_word : v2_signature, have) != 0)
        return failed(head);
    if (have < word_bytes)
        return PROXY_MORE;
    return is_v1 ? read_v1(bytes, head) : read_v2(bytes, head);
}

static enum proxy_step read_v1(struct span bytes, struct proxy_head *head)
{
    size_t most = bytes.len < PROXY_V1_MAX_BYTES ? bytes.len : PROXY_V1_MAX_BYTES;
    const char *end = memchr(bytes.at, '\n', most);
    const char *cr = memchr(bytes.at, '\r', most);
    if (end && cr != end - 1)
        return failed(head); /* a bare LF, or a CR before the end */
    if (cr && !end && cr != bytes.at + bytes.len - 1)
        return failed(head);
    if (memchr(bytes.at, 0, end ? (size_t)(end - bytes.at) : most))
        return failed(head);
    if (!end)
        return bytes.len >= PROXY_V1_MAX_BYTES ? failed(head) : PROXY_MORE;
    struct span line = {bytes.at + 6, (size_t)(cr - bytes.at) - 6};
    head->version = 1;
    head->head_bytes = (uint32_t)(end + 1 - bytes.at);
    if (span_starts(line, SPAN("UNKNOWN"))) /* what follows must be ignored */
        return line.len == 7 || line.at[7] == ' ' ? PROXY_DONE : failed(head);
    return read_v1_addresses(line, head) ? PROXY_DONE : failed(head);
}

/* "TCP4 255.255.255.255 255.255.255.255 65535 65535", one blank between two words. */
static bool read_v1_addresses(struct span line, struct proxy_head *head)
{
    struct span word[5], rest = line;
    char text[2][INET6_ADDRSTRLEN];
    for (size_t i = 0; i < FB_COUNT(word); i++) {
        bool has_next = rest.len && memchr(rest.at, ' ', rest.len) != NULL;
        if (has_next != (i + 1 < FB_COUNT(word)))
            return false;
        word[i] = span_cut(rest, ' ', &rest);
    }
    bool is_v4 = span_eq(word[0], SPAN("TCP4"));
    if (!is_v4 && !span_eq(word[0], SPAN("TCP6")))
        return false;
    for (size_t i = 0; i < 2; i++) {
        if (word[i + 1].len == 0 || word[i + 1].len >= sizeof text[i])
            return false;
        memcpy(text[i], word[i + 1].at, word[i + 1].len);
        text[i][word[i + 1].len] = 0;
    }
    int family = is_v4 ? AF_INET : AF_INET6;
    head->family = is_v4 ? PROXY_IPV4 : PROXY_IPV6;
    return inet_pton(family, text[0], head->source) == 1 &&
           inet_pton(family, text[1], head->target) == 1 &&
           read_v1_port(word[3], &head->source_port) && read_v1_port(word[4], &head->target_port);
}

static bool read_v1_port(struct span text, uint16_t *port)
{
    uint64_t value;
    if (text.len > 5 || !span_to_u64(text, &value) || value > 65535)
        return false;
    if (text.len > 1 && text.at[0] == '0')
        return false;
    *port = (uint16_t)value;
    return true;
}

static enum proxy_step read_v2(struct span bytes, struct proxy_head *head)
{
    static const uint8_t address_bytes[] = {0, 12, 36, 216}; /* UNSPEC, IPv4, IPv6, UNIX */
    if (bytes.len < V2_FIXED_BYTES)
        return PROXY_MORE;
    unsigned command = (unsigned char)bytes.at[12], kind = (unsigned char)bytes.at[13];
    unsigned family = kind >> 4, transport = kind & 15;
    size_t rest_bytes = number16(bytes.at + 14);
    if (command != 0x20 && command != 0x21) /* version 2, LOCAL or PROXY */
        return failed(head);
    if (rest_bytes > PROXY_HEAD_MAX_BYTES - V2_FIXED_BYTES)
        return failed(head);
    bool is_local = command == 0x20;
    if (!is_local &&
        (family >= FB_COUNT(address_bytes) || transport > 2 || rest_bytes < address_bytes[family]))
        return failed(head);
    if (bytes.len < V2_FIXED_BYTES + rest_bytes)
        return PROXY_MORE;
    head->version = 2;
    head->is_local = is_local;
    head->head_bytes = (uint32_t)(V2_FIXED_BYTES + rest_bytes);
    if (is_local) /* the family and all that follows must be ignored */
        return PROXY_DONE;
    const char *at = bytes.at + V2_FIXED_BYTES;
    struct span extensions = {at + address_bytes[family], rest_bytes - address_bytes[family]};
    if (!are_extensions_whole(extensions))
        return failed(head);
    if ((family != 1 && family != 2) || transport == 0)
        return PROXY_DONE;
    size_t each = family == 1 ? 4 : 16;
    head->family = family == 1 ? PROXY_IPV4 : PROXY_IPV6;
    memcpy(head->source, at, each);
    memcpy(head->target, at + each, each);
    head->source_port = number16(at + 2 * each);
    head->target_port = number16(at + 2 * each + 2);
    return PROXY_DONE;
}

/* Type, two bytes of length, value; again, to the exact end. */
static bool are_extensions_whole(struct span bytes)
{
    while (bytes.len) {
        if (bytes.len < 3)
            return false;
        size_t each = 3u + number16(bytes.at + 1);
        if (each > bytes.len)
            return false;
        bytes.at += each;
        bytes.len -= each;
    }
    return true;
}

static uint16_t number16(const char *at)
{
    return (uint16_t)((unsigned char)at[0] << 8 | (unsigned char)at[1]);
}

static size_t write_v1(const struct proxy_head *head, char out[PROXY_WRITE_MAX_BYTES])
{
    char source[INET6_ADDRSTRLEN], target[INET6_ADDRSTRLEN];
    if (head->family == PROXY_NONE)
        return (size_t)snprintf(out, PROXY_WRITE_MAX_BYTES, "PROXY UNKNOWN\r\n");
    int family = head->family == PROXY_IPV4 ? AF_INET : AF_INET6;
    inet_ntop(family, head->source, source, sizeof source);
    inet_ntop(family, head->target, target, sizeof target);
    return (size_t)snprintf(out, PROXY_WRITE_MAX_BYTES, "PROXY TCP%c %s %s %u %u\r\n",
                            family == AF_INET ? '4' : '6', source, target, head->source_port,
                            head->target_port);
}

size_t proxy_write(const struct proxy_head *head, char out[PROXY_WRITE_MAX_BYTES])
{
    fb_assert(head->version == 1 || head->version == 2);
    fb_assert(head->family <= PROXY_IPV6);
    if (head->version == 1)
        return write_v1(head, out);
    size_t each = head->family == PROXY_IPV4 ? 4 : head->family == PROXY_IPV6 ? 16 : 0;
    size_t rest = each ? 2 * each + 4 : 0, at = V2_FIXED_BYTES;
    memcpy(out, v2_signature, sizeof v2_signature);
    out[12] = head->is_local ? 0x20 : 0x21;
    out[13] = (char)(each == 4 ? 0x11 : each ? 0x21 : 0);
    out[14] = 0;
    out[15] = (char)rest;
    if (each == 0)
        return at;
    memcpy(out + at, head->source, each);
    memcpy(out + at + each, head->target, each);
    at += 2 * each;
    const uint16_t ports[] = {head->source_port, head->target_port};
    for (size_t i = 0; i < FB_COUNT(ports); i++) {
        out[at++] = (char)(ports[i] >> 8);
        out[at++] = (char)(ports[i] & 255);
    }
    return at;
}
