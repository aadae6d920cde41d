/* SPDX-License-Identifier: Apache-2.0 */
#include "output/assets.h"

const struct asset *asset_find(struct span path)
{
    for (uint32_t i = 0; i < assets_count; i++)
        if (span_eq(path, span_of(assets[i].path)))
            return &assets[i];
    return NULL;
}
