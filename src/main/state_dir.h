/* SPDX-License-Identifier: Apache-2.0 */
/* state_dir: what lies in the state folder besides log and state.db.
 *
 *   lock         held (flock) by the supervisor that uses the folder
 *   node         16 hex digits, random, made once: the node's id in every block
 *   admin.token  made at the first start, mode 0600
 *   admin.json   {"address", "token_file", "pid"} of the running foldback: how the CLI finds it
 *
 * Threads: main thread. */
#ifndef FB_MAIN_STATE_DIR_H
#define FB_MAIN_STATE_DIR_H
#include "base/error.h"

/* Makes the folder (0700) with its parents and locks it.  Errors: IO, CONFLICT (another foldback
 * uses it). */
FB_MUST_USE
enum fb_code state_dir_open(const char *dir, int *lock_fd, struct fb_err *err);
void state_dir_close(const char *dir, int lock_fd); /* removes admin.json */
bool state_dir_has_state(const char *dir);
uint64_t state_dir_node_id(const char *dir);
/* Path of the token file: <configured>, or made in <dir> when that is "". */
FB_MUST_USE
enum fb_code state_dir_token(const char *dir, const char *configured, char *path, size_t size,
                             struct fb_err *err);
void state_dir_announce(const char *dir, const char *address, const char *token_file);
/* "http://ADDRESS/?token=..."; false when the token cannot be read. */
bool state_dir_url(const char *address, const char *token_file, char *url, size_t size);
/* One datagram to $NOTIFY_SOCKET (sd_notify protocol); nothing without it. */
void state_dir_notify_systemd(const char *text);
#endif
