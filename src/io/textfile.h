/* SPDX-License-Identifier: Apache-2.0 */
/* textfile: small files of one line: tokens, ids.
 *
 * Threads: any. */
#ifndef FB_IO_TEXTFILE_H
#define FB_IO_TEXTFILE_H
#include "base/base.h"

/* The first line of <path> without its end into <text>, cut to <size> - 1 bytes; false and "" when
 * it cannot be read or is empty.  A token pasted with an editor ends with a line end. */
FB_MUST_USE
bool textfile_line(const char *path, char *text, size_t size);
#endif
