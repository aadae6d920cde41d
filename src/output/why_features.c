/* SPDX-License-Identifier: Apache-2.0 */
/* What features did: sentences of `why`, and GET /v1/features. */
#include "output/feature.h"
#include "output/why_int.h"

#include <inttypes.h>
#include <stdatomic.h>

void api_run_features(struct api_call *c);

void why_say_traits(struct api_call *c, const struct ev_request *r)
{
    for (unsigned i = 0; i < EV_TRAIT_COUNT; i++)
        if (r->traits >> i & 1)
            why_say(c, "%s", ev_trait_row(i)->sentence);
    if (r->plain_bytes)
        why_say(c,
                "Its body had %" PRIu64 " bytes before it was compressed, and %" PRIu64 " after.",
                r->plain_bytes, r->coded_bytes);
    if (r->limit_used_pct)
        why_say(c, "With it the fullest limit or quota of its user was used up to %" PRIu64 " %%.",
                r->limit_used_pct);
}

static bool say(struct api_call *c, unsigned id, uint16_t number, const char *of)
{
    struct feature_figure figures[FEATURE_FIGURES_MAX];
    size_t count = feature_figures(c->admin, id, number, figures);
    struct buf text;
    if (count == 0)
        return false;
    buf_init(&text, 1024);
    feature_text(figures, count, &text);
    why_say(c, "%s%s%s: %s.", feature_row(id)->title, of[0] ? " of " : "", of, buf_str(&text));
    buf_fini(&text);
    return true;
}

void why_say_features(struct api_call *c, enum ev_kind kind, uint16_t number)
{
    for (unsigned id = 0; id < FEATURE_COUNT; id++)
        if (feature_row(id)->kind == kind)
            say(c, id, number, "");
}

/* Of all of its kind. */
static size_t say_all(struct api_call *c, unsigned id)
{
    enum ev_kind kind = feature_row(id)->kind;
    size_t said = 0;
    if (kind == EV_KIND_NONE)
        return say(c, id, 0, "");
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX && said < 50; i++) {
        const char *name = admin_name(c->admin, kind, i);
        if (name[0])
            said += say(c, id, i, name);
    }
    return said;
}

static void put_list(struct json *j, const char *key, const char *list)
{
    struct span rest = span_of(list);
    json_key(j, key);
    json_array_begin(j);
    while (rest.len > 0)
        json_span(j, span_cut(rest, ',', &rest));
    json_array_end(j);
}

static void say_given_up(struct api_call *c)
{
    static const char *const stages[] = {
        "nothing", "free memory and free connections to endpoints", "idle client connections too",
        "requests of the lowest classes too", "new connections too: they wait in the kernel"};
    const struct memfile_head *h = c->admin->source.memfile->head;
    uint32_t stage = atomic_load(&h->own_stage);
    why_say(c, "Given up now: %s.", stages[stage < FB_COUNT(stages) ? stage : 0]);
}

/* Files of users that are not good, and what found no room to be checked. */
static void say_auth(struct api_call *c)
{
    const struct memfile_auth *m = &c->admin->source.memfile->head->auth;
    uint32_t files = atomic_load(&m->files), bad = atomic_load(&m->bad_files), waiting = 0;
    uint64_t full = atomic_load(&m->refused[MEMFILE_AUTH_FULL]);
    uint64_t client = atomic_load(&m->refused[MEMFILE_AUTH_CLIENT]);
    uint64_t thread = atomic_load(&m->refused[MEMFILE_AUTH_THREAD]);
    for (size_t i = 0; i < MEMFILE_SLOTS; i++)
        waiting += atomic_load(&m->waiting[i]);
    if (bad)
        why_say(c, "%u of %u files of users %s not good now: %.199s.", bad, files,
                bad == 1 ? "is" : "are", m->why);
    else if (files)
        why_say(c, "Its files of users are good (%u).", files);
    if (waiting)
        why_say(c, "%u passwords wait to be checked, or are being checked; 128 may.", waiting);
    if (full + client + thread)
        why_say(c,
                "No room for the check of a password: %" PRIu64 " times because as many waited as "
                "may, %" PRIu64 " times because as many of one client did%s.",
                full, client, thread ? "; and there were times without a thread for it" : "");
}

bool why_feature(struct api_call *c, const char *q)
{
    unsigned id = feature_by_name(span_of(q));
    if (id == FEATURE_COUNT)
        return false;
    const struct feature_row *row = feature_row(id);
    json_object_begin(&c->j);
    json_key_str(&c->j, "kind", "feature");
    json_key_str(&c->j, "subject", row->name);
    json_key(&c->j, "sentences");
    json_array_begin(&c->j);
    why_say(c, "%s", row->what);
    if (say_all(c, id) == 0)
        why_say(c, "Nothing of it was seen so far.");
    if (id == FEATURE_OWN)
        say_given_up(c);
    if (id == FEATURE_AUTH)
        say_auth(c);
    why_say(c, "Its metrics: %s.", row->metrics);
    why_say(c, "How to use it: doc/guide/%s.md.", row->page);
    json_array_end(&c->j);
    json_key(&c->j, "next");
    json_array_begin(&c->j);
    why_say(c, "foldback status");
    json_array_end(&c->j);
    json_object_end(&c->j);
    return true;
}

/* ---- GET /v1/features ---- */
static void put_figures(struct api_call *c, unsigned id, uint16_t number, const char *of)
{
    struct feature_figure figures[FEATURE_FIGURES_MAX];
    size_t count = feature_figures(c->admin, id, number, figures);
    if (count == 0)
        return;
    json_object_begin(&c->j);
    json_key_str(&c->j, "of", of);
    json_key(&c->j, "figures");
    json_object_begin(&c->j);
    for (size_t i = 0; i < count; i++)
        json_key_f64(&c->j, figures[i].label, figures[i].value);
    json_object_end(&c->j);
    json_object_end(&c->j);
}

/* What is of no route: the files of users, and the queue of their checks. */
static void put_auth_node(struct api_call *c)
{
    const struct memfile_auth *m = &c->admin->source.memfile->head->auth;
    uint64_t waiting = 0, refused = 0;
    uint32_t files = atomic_load(&m->files);
    for (size_t i = 0; i < MEMFILE_SLOTS; i++)
        waiting += atomic_load(&m->waiting[i]);
    for (size_t i = 0; i < MEMFILE_AUTH_CAUSES; i++)
        refused += atomic_load(&m->refused[i]);
    if (!files && !refused)
        return;
    json_object_begin(&c->j);
    json_key_str(&c->j, "of", "node");
    json_key(&c->j, "figures");
    json_object_begin(&c->j);
    json_key_u64(&c->j, "files_not_good", atomic_load(&m->bad_files));
    json_key_u64(&c->j, "checks_waiting", waiting);
    json_key_u64(&c->j, "checks_without_room", refused);
    json_object_end(&c->j);
    json_object_end(&c->j);
}

static void put_feature(struct api_call *c, unsigned id)
{
    const struct feature_row *row = feature_row(id);
    json_object_begin(&c->j);
    json_key_str(&c->j, "name", row->name);
    json_key_str(&c->j, "title", row->title);
    json_key_str(&c->j, "kind",
                 row->kind == EV_KIND_NONE ? "node" : ev_kind_name((uint8_t)row->kind));
    json_key_str(&c->j, "what", row->what);
    json_key_str(&c->j, "page", row->page);
    put_list(&c->j, "keys", row->keys);
    put_list(&c->j, "metrics", row->metrics);
    put_list(&c->j, "reasons", row->reasons);
    json_key(&c->j, "seen");
    json_array_begin(&c->j);
    if (row->kind == EV_KIND_NONE)
        put_figures(c, id, 0, "node");
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX && row->kind != EV_KIND_NONE; i++) {
        const char *name = admin_name(c->admin, row->kind, i);
        if (name[0])
            put_figures(c, id, i, name);
    }
    if (id == FEATURE_AUTH)
        put_auth_node(c);
    json_array_end(&c->j);
    json_object_end(&c->j);
}

void api_run_features(struct api_call *c)
{
    json_object_begin(&c->j);
    put_time(&c->j, "time", timeline_wall_us(&c->admin->timeline, c->admin->now_us));
    json_key(&c->j, "features");
    json_array_begin(&c->j);
    for (unsigned id = 0; id < FEATURE_COUNT; id++)
        put_feature(c, id);
    json_array_end(&c->j);
    json_object_end(&c->j);
}
