/* SPDX-License-Identifier: Apache-2.0 */
/* The engine as a fold: the same events give the same decisions, from any snapshot on, with or
 * without its own decisions in the log. */
#include "world.h"

#define EVENTS_MAX 60000

struct stream {
    union ev_any *at;
    size_t count;
};

static void add(struct stream *s, const struct ev_head *ev)
{
    assert_true(s->count < EVENTS_MAX);
    memcpy(&s->at[s->count++], ev, (size_t)ev->cells * EV_CELL_BYTES);
}

static void add_name(struct stream *s, uint64_t now_us, enum ev_kind kind, uint16_t number,
                     const char *name)
{
    struct ev_name n = EV_INIT(NAME, name, now_us);
    n.kind = (uint8_t)kind;
    n.number = number;
    n.version = EV_NONE;
    n.parent = kind == EV_KIND_SERVICE ? EV_NONE : 0;
    snprintf(n.name, sizeof n.name, "%s", name);
    add(s, &n.head);
}

static void add_request(struct stream *s, struct rng *rng, uint64_t now_us, double trouble)
{
    struct ev_request r = EV_INIT(REQUEST, request, now_us);
    r.request_id = rng_u64(rng);
    r.route = (uint16_t)rng_below(rng, 2);
    r.endpoint = (uint16_t)rng_below(rng, 3);
    r.class = (uint8_t)rng_below(rng, 4);
    r.reason = REASON_ANSWERED;
    r.upstream_us = 100 + (uint32_t)(20000 * (1 + trouble) * exp(0.7 * rng_normal(rng)));
    r.queue_us = rng_below(rng, 1000);
    r.flags = (uint8_t)rng_below(rng, 2);
    double dice = rng_unit(rng);
    if (dice < 0.05 * trouble) {
        r.reason = REASON_UPSTREAM_TIMEOUT;
        r.flags |= EV_REQUEST_FAILED | EV_REQUEST_CENSORED;
    } else if (dice < 0.2 * trouble) {
        r.reason = REASON_UPSTREAM_ERROR;
        r.flags |= EV_REQUEST_FAILED;
    } else if (dice < 0.5 * trouble) {
        r.reason = REASON_SHED_QUEUE_FULL;
        r.endpoint = EV_NONE;
    }
    r.total_us = r.upstream_us + r.queue_us;
    add(s, &r.head);
}

static void add_command(struct stream *s, struct rng *rng, uint64_t now_us)
{
    struct ev_command c = EV_INIT(COMMAND, command, now_us);
    c.verb = (uint8_t)rng_below(rng, 8);
    c.target = rng_below(rng, 3) ? (uint16_t)rng_below(rng, 2) : EV_NONE;
    c.knob = rng_below(rng, 3) ? (uint16_t)rng_below(rng, KNOB_COUNT) : EV_NONE;
    c.loop = EV_NONE;
    c.value = c.verb == EV_VERB_MODE ? rng_below(rng, 3) : rng_unit(rng) * 1000;
    c.expires_us = rng_below(rng, 2) ? now_us + rng_below(rng, 5000000) : 0;
    add(s, &c.head);
}

/* Two minutes of a shop whose trouble comes and goes, with operators who turn things. */
static struct stream stream_make(uint64_t seed)
{
    struct stream s = {.at = calloc(EVENTS_MAX, sizeof(union ev_any))};
    assert_non_null(s.at);
    struct rng rng;
    rng_init(&rng, seed);
    uint64_t now_us = 50 * US_PER_S;
    add_name(&s, now_us, EV_KIND_SERVICE, 0, "shop");
    add_name(&s, now_us, EV_KIND_ROUTE, 0, "shop /");
    add_name(&s, now_us, EV_KIND_ROUTE, 1, "shop /api/");
    for (uint16_t i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "shop 10.0.0.%u:80", i + 1U);
        add_name(&s, now_us, EV_KIND_ENDPOINT, i, name);
    }
    for (uint32_t tick = 0; tick < 1200; tick++) {
        double trouble = fmax(0, sin((double)tick / 60) + 0.5 * sin((double)tick / 17));
        for (uint32_t k = 20 + rng_below(&rng, 10); k > 0; k--)
            add_request(&s, &rng, now_us + rng_below(&rng, 100000), trouble);
        for (uint16_t i = 0; i < 3 && rng_below(&rng, 4) == 0; i++) {
            struct ev_proposal p = EV_INIT(PROPOSAL, proposal, now_us + 50000);
            p.endpoint = i;
            p.limit_from = 4 + rng_below(&rng, 30);
            p.limit_to = 1 + rng_below(&rng, 90);
            p.latency_us = 20000 + rng_below(&rng, 20000);
            p.base_us = 20000;
            p.ratio = p.latency_us / p.base_us;
            p.samples = rng_below(&rng, 100);
            p.reason = REASON_LEARN_DOWN;
            p.moves = 1 + rng_below(&rng, 3);
            add(&s, &p.head);
        }
        struct ev_gauge g = EV_INIT(GAUGE, gauge, now_us + 99000);
        g.kind = EV_KIND_SERVICE;
        g.limit = 40;
        g.in_flight = trouble > 0.5 ? 40 : 10;
        g.queued_default = trouble > 0.5 ? 20 : 0;
        if (rng_below(&rng, 50))
            add(&s, &g.head);
        if (rng_below(&rng, 60) == 0)
            add_command(&s, &rng, now_us + 99500);
        now_us += 100000 + rng_below(&rng, 2000);
        struct ev_tick t = EV_INIT(TICK, tick, now_us);
        t.head.origin = EV_ORIGIN_BRAIN;
        add(&s, &t.head);
    }
    return s;
}

static struct engine *engine_ready(void)
{
    struct world w = {.e = engine_new()};
    assert_non_null(w.e);
    world_configure(&w, EV_MODE_ACT);
    return w.e;
}

/* Feeds events [from, count); outputs go to <out>; *at_out of the caller's interest may be NULL. */
static void fold(struct engine *e, const struct stream *s, size_t from, size_t to,
                 struct stream *out)
{
    static union ev_any room[256];
    for (size_t i = from; i < to; i++) {
        struct engine_out o = {.at = room, .max = FB_COUNT(room)};
        engine_feed(e, &s->at[i].head, &o);
        assert_int_equal(o.dropped, 0);
        for (size_t k = 0; k < o.count; k++)
            add(out, &room[k].head);
    }
}

static struct stream stream_empty(void)
{
    struct stream s = {.at = calloc(EVENTS_MAX, sizeof(union ev_any))};
    assert_non_null(s.at);
    return s;
}

static void from_any_snapshot_on_the_decisions_are_the_same_bytes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct stream s = stream_make(seed);
        struct rng rng;
        rng_init(&rng, seed + 100);
        struct engine *e = engine_ready();
        struct stream before = stream_empty();
        size_t cut = s.count / 4 + rng_below(&rng, (uint32_t)s.count / 2);
        fold(e, &s, 0, cut, &before);
        struct buf bytes;
        buf_init(&bytes, 256 * MIB);
        engine_save(e, &bytes);
        struct engine *twin = engine_ready();
        struct fb_err err;
        assert_int_equal(engine_load(twin, buf_span(&bytes), &err), FB_OK);
        assert_int_equal(engine_hash(twin), engine_hash(e));
        struct stream a = stream_empty(), b = stream_empty();
        fold(e, &s, cut, s.count, &a);
        fold(twin, &s, cut, s.count, &b);
        assert_true(a.count > 20);
        assert_int_equal(a.count, b.count);
        assert_memory_equal(a.at, b.at, a.count * sizeof *a.at);
        assert_int_equal(engine_hash(twin), engine_hash(e));
        print_message("seed %llu: %zu events, %zu + %zu records, %llu decisions\n",
                      (unsigned long long)seed, s.count, before.count, a.count,
                      (unsigned long long)engine_decision_count(e));
        buf_fini(&bytes);
        free(a.at);
        free(b.at);
        free(before.at);
        free(s.at);
        engine_free(e);
        engine_free(twin);
    }
}

static void its_own_decisions_in_the_log_change_nothing(void **state)
{
    (void)state;
    struct stream s = stream_make(9);
    struct engine *live = engine_ready();
    struct engine *replay = engine_ready();
    static union ev_any room[256], again[256];
    for (size_t i = 0; i < s.count; i++) {
        struct engine_out o = {.at = room, .max = FB_COUNT(room)};
        struct engine_out p = {.at = again, .max = FB_COUNT(again)};
        engine_feed(live, &s.at[i].head, &o);
        engine_feed(replay, &s.at[i].head, &p);
        assert_int_equal(o.count, p.count);
        assert_memory_equal(room, again, o.count * sizeof *room);
        for (size_t k = 0; k < o.count; k++) {
            struct engine_out none = {.at = again, .max = FB_COUNT(again)};
            engine_feed(replay, &room[k].head, &none);
            assert_int_equal(none.count, 0);
        }
    }
    assert_int_equal(engine_hash(live), engine_hash(replay));
    engine_free(live);
    engine_free(replay);
    free(s.at);
}

static void folding_without_an_output_gives_the_same_state(void **state)
{
    (void)state;
    struct stream s = stream_make(4);
    struct engine *live = engine_ready();
    struct engine *silent = engine_ready();
    struct stream out = stream_empty();
    fold(live, &s, 0, s.count, &out);
    for (size_t i = 0; i < s.count; i++)
        engine_feed(silent, &s.at[i].head, NULL);
    assert_int_equal(engine_hash(live), engine_hash(silent));
    assert_int_equal(engine_decision_count(live), engine_decision_count(silent));
    engine_free(live);
    engine_free(silent);
    free(out.at);
    free(s.at);
}

static void decision_numbers_are_dense_and_every_value_is_in_its_bounds(void **state)
{
    (void)state;
    struct stream s = stream_make(6);
    struct engine *e = engine_ready();
    struct stream out = stream_empty();
    fold(e, &s, 0, s.count, &out);
    uint64_t id = 0;
    for (size_t i = 0; i < out.count; i++) {
        assert_true(ev_is_valid(&out.at[i].head));
        if (out.at[i].head.type != EV_DECISION)
            continue;
        const struct ev_decision *d = &out.at[i].decision;
        assert_int_equal(d->decision_id, ++id);
        assert_non_null(ev_reason_row(d->reason)->name);
        assert_true(d->cause_us <= d->head.time_us);
        if (d->actor == ACTOR_LOOP) {
            assert_true(d->to >= d->min);
            assert_true(d->to <= d->max);
        }
    }
    assert_int_equal(engine_decision_count(e), id);
    engine_free(e);
    free(out.at);
    free(s.at);
}

static void a_name_brings_the_configuration_and_a_repetition_keeps_what_was_learned(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_RECOMMEND);
    const struct knob_layer *l = world_layer(w, KNOB_LIMIT, 1);
    assert_int_equal(l->is_used, 1);
    assert_int_equal(l->mode, EV_MODE_RECOMMEND);
    assert_near(l->max, 64, 0);
    assert_near(world_value(w, KNOB_TIMEOUT_MS, 1), 15000, 0);
    struct knob_layer *mine = control_layer(w->e, KNOB_LIMIT, 1);
    mine->is_learned = 1;
    mine->learned = 12;
    mine->mode = EV_MODE_ACT; /* an operator's */
    world_name(w, EV_KIND_ENDPOINT, 1, 0, "shop 10.0.0.2:80");
    world_configure(w, EV_MODE_RECOMMEND);
    assert_near(world_value(w, KNOB_LIMIT, 1), 12, 0);
    assert_int_equal(l->mode, EV_MODE_ACT);
    assert_string_equal(engine_name(w->e, EV_KIND_ENDPOINT, 1), "shop 10.0.0.2:80");
    assert_string_equal(engine_name(w->e, EV_KIND_ENDPOINT, 900), "");
    world_free(w);
}

static void a_number_with_a_new_name_takes_nothing_over(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct knob_layer *mine = control_layer(w->e, KNOB_LIMIT, 1);
    mine->is_learned = 1;
    mine->learned = 12;
    w->e->s.is_drained[1] = 1;
    world_name(w, EV_KIND_ENDPOINT, 1, 0, "shop 10.0.0.9:80");
    assert_int_equal(world_layer(w, KNOB_LIMIT, 1)->is_learned, 0);
    assert_false(engine_is_drained(w->e, 1));
    struct ev_name gone = EV_INIT(NAME, name, w->now_us);
    gone.kind = EV_KIND_ENDPOINT;
    gone.number = 1;
    gone.is_gone = 1;
    world_put(w, &gone.head);
    assert_int_equal(world_layer(w, KNOB_LIMIT, 1)->is_used, 0);
    world_free(w);
}

static void a_changed_setting_drops_its_own_learned_value_and_says_so(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    for (uint16_t i = 0; i < 2; i++) {
        struct knob_layer *mine = control_layer(w->e, KNOB_TIMEOUT_MS, i);
        mine->is_learned = 1;
        mine->learned = 400;
    }
    struct engine_target t[2];
    memcpy(t, w->e->targets + 2, sizeof t);
    t[0].knob[KNOB_TIMEOUT_MS].configured = 9000;
    struct engine_conf conf = {
        .config_hash = 8, .targets = t, .target_count = 2, .mode = EV_MODE_ACT};
    engine_configure(w->e, &conf);
    assert_near(world_value(w, KNOB_TIMEOUT_MS, 0), 9000, 0);
    assert_near(world_value(w, KNOB_TIMEOUT_MS, 1), 400, 0);
    world_tick(w, 1);
    const struct ev_decision *d = world_decision(w, REASON_CONFIG_CHANGED);
    assert_non_null(d);
    assert_int_equal(d->target, 0);
    assert_near(d->from, 400, 0);
    assert_near(d->to, 9000, 0);
    assert_int_equal(d->config_hash, 8);
    world_free(w);
}

static void a_clock_that_began_again_keeps_what_is_left_to_wait(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    world_tick(w, 1);
    world_command(w, EV_VERB_PIN, KNOB_TIMEOUT_MS, 0, 700);
    w->e->s.cell[KNOB_TIMEOUT_MS][0].pin_until_us = w->now_us + 3 * US_PER_S;
    w->now_us = US_PER_S; /* the machine booted */
    world_tick(w, 1);
    world_tick(w, 28);
    assert_near(world_value(w, KNOB_TIMEOUT_MS, 0), 700, 0);
    world_tick(w, 3);
    assert_near(world_value(w, KNOB_TIMEOUT_MS, 0), 15000, 0);
    world_free(w);
}

static void a_damaged_snapshot_leaves_an_empty_engine_that_works(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    world_requests(w, REASON_ANSWERED, 20000, 100);
    world_tick(w, 10);
    struct buf b;
    buf_init(&b, 256 * MIB);
    engine_save(w->e, &b);
    struct fb_err err;
    b.at[0] ^= 1;
    assert_int_equal(engine_load(w->e, buf_span(&b), &err), FB_E_VERSION);
    b.at[0] ^= 1;
    assert_int_equal(engine_load(w->e, (struct span){b.at, b.len / 3}, &err), FB_E_DAMAGED);
    assert_int_equal(engine_decision_count(w->e), 0);
    world_tick(w, 10);
    assert_int_equal(engine_load(w->e, buf_span(&b), &err), FB_OK);
    world_tick(w, 10);
    buf_fini(&b);
    world_free(w);
}

static void a_snapshot_with_flipped_bits_never_ends_the_process(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct rng rng;
    rng_init(&rng, 8);
    for (int i = 0; i < 30; i++) {
        world_requests(w, REASON_ANSWERED, 20000, 30);
        world_requests(w, REASON_SHED_QUEUE_FULL, 0, 20);
        world_gauge(w, 40, 40, 30);
        world_tick(w, 1);
    }
    struct buf b;
    buf_init(&b, 256 * MIB);
    engine_save(w->e, &b);
    uint32_t read = 0;
    for (int i = 0; i < 60; i++) {
        size_t at = 24 + rng_below(&rng, (uint32_t)(i % 2 ? fb_min_u64(b.len, 6000) : b.len) - 24);
        b.at[at] ^= (char)(1 << rng_below(&rng, 8));
        struct fb_err err;
        read += engine_load(w->e, buf_span(&b), &err) == FB_OK;
        for (int k = 0; k < 12; k++) {
            w->count = 0;
            w->now_us += 100 * US_PER_MS;
            struct ev_tick t = EV_INIT(TICK, tick, w->now_us);
            struct engine_out out = {.at = w->room, .max = 256};
            engine_feed(w->e, &t.head, &out);
        }
        b.at[at] ^= (char)(1 << rng_below(&rng, 8)); /* damage adds up slowly */
    }
    assert_true(read < 60);
    buf_fini(&b);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_any_snapshot_on_the_decisions_are_the_same_bytes),
        cmocka_unit_test(its_own_decisions_in_the_log_change_nothing),
        cmocka_unit_test(folding_without_an_output_gives_the_same_state),
        cmocka_unit_test(decision_numbers_are_dense_and_every_value_is_in_its_bounds),
        cmocka_unit_test(a_name_brings_the_configuration_and_a_repetition_keeps_what_was_learned),
        cmocka_unit_test(a_number_with_a_new_name_takes_nothing_over),
        cmocka_unit_test(a_changed_setting_drops_its_own_learned_value_and_says_so),
        cmocka_unit_test(a_clock_that_began_again_keeps_what_is_left_to_wait),
        cmocka_unit_test(a_snapshot_with_flipped_bits_never_ends_the_process),
        cmocka_unit_test(a_damaged_snapshot_leaves_an_empty_engine_that_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
