/* SPDX-License-Identifier: Apache-2.0 */
/* state_dir: what lies in the state folder besides log and state.db.
 *
 *   lock         held (flock) by the supervisor that uses the folder
 *   node         16 hex digits, random, made once: the node's id in every block
 *   secret       key of hashes that leave the process, made at the first start, mode 0600
 *   admin.token  made at the first start, mode 0600
 *   ingest.token the same, of the token that may only bring events in
 *   admin.json   {"address", "token_file", "pid"} of the running foldback: how the CLI finds it
 *   upgrade.request  two lines, a number and a binary: what SIGUSR2 means (removed when read)
 *   upgrade.answer   {"id", "state": done | failed | refused, "text"}: how the last upgrade ended
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
/* 128 random bits, made at the first start; nobody but this node knows them. */
void state_dir_secret(const char *dir, uint64_t secret[2]);
/* Path of the token file: <configured>, or made in <dir> when that is "". */
FB_MUST_USE
enum fb_code state_dir_token(const char *dir, const char *configured, char *path, size_t size,
                             struct fb_err *err);
/* Path of the file with ingest-only tokens; made there unless it is configured. */
void state_dir_ingest_path(const char *dir, const char *configured, char *path, size_t size);
FB_MUST_USE
enum fb_code state_dir_ingest_token(const char *dir, const char *configured, struct fb_err *err);
void state_dir_announce(const char *dir, const char *address, const char *token_file);
/* "http://ADDRESS/?token=..."; false when the token cannot be read. */
bool state_dir_url(const char *address, const char *token_file, char *url, size_t size);
/* What the next SIGUSR2 is about, once; false: nothing was left there. */
bool state_dir_upgrade_request(const char *dir, char *id, size_t id_size, char *binary,
                               size_t binary_size);
void state_dir_upgrade_answer(const char *dir, const char *id, const char *state, const char *text);
/* One datagram to $NOTIFY_SOCKET (sd_notify protocol); nothing without it. */
void state_dir_notify_systemd(const char *text);
#endif
