/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/share.h"

#include "base/assert.h"

#include <math.h>

#define GROWTH 1.05    /* above what is asked for: what is kept for growth nobody else uses */
#define IDLE_PART 0.05 /* of an even part, for those who ask for nothing */

void fleet_divide(struct fleet_share *shares, uint32_t count, uint64_t limit_milli,
                  uint32_t whole_ppm)
{
    fb_assert(count >= 1 && count <= FLEET_NODES_MAX);
    if (limit_milli == 0) {
        double sum = 1;
        for (uint32_t i = 0; i < count; i++)
            sum += shares[i].asked_milli;
        limit_milli = (uint64_t)(GROWTH * sum);
    }
    double there = fmax((double)limit_milli * whole_ppm / FLEET_SHARE_ALL, 1e-3);
    double even = 1.0 / count, want[FLEET_NODES_MAX], part[FLEET_NODES_MAX] = {0};
    bool is_content[FLEET_NODES_MAX] = {false};
    for (uint32_t i = 0; i < count; i++) {
        want[i] = GROWTH * shares[i].asked_milli / there;
        if (want[i] < IDLE_PART * even)
            want[i] = IDLE_PART * even;
    }
    /* each round makes somebody content, or is the last one */
    double rest = 1.0;
    uint32_t hungry = count;
    for (uint32_t round = 0; round < count && hungry > 0; round++) {
        double each = rest / hungry;
        uint32_t was = hungry;
        for (uint32_t i = 0; i < count; i++)
            if (!is_content[i] && want[i] <= each) {
                is_content[i] = true;
                part[i] = want[i];
                rest -= want[i];
                hungry--;
            }
        if (hungry == was)
            break;
    }
    double spare = rest / (hungry ? hungry : count);
    uint64_t left_ppm = whole_ppm;
    for (uint32_t i = 0; i < count; i++) {
        double p = hungry == 0 ? part[i] + spare : is_content[i] ? part[i] : spare;
        double ppm = fb_clamp(p * whole_ppm, 0, (double)left_ppm);
        shares[i].share_ppm = (uint32_t)ppm;
        left_ppm -= shares[i].share_ppm;
    }
}

void fleet_step(struct fleet_share *wanted, const uint32_t *in_force_ppm, uint32_t count,
                uint32_t whole_ppm)
{
    /* what is held now by those that keep or fall is theirs until they report less */
    uint64_t held_ppm = 0, rise_ppm = 0;
    for (uint32_t i = 0; i < count; i++) {
        held_ppm += in_force_ppm[i];
        if (wanted[i].share_ppm > in_force_ppm[i])
            rise_ppm += wanted[i].share_ppm - in_force_ppm[i];
    }
    uint64_t free_ppm = fb_sub_floor_u64(whole_ppm, held_ppm);
    if (rise_ppm <= free_ppm)
        return;
    for (uint32_t i = 0; i < count; i++)
        if (wanted[i].share_ppm > in_force_ppm[i]) {
            uint64_t rise = wanted[i].share_ppm - in_force_ppm[i];
            wanted[i].share_ppm = in_force_ppm[i] + (uint32_t)(rise * free_ppm / rise_ppm);
        }
}
