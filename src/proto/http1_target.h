/* SPDX-License-Identifier: Apache-2.0 */
/* http1_target: one spelling for all requests that mean the same: what is routed is what is
 * forwarded.
 *
 * Path: escapes of unreserved characters are decoded (%7E is ~, %2E is .), other escapes get
 * upper-case digits, visible bytes outside pchar are escaped, then dot segments are removed (RFC
 * 3986 5.2.4, never above the root).  Duplicate slashes and %2F stay.  A bad escape, %00, a control
 * byte or a byte >= 0x80 is an error.  The result never begins with anything but '/' and holds no
 * "/./" and no "/../". Query: as received (its escapes are the application's), it holds visible
 * ASCII without '#'. Host: lower case, no port, no final dot. Idempotent: the normal form of a
 * normal form is itself. Threads: any.  Memory: the caller's.  Units: bytes. */
#ifndef FB_PROTO_HTTP1_TARGET_H
#define FB_PROTO_HTTP1_TARGET_H
#include "proto/http1_write.h"

/* The path of <head> in normal form, appended to <w>; *path is that part ("/" for an empty path,
 * "*" for asterisk form or OPTIONS of an absolute form without path).  Never longer than 3 times
 * the path + 1. HTTP1_E_BAD_TARGET when it has none; a full <w> is not an error: see w->failed. */
FB_MUST_USE
enum http1_error http1_path_normalise(const struct http1_head *head, struct http1_out *w,
                                      struct span *path);
/* The same, with "?query" behind it when there is one: the target to forward. *target spans both.
 */
FB_MUST_USE
enum http1_error http1_target_normalise(const struct http1_head *head, struct http1_out *w,
                                        struct span *target, struct span *path);
/* Path text from elsewhere (a configuration): must begin with '/'. */
FB_MUST_USE
enum http1_error http1_path_normalise_text(struct span raw, struct http1_out *w);

/* <head>->host_name in lower case, appended to <w>. */
struct span http1_host_normalise(const struct http1_head *head, struct http1_out *w);

/* host[:port] as in Host.  *name excludes a final dot and the port; *port is 0 when absent.
 * False: not a valid uri-host with an optional port of 1 to 65535, or it has user information. */
FB_MUST_USE
bool http1_host_split(struct span text, struct span *name, uint16_t *port);
#endif
