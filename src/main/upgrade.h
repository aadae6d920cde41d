/* SPDX-License-Identifier: Apache-2.0 */
/* upgrade: another binary takes over a running foldback without a broken request.
 *
 *   CHECK  the new binary reads the memory file and the configuration, and says its version
 *   START  its gateway serves beside the old one, from the same sockets; the old one is retired:
 *          it accepts nothing more and ends what it has
 *   exec   the supervisor becomes the new binary: same process, same children, same descriptors
 *   BRAIN  the old brain writes its snapshot and ends; the new one goes on from log and rings
 *
 * Up to exec a failure leaves the old binary in charge and says why; a new supervisor that cannot
 * read what it was given becomes the old binary again.  Threads: main thread only. */
#ifndef FB_MAIN_UPGRADE_H
#define FB_MAIN_UPGRADE_H
#include "base/base.h"

/* Version of what one supervisor tells the next. */
#define UPGRADE_STATE_VERSION 1
#define UPGRADE_ENV "FOLDBACK_UPGRADE_FD"
#define UPGRADE_BACK_ENV "FOLDBACK_UPGRADE_BACK"

/* `foldback __check STATE_VERSION LISTENERS`: may this binary take over? */
int upgrade_check_main(int argc, char **argv);
/* Is this process a supervisor that has just changed its binary? */
bool upgrade_is_resumed(void);
/* Goes on where the binary before stopped; returns the exit code. */
int upgrade_resume_main(void);
#endif
