/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox: what a process that talks to strangers or reads their bytes may not ask of the kernel.
 *
 * Call before the threads start: they inherit it.  It cannot be left again.  Where the kernel has
 * no such thing the process goes on and says so in its log. */
#ifndef FB_IO_SANDBOX_H
#define FB_IO_SANDBOX_H

/* <who>: "gateway", "brain", for the log. */
void sandbox_enter(const char *who);
#endif
