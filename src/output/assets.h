/* SPDX-License-Identifier: Apache-2.0 */
/* assets: the files of the dashboard, compiled into the program.
 *
 * assets_data.c is made at build time by tools of web/ (or, without npm, holds one plain page that
 * says so). Names of files that are not HTML carry a hash of their bytes: they never change and are
 * cached for ever. Threads: any (constants). */
#ifndef FB_OUTPUT_ASSETS_H
#define FB_OUTPUT_ASSETS_H
#include "base/span.h"

struct asset {
    const char *path; /* "/", "/assets/app-1a2b3c4d.js" */
    const char *type; /* media type */
    const char *etag; /* quoted */
    const unsigned char *bytes, *gzip;
    uint32_t length_bytes, gzip_bytes;
    bool is_immutable;
};
extern const struct asset assets[];
extern const uint32_t assets_count;
extern const bool assets_are_fallback; /* built without the dashboard */

const struct asset *asset_find(struct span path); /* NULL when there is none */
#endif
