/* SPDX-License-Identifier: Apache-2.0 */
/* load: the library of a connector type, found and checked.
 *
 * Looked for in <folder of the program>/src/stream/connectors (a build), <..>/lib/foldback and
 * below, then the folder that the build was configured for.  Once loaded it stays: a library may
 * have threads.
 * Threads: any. */
#ifndef FB_STREAM_CONNECTORS_LOAD_H
#define FB_STREAM_CONNECTORS_LOAD_H
#include "stream/connectors/connector.h"

/* Errors: NOT_FOUND (names the package that has it), VERSION (of another foldback), IO. */
FB_MUST_USE
enum fb_code connector_load(const char *type, const char *package,
                            const struct connector_type **out, struct fb_err *err);
#endif
