/* SPDX-License-Identifier: Apache-2.0 */
/* cache status, cache purge. */
#include "cli/cli_int.h"
#include "cli/table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void put_size(double bytes, char out[24])
{
    if (bytes >= 10.0 * (double)MIB)
        snprintf(out, 24, "%.0f MiB", bytes / (double)MIB);
    else if (bytes >= (double)MIB)
        snprintf(out, 24, "%.1f MiB", bytes / (double)MIB);
    else
        snprintf(out, 24, "%.0f KiB", bytes / (double)KIB);
}

/* What endpoints would get with an empty cache, of what they can take; and for how long. */
static void put_cold(const json_t *cold, char load[16], char refill[16])
{
    const json_t *ratio = json_object_get(cold, "load_ratio"),
                 *refill_s = json_object_get(cold, "refill_s");
    snprintf(load, 16, "%s", "-");
    snprintf(refill, 16, "%s", json_is_number(ratio) ? "never" : "-");
    if (json_is_number(ratio))
        snprintf(load, 16, "%.0f%%", json_number_value(ratio) * 100);
    if (json_is_number(refill_s))
        snprintf(refill, 16, "%.3g s", json_number_value(refill_s));
}

static void show_cache(const json_t *root, struct buf *out)
{
    char used[24], memory[24];
    put_size(cli_num(root, "total_bytes"), used);
    put_size(cli_num(root, "memory_bytes"), memory);
    const json_t *list = json_object_get(root, "routes");
    if (json_array_size(list) == 0) {
        buf_puts(out, "No route keeps answers: write `cache: on` at a route.\n");
        return;
    }
    buf_printf(out, "memory    %s of %s\n\n", used, memory);
    buf_printf(out, "%-32s %7s %9s %11s %11s %9s %9s %10s %10s\n", "ROUTE", "HITS", "REQUESTS",
               "USED", "BUDGET", "ENTRIES", "EVICTED", "IF EMPTY", "REFILL");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *r = json_array_get(list, i);
        char hits[16] = "-", budget[24], load[16], refill[16];
        double asked = 0, ratio = cli_num(r, "hit_ratio");
        const char *name;
        json_t *n;
        json_object_foreach(json_object_get(r, "requests"), name, n) asked += json_number_value(n);
        if (asked > 0)
            snprintf(hits, sizeof hits, "%.1f%%", ratio * 100);
        put_size(cli_num(r, "used_bytes"), used);
        put_size(cli_num(r, "budget_bytes"), budget);
        put_cold(json_object_get(r, "cold"), load, refill);
        buf_printf(out, "%-32s %7s %9.0f %11s %11s %9.0f %9.0f %10s %10s\n", cli_str(r, "route"),
                   hits, asked, used, budget, cli_num(r, "entries"), cli_num(r, "evicted"), load,
                   refill);
    }
}

int cmd_cache_status(const struct cli_call *call)
{
    json_t *root;
    int code = cli_api(call, "GET", "/v1/cache", NULL, &root);
    if (code == 0 && call->is_json) {
        cli_print_json(root);
    } else if (code == 0) {
        struct buf out;
        buf_init(&out, 4 * MIB);
        show_cache(root, &out);
        cli_flush(&out);
        buf_fini(&out);
    }
    json_decref(root);
    return code;
}

static void say_purged(const json_t *root)
{
    const json_t *purged = json_object_get(root, "purged");
    long long count = json_integer_value(purged);
    const char *answers = count == 1 ? "answer" : "answers";
    if (!purged)
        printf("The purge is under way; `foldback cache status` shows what is left.");
    else if (count == 0)
        printf("No answer in memory fits: nothing was purged; `foldback cache status` shows what "
               "there is.");
    else if (cli_is(root, "is_paced"))
        printf("Purged %lld %s: each is fetched anew when it is asked for and there is room; --now "
               "drops them at once.",
               count, answers);
    else
        printf("Purged %lld %s.", count, answers);
    printf("%s%s\n", cli_str(root, "warning")[0] ? "  " : "", cli_str(root, "warning"));
}

int cmd_cache_purge(const struct cli_call *call)
{
    const char *url = call->arg_count ? call->arg[0] : NULL, *tag = call->option[OPT_TAG];
    bool is_all = call->option[OPT_ALL] != NULL;
    json_t *body = json_object(), *root;
    if ((url != NULL) + (tag != NULL) + is_all != 1) {
        json_decref(body);
        return cli_usage(call, "needs one of: a URL, a prefix that ends with *, --tag TAG, --all");
    }
    if ((tag && !tag[0]) || (url && !url[0])) {
        json_decref(body);
        return cli_usage(call, "needs a text of 1 to 2000 bytes, got \"\"");
    }
    size_t len = url ? strlen(url) : 0;
    if (url && len > 1 && url[len - 1] == '*')
        json_object_set_new(body, "prefix", json_stringn(url, len - 1));
    else if (url)
        json_object_set_new(body, "url", json_string(url));
    else if (tag)
        json_object_set_new(body, "tag", json_string(tag));
    else
        json_object_set_new(body, "all", json_true());
    if (call->option[OPT_NOW])
        json_object_set_new(body, "now", json_true());
    if (call->option[OPT_WHY])
        json_object_set_new(body, "why", json_string(call->option[OPT_WHY]));
    int code = cli_api(call, "POST", "/v1/cache/purge", body, &root);
    if (code == 0 && call->is_json)
        cli_print_json(root);
    else if (code == 0)
        say_purged(root);
    json_decref(root);
    json_decref(body);
    return code;
}
