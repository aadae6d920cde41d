/* SPDX-License-Identifier: Apache-2.0 */
/* key_command: what `foldback key` and `foldback erase` share.
 *
 * Threads: main thread. */
#ifndef FB_MAIN_KEY_COMMAND_H
#define FB_MAIN_KEY_COMMAND_H
#include "cli/cli.h"
#include "guard/keyring.h"

/* The account that runs the command, for the audit. */
void command_who(char who[KEYRING_WHO_BYTES]);
/* Does a foldback use the state folder now? */
bool command_is_running(const char *state_dir);
int command_fail(const struct fb_err *err, enum fb_code code);
#endif
