/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/agent_text.h"

static bool is_between(char c)
{
    return c == ' ' || c == ',' || c == '\t';
}

static bool take_word(struct span word, struct agent_report *r)
{
    static const struct {
        const char *word;
        enum agent_admin admin;
        enum agent_state state;
    } words[] = {
        {"up", AGENT_ADMIN_NONE, AGENT_UP},        {"down", AGENT_ADMIN_NONE, AGENT_DOWN},
        {"fail", AGENT_ADMIN_NONE, AGENT_DOWN},    {"failed", AGENT_ADMIN_NONE, AGENT_DOWN},
        {"stopped", AGENT_ADMIN_NONE, AGENT_DOWN}, {"ready", AGENT_READY, AGENT_STATE_NONE},
        {"drain", AGENT_DRAIN, AGENT_STATE_NONE},  {"maint", AGENT_MAINT, AGENT_STATE_NONE},
    };
    uint64_t value;
    for (size_t i = 0; i < FB_COUNT(words); i++) {
        if (!span_ieq(word, span_of(words[i].word)))
            continue;
        if (words[i].admin != AGENT_ADMIN_NONE)
            r->admin = words[i].admin;
        else
            r->state = words[i].state;
        return true;
    }
    if (word.at[word.len - 1] == '%') {
        bool is_good = span_to_u64((struct span){word.at, word.len - 1}, &value) && value <= 1000;
        r->has_weight |= is_good;
        r->weight_pct = is_good ? (double)value : r->weight_pct;
        return is_good;
    }
    if (word.len > 8 && span_ieq((struct span){word.at, 8}, SPAN("maxconn:"))) {
        bool is_good = span_to_u64((struct span){word.at + 8, word.len - 8}, &value);
        r->has_cap |= is_good;
        r->cap = is_good ? fb_sat_u32(value) : r->cap;
        return is_good;
    }
    return false;
}

bool agent_parse(struct span line, struct agent_report *report)
{
    size_t words = 0;
    *report = (struct agent_report){.weight_pct = 100};
    for (size_t at = 0; at < line.len && line.at[at] != '#';) {
        size_t from = at;
        if (is_between(line.at[at])) {
            at++;
            continue;
        }
        while (at < line.len && !is_between(line.at[at]) && line.at[at] != '#')
            at++;
        if (!take_word((struct span){line.at + from, at - from}, report))
            return false;
        words++;
    }
    return words > 0;
}
