/* SPDX-License-Identifier: Apache-2.0 */
#include "query/when.h"

#include "base/base.h"

#include <string.h>

struct cursor {
    const char *at, *end;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char peek(const struct cursor *c)
{
    return c->at < c->end ? *c->at : '\0';
}

/* Exactly <digits> digits. */
static bool take_number(struct cursor *c, int digits, uint64_t *v)
{
    *v = 0;
    for (int i = 0; i < digits; i++, c->at++) {
        if (!is_digit(peek(c)))
            return false;
        *v = *v * 10 + (uint64_t)(*c->at - '0');
    }
    return true;
}

static bool take(struct cursor *c, char want)
{
    if (peek(c) != want)
        return false;
    c->at++;
    return true;
}

/* Days since 1970 of a date of the Gregorian calendar; years begin on 1 March here. */
static uint64_t days_of(uint64_t year, uint64_t month, uint64_t day)
{
    year -= month <= 2;
    uint64_t era = year / 400, of_era = year % 400;
    uint64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* ".25" of a second in microseconds; further digits do not count. */
static uint64_t take_fraction(struct cursor *c)
{
    uint64_t us = 0, unit = 100000;
    for (; is_digit(peek(c)); c->at++, unit /= 10)
        us += (uint64_t)(*c->at - '0') * unit;
    return us;
}

bool when_parse(struct span text, uint64_t *wall_us)
{
    struct cursor c = {text.at, text.at + text.len};
    uint64_t year, month, day, hour = 0, minute = 0, second = 0, us = 0;
    if (text.len < 10 || !take_number(&c, 4, &year) || !take(&c, '-') ||
        !take_number(&c, 2, &month) || !take(&c, '-') || !take_number(&c, 2, &day))
        return false;
    static const uint8_t longest[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > longest[month - 1])
        return false;
    if (take(&c, 'T') || take(&c, ' ')) {
        if (!take_number(&c, 2, &hour) || hour > 23)
            return false;
        if (take(&c, ':')) {
            if (!take_number(&c, 2, &minute) || minute > 59)
                return false;
            if (take(&c, ':')) {
                if (!take_number(&c, 2, &second) || second > 60)
                    return false;
                if (take(&c, '.'))
                    us = take_fraction(&c);
            }
        }
    }
    take(&c, 'Z');
    if (c.at != c.end)
        return false;
    uint64_t s = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    *wall_us = s * 1000000 + us;
    return true;
}

bool when_parse_length(struct span text, uint64_t *us)
{
    static const struct {
        const char *unit;
        uint64_t us;
    } units[] = {{"us", 1},
                 {"ms", 1000},
                 {"s", 1000000},
                 {"", 1000000},
                 {"m", UINT64_C(60000000)},
                 {"h", UINT64_C(3600000000)},
                 {"d", UINT64_C(86400000000)}};
    const uint64_t us_max = UINT64_C(86400000000) * 36500;
    size_t digits = 0;
    uint64_t n = 0;
    while (digits < text.len && digits < 16 && is_digit(text.at[digits]))
        n = n * 10 + (uint64_t)(text.at[digits++] - '0');
    struct span unit = {text.at + digits, text.len - digits};
    for (size_t i = 0; digits > 0 && i < FB_COUNT(units); i++)
        if (span_eq(unit, span_of(units[i].unit)) && n >= 1 && n <= us_max / units[i].us) {
            *us = n * units[i].us;
            return true;
        }
    return false;
}

bool when_parse_either(struct span text, uint64_t now_us, uint64_t *wall_us)
{
    uint64_t length_us;
    if (when_parse(text, wall_us))
        return true;
    if (!when_parse_length(text, &length_us))
        return false;
    *wall_us = fb_sub_floor_u64(now_us, length_us);
    return true;
}

int when_compare(struct span a, struct span b)
{
    uint64_t a_us, b_us;
    bool is_a = when_parse(a, &a_us), is_b = when_parse(b, &b_us);
    if (is_a && is_b)
        return a_us < b_us ? -1 : a_us > b_us;
    if (is_a != is_b)
        return is_a ? -1 : 1;
    int order = memcmp(a.at, b.at, a.len < b.len ? a.len : b.len);
    return order ? order : (a.len > b.len) - (a.len < b.len);
}
