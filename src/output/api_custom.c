/* SPDX-License-Identifier: Apache-2.0 */
/* Facts of what applications send. */
#include "output/admin_int.h"

#define RUN(name) void api_run_##name(struct api_call *c)
#define API(method, path, run, ...) RUN(run);
#include "output/api.def"
#undef API

static void put_window(struct json *j, const char *key, struct custom_sum s)
{
    json_key(j, key);
    json_object_begin(j);
    json_key_u64(j, "n", s.count);
    json_key_f64(j, "rate", s.seconds ? (double)s.count / s.seconds : 0);
    json_key_f64(j, "sum", s.sum);
    json_key(j, "mean");
    if (s.count)
        json_f64(j, s.sum / (double)s.count);
    else
        json_nil(j);
    json_key_u64(j, "seconds", s.seconds);
    json_object_end(j);
}

/* Oldest first; one entry per second that is over. */
static void put_seconds(struct json *j, const struct customs *all, const struct custom_name *n)
{
    json_key(j, "seconds");
    json_array_begin(j);
    for (uint32_t ago = CUSTOM_SECONDS; ago >= 1; ago--) {
        struct custom_sum s = customs_second(all, n, ago);
        if (s.seconds == 0)
            continue;
        json_array_begin(j);
        json_u64(j, s.count);
        json_f64(j, s.sum);
        json_array_end(j);
    }
    json_array_end(j);
}

static void put_name(struct json *j, const struct customs *all, const struct custom_name *n,
                     bool with_seconds)
{
    json_object_begin(j);
    json_key_str(j, "name", n->name);
    json_key_f64(j, "last", n->last);
    json_key_u64(j, "age_s", fb_sub_floor_u64(customs_now_s(all), n->last_s));
    json_key_u64(j, "total", n->total);
    json_key_f64(j, "total_sum", n->total_sum);
    put_window(j, "1s", customs_sum(all, n, 1));
    put_window(j, "10s", customs_sum(all, n, 10));
    put_window(j, "60s", customs_sum(all, n, 60));
    if (with_seconds)
        put_seconds(j, all, n);
    json_object_end(j);
}

RUN(custom_facts)
{
    const struct customs *all = c->admin->source.customs;
    char name[64] = "";
    bool is_one = api_query(c, "name", name, sizeof name);
    const struct custom_name *one = is_one && all ? customs_find(all, name) : NULL;
    if (is_one && !one) {
        api_fail(c, FB_E_NOT_FOUND, "no event named \"%s\" came; GET /v1/custom lists the names",
                 name);
        return;
    }
    json_object_begin(&c->j);
    json_key(&c->j, "names");
    json_array_begin(&c->j);
    for (uint32_t i = 0; all && i < customs_count(all); i++)
        if (!one || one == customs_at(all, i))
            put_name(&c->j, all, customs_at(all, i), is_one);
    json_array_end(&c->j);
    json_key_u64(&c->j, "names_max", CUSTOM_NAMES_MAX);
    json_key_u64(&c->j, "refused", all ? customs_refused(all) : 0);
    json_object_end(&c->j);
}
