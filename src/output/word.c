/* SPDX-License-Identifier: Apache-2.0 */
#include "output/word.h"

const char *word_lower(const char *name)
{
    static char ring[16][64];
    static unsigned at;
    if (!name)
        return NULL;
    char *text = ring[at++ % FB_COUNT(ring)];
    size_t i = 0;
    for (; name[i] && i < sizeof ring[0] - 1; i++)
        text[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] | 0x20) : name[i];
    text[i] = '\0';
    return text;
}
