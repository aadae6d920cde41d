/* SPDX-License-Identifier: Apache-2.0 */
#include "io/textfile.h"

#include "base/assert.h"

#include <stdio.h>
#include <string.h>

bool textfile_line(const char *path, char *text, size_t size)
{
    fb_assert(size > 0);
    text[0] = '\0';
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool is_read = fgets(text, (int)size, f) != NULL;
    fclose(f);
    text[is_read ? strcspn(text, "\r\n") : 0] = '\0';
    return is_read;
}
