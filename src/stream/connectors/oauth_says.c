/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/oauth_says.h"

#include <jansson.h>
#include <stdio.h>

void oauth_says(struct span json, char *out, size_t size)
{
    json_t *all = json_loadb(json.len ? json.at : "", json.len, 0, NULL);
    const char *error = json_string_value(json_object_get(all, "error"));
    const char *more = json_string_value(json_object_get(all, "error_description"));
    snprintf(out, size, "%.60s%s%.120s", error ? error : "no reason", more ? ": " : "",
             more ? more : "");
    for (char *c = out; *c; c++)
        if (*c < 0x20 || *c >= 0x7f)
            *c = ' ';
    json_decref(all);
}
