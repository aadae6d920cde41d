/* SPDX-License-Identifier: Apache-2.0 */
/* What the program does between its parts: the configuration as events, what it means for the
 * engine, the state folder, and what /proc says of us. */
#include "main/engine_conf.h"
#include "main/fold.h"
#include "main/resource.h"
#include "main/state_dir.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PARTS_MAX 64

static const char text_shop[] =
    "listen: [\"127.0.0.1:1\"]\n"
    "mode: recommend\n"
    "upstream: { timeout: 9s, retry_pct: 7 }\n"
    "services:\n"
    "  shop:\n"
    "    endpoints: [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n"
    "    objective: { latency: 99% < 250ms, errors: < 0.1% }\n"
    "    tune: { limit: { min: 2, max: 40, value: 10 }, shed: observe }\n"
    "  other: { endpoints: [\"127.0.0.1:3\"], mode: act }\n"
    "routes:\n"
    "  - { match: /slow/, service: shop, timeout: 3s }\n"
    "  - { match: /tuned/, service: shop, tune: { timeout: { mode: observe, max: 1s } } }\n"
    "  - { match: /, service: other }\n";

static struct conf *conf_of(const char *text)
{
    struct conf *conf = NULL;
    struct conf_report report = {0};
    if (conf_parse(span_of(text), "test", &conf, &report) != FB_OK)
        fail_msg("refused: %s", text);
    conf_report_fini(&report);
    return conf;
}

/* ---- fold ---- */

struct parts {
    struct ev_config at[PARTS_MAX];
    size_t count;
};

static void put_part(void *arg, const struct ev_head *ev)
{
    struct parts *p = arg;
    assert_true(p->count < PARTS_MAX);
    memcpy(&p->at[p->count++], ev, sizeof p->at[0]);
}

/* A text of several parts: comments make it long. */
static struct parts parts_of(const char *name)
{
    static char text[4096];
    struct parts p = {.count = 0};
    int n = snprintf(
        text, sizeof text,
        "listen: [\"127.0.0.1:1\"]\nservices:\n  %s: { endpoints: [\"127.0.0.1:1\"] }\n", name);
    for (int i = 0; i < 30; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "# comment number %d of the file\n", i);
    struct conf *conf = conf_of(text);
    fold_config_events(conf, 1, 1000, put_part, &p);
    conf_unref(conf);
    assert_true(p.count >= 3);
    return p;
}

static void feed(struct fold *f, const struct parts *p, size_t skip)
{
    for (size_t i = 0; i < p->count; i++)
        if (i != skip)
            fold_feed(f, &p->at[i].head, NULL);
}

static const char *service_of(const struct fold *f)
{
    return f->conf ? f->conf->services[0].name : "";
}

static void a_configuration_in_parts_is_in_force_with_its_last_part(void **state)
{
    (void)state;
    struct fold f;
    struct parts p = parts_of("first");
    assert_int_equal(fold_init(&f, NULL), FB_OK);
    for (size_t i = 0; i < p.count; i++) {
        assert_null(f.conf);
        fold_feed(&f, &p.at[i].head, NULL);
    }
    assert_string_equal(service_of(&f), "first");
    assert_true(f.conf->hash == p.at[0].config_hash);
    fold_fini(&f);
}

static void a_lost_part_keeps_the_old_configuration(void **state)
{
    (void)state;
    struct parts old = parts_of("old"), new = parts_of("new");
    for (size_t lost = 0; lost < new.count; lost++) {
        struct fold f;
        assert_int_equal(fold_init(&f, NULL), FB_OK);
        feed(&f, &old, SIZE_MAX);
        feed(&f, &new, lost);
        if (strcmp(service_of(&f), "old") != 0)
            fail_msg("without part %zu the configuration became \"%s\"", lost, service_of(&f));
        feed(&f, &new, SIZE_MAX); /* and a whole one afterwards is taken */
        assert_string_equal(service_of(&f), "new");
        fold_fini(&f);
    }
}

static void a_part_that_comes_twice_is_passed_over(void **state)
{
    (void)state;
    struct fold f;
    struct parts old = parts_of("old"), new = parts_of("new");
    assert_int_equal(fold_init(&f, NULL), FB_OK);
    feed(&f, &old, SIZE_MAX);
    for (size_t i = 0; i < new.count; i++) {
        fold_feed(&f, &new.at[i].head, NULL);
        if (i == 1)
            fold_feed(&f, &new.at[i].head, NULL);
    }
    /* the doubled part has another offset than expected and is passed over: the text is whole */
    assert_string_equal(service_of(&f), "new");
    fold_fini(&f);
}

static void a_text_that_is_refused_keeps_the_old_configuration(void **state)
{
    (void)state;
    struct fold f;
    struct parts old = parts_of("old"), new = parts_of("new");
    assert_int_equal(fold_init(&f, NULL), FB_OK);
    feed(&f, &old, SIZE_MAX);
    memcpy(new.at[0].text, "listem", 6);
    feed(&f, &new, SIZE_MAX);
    assert_string_equal(service_of(&f), "old");
    fold_fini(&f);
}

static void an_override_wins_over_what_the_log_says(void **state)
{
    (void)state;
    struct fold f;
    struct parts p = parts_of("recorded");
    assert_int_equal(fold_init(&f, NULL), FB_OK);
    f.conf_override =
        conf_of("listen: [\"127.0.0.1:1\"]\nservices:\n  mine: { endpoints: [\"127.0.0.1:9\"] }\n");
    feed(&f, &p, SIZE_MAX);
    assert_string_equal(service_of(&f), "mine");
    fold_fini(&f);
}

static void a_snapshot_brings_back_the_same_state(void **state)
{
    (void)state;
    struct fold a, b;
    struct parts p = parts_of("shop");
    struct buf out;
    buf_init(&out, 64 * MIB);
    assert_int_equal(fold_init(&a, NULL), FB_OK);
    assert_int_equal(fold_init(&b, NULL), FB_OK);
    feed(&a, &p, SIZE_MAX);
    fold_save(&a, &out);
    struct fb_err err = {0};
    assert_int_equal(fold_load(&b, buf_span(&out), &err), FB_OK);
    assert_string_equal(service_of(&b), "shop");
    assert_true(engine_hash(a.engine) == engine_hash(b.engine));
    fold_fini(&a);
    fold_fini(&b);
    buf_fini(&out);
}

static void a_cut_snapshot_is_refused(void **state)
{
    (void)state;
    struct fold a, b;
    struct parts p = parts_of("shop");
    struct buf out;
    struct fb_err err = {0};
    buf_init(&out, 64 * MIB);
    assert_int_equal(fold_init(&a, NULL), FB_OK);
    assert_int_equal(fold_init(&b, NULL), FB_OK);
    feed(&a, &p, SIZE_MAX);
    fold_save(&a, &out);
    const size_t cuts[] = {0, 7, 8, 100, out.len / 2, out.len - 1};
    for (size_t i = 0; i < FB_COUNT(cuts); i++)
        assert_int_not_equal(fold_load(&b, (struct span){out.at, cuts[i]}, &err), FB_OK);
    fold_fini(&a);
    fold_fini(&b);
    buf_fini(&out);
}

static void outputs_are_what_the_engine_alone_makes(void **state)
{
    (void)state;
    struct ev_decision d = EV_INIT(DECISION, decision, 1);
    struct ev_outcome o = EV_INIT(OUTCOME, outcome, 1);
    struct ev_alert a = EV_INIT(ALERT, alert, 1);
    struct ev_tick t = EV_INIT(TICK, tick, 1);
    d.head.origin = o.head.origin = a.head.origin = t.head.origin = EV_ORIGIN_BRAIN;
    a.reason = REASON_ALERT_LOOP_FROZEN;
    assert_true(fold_is_output(&d.head));
    assert_true(fold_is_output(&o.head));
    assert_true(fold_is_output(&a.head));
    assert_false(fold_is_output(&t.head));
    a.reason = REASON_ALERT_DISK; /* rests on the disk, not on events */
    assert_false(fold_is_output(&a.head));
    for (uint16_t i = 1; i < REASON_END; i++) { /* of all alerts only these come of events */
        a.reason = i;
        assert_int_equal(fold_is_output(&a.head),
                         i == REASON_ALERT_LOOP_FROZEN || i == REASON_ALERT_OBJECTIVE_MISSED ||
                             i == REASON_ALERT_SIGNAL_HARMED || i == REASON_ALERT_SIGNAL_UNUSUAL);
    }
    d.head.origin = 0;
    assert_false(fold_is_output(&d.head));
}

/* ---- engine_conf ---- */

static const struct engine_target *target(const struct engine_conf *ec, enum ev_kind kind,
                                          const char *name)
{
    for (size_t i = 0; i < ec->target_count; i++)
        if (ec->targets[i].kind == kind && strcmp(ec->targets[i].name, name) == 0)
            return &ec->targets[i];
    fail_msg("no target \"%s\"", name);
    return NULL;
}

static void a_configuration_names_each_target_once(void **state)
{
    (void)state;
    struct conf *conf = conf_of(text_shop);
    struct engine_conf ec;
    assert_int_equal(engine_conf_init(&ec, conf, NULL), FB_OK);
    assert_int_equal(ec.target_count, 2 * 2 + 3);
    assert_int_equal(ec.mode, EV_MODE_RECOMMEND);
    assert_true(ec.config_hash == conf->hash);
    const struct engine_target *shop = target(&ec, EV_KIND_SERVICE, "shop");
    assert_true(shop->knob[KNOB_RETRY_PCT].configured == 7);
    assert_int_equal(shop->knob[KNOB_RETRY_PCT].mode, EV_MODE_RECOMMEND);
    assert_int_equal(shop->knob[KNOB_SHED_THRESHOLD].mode, EV_MODE_OBSERVE);
    assert_true(fabs(shop->latency_quantile - 0.99) < 1e-9);
    assert_int_equal(shop->latency_us, 250000);
    assert_true(fabs(shop->error_ratio_max - 0.001) < 1e-9);
    const struct engine_target *ends = target(&ec, EV_KIND_ENDPOINT, "shop");
    assert_true(ends->knob[KNOB_LIMIT].min == 2 && ends->knob[KNOB_LIMIT].max == 40);
    assert_true(ends->knob[KNOB_LIMIT].configured == 10);
    const struct engine_target *other = target(&ec, EV_KIND_ENDPOINT, "other");
    assert_true(isnan(other->knob[KNOB_LIMIT].configured));
    assert_int_equal(other->knob[KNOB_LIMIT].mode, EV_MODE_ACT);
    engine_conf_fini(&ec);
    conf_unref(conf);
}

static void a_timeout_is_never_learned_above_what_was_configured(void **state)
{
    (void)state;
    struct conf *conf = conf_of(text_shop);
    struct engine_conf ec;
    assert_int_equal(engine_conf_init(&ec, conf, NULL), FB_OK);
    const struct {
        size_t route;
        double configured, max;
        enum ev_mode mode;
    } rows[] = {{0, 3000, 3000, EV_MODE_RECOMMEND},
                {1, 9000, 1000, EV_MODE_OBSERVE},
                {2, 9000, 9000, EV_MODE_ACT}};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        const struct engine_target *t =
            target(&ec, EV_KIND_ROUTE, conf->routes[rows[i].route].name);
        const struct knob_setting *k = &t->knob[KNOB_TIMEOUT_MS];
        assert_true(k->configured == rows[i].configured);
        assert_true(k->max == rows[i].max);
        assert_int_equal(k->mode, rows[i].mode);
    }
    engine_conf_fini(&ec);
    conf_unref(conf);
}

/* ---- state_dir ---- */

static char folder[] = "fb-main-test-XXXXXX";
static char path_text[700];

static const char *in_folder(const char *name)
{
    snprintf(path_text, sizeof path_text, "%s/%s", folder, name);
    return path_text;
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "fb-main-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"deep/er/lock", "deep/er", "deep",        "lock",
                                        "node",         "token",   "admin.token", "admin.json"};
    for (size_t i = 0; i < FB_COUNT(names); i++)
        (void)remove(in_folder(names[i]));
    return rmdir(folder);
}

static void a_state_folder_has_one_user(void **state)
{
    (void)state;
    int first = -1, second = -1;
    struct fb_err err = {0};
    assert_int_equal(state_dir_open(folder, &first, &err), FB_OK);
    assert_int_equal(state_dir_open(folder, &second, &err), FB_E_CONFLICT);
    assert_non_null(strstr(err.text, folder));
    if (second >= 0)
        close(second);
    state_dir_close(folder, first);
    assert_int_equal(state_dir_open(folder, &second, &err), FB_OK);
    state_dir_close(folder, second);
}

static void a_state_folder_is_made_with_its_parents_for_its_owner(void **state)
{
    (void)state;
    char deep[600];
    struct stat st;
    int fd = -1;
    snprintf(deep, sizeof deep, "%s/deep/er", folder);
    assert_int_equal(state_dir_open(deep, &fd, NULL), FB_OK);
    assert_int_equal(stat(deep, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_false(state_dir_has_state(deep));
    state_dir_close(deep, fd);
}

static void a_folder_that_cannot_be_made_is_told_with_a_way_out(void **state)
{
    (void)state;
    int fd = -1;
    struct fb_err err = {0};
    assert_int_equal(state_dir_open("/dev/null/state", &fd, &err), FB_E_IO);
    assert_non_null(strstr(err.text, "/dev/null/state"));
    assert_non_null(strstr(err.text, "--state"));
}

static void the_token_is_made_once_and_private(void **state)
{
    (void)state;
    char one[600], two[600], before[100] = "", after[100] = "";
    struct stat st;
    assert_int_equal(state_dir_token(folder, "", one, sizeof one, NULL), FB_OK);
    assert_int_equal(stat(one, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_size, 40);
    FILE *f = fopen(one, "r");
    assert_non_null(fgets(before, sizeof before, f));
    fclose(f);
    assert_int_equal(state_dir_token(folder, "", two, sizeof two, NULL), FB_OK);
    f = fopen(two, "r");
    assert_non_null(fgets(after, sizeof after, f));
    fclose(f);
    assert_string_equal(before, after);
    char url[300];
    assert_true(state_dir_url("127.0.0.1:1", one, url, sizeof url));
    assert_non_null(strstr(url, before));
    assert_false(state_dir_url("127.0.0.1:1", "/dev/null/none", url, sizeof url));
}

static void a_configured_token_file_must_be_readable(void **state)
{
    (void)state;
    char path[600];
    struct fb_err err = {0};
    assert_int_equal(state_dir_token(folder, "/dev/null/none", path, sizeof path, &err),
                     FB_E_CONFIG);
    assert_non_null(strstr(err.text, "admin.token_file"));
}

static void a_node_keeps_its_number(void **state)
{
    (void)state;
    uint64_t id = state_dir_node_id(folder);
    assert_true(id != 0);
    assert_true(state_dir_node_id(folder) == id);
    remove(in_folder("node"));
    assert_true(state_dir_node_id(folder) != id);
}

static void the_announcement_is_json_and_goes_with_the_lock(void **state)
{
    (void)state;
    int fd = -1;
    assert_int_equal(state_dir_open(folder, &fd, NULL), FB_OK);
    state_dir_announce(folder, "127.0.0.1:9180", "a \"quoted\" file");
    json_t *root = json_load_file(in_folder("admin.json"), 0, NULL);
    assert_non_null(root);
    assert_string_equal(json_string_value(json_object_get(root, "address")), "127.0.0.1:9180");
    assert_string_equal(json_string_value(json_object_get(root, "token_file")),
                        "a \"quoted\" file");
    assert_int_equal(json_integer_value(json_object_get(root, "pid")), getpid());
    json_decref(root);
    state_dir_close(folder, fd);
    assert_int_equal(access(in_folder("admin.json"), F_OK), -1);
}

/* ---- resource ---- */

static void the_host_has_cores_memory_and_time(void **state)
{
    (void)state;
    struct ev_resource r;
    resource_read_host(&r, 77);
    assert_true(ev_is_valid(&r.head));
    assert_int_equal(r.head.time_us, 77);
    assert_int_equal(r.scope, RESOURCE_HOST);
    assert_true(r.cores >= 1);
    assert_true(r.cpu_us > 0);
    assert_true(r.memory_total_bytes > 16 * MIB);
    assert_true(r.memory_bytes > 0 && r.memory_bytes < r.memory_total_bytes);
    assert_true(r.psi_cpu_ppm <= 1000000 && r.psi_memory_ppm <= 1000000 && r.psi_io_ppm <= 1000000);
}

static void this_process_is_seen_with_its_descriptors(void **state)
{
    (void)state;
    struct ev_resource before, after;
    assert_true(resource_read_process(&before, RESOURCE_BRAIN, getpid(), 1));
    assert_int_equal(before.scope, RESOURCE_BRAIN);
    assert_int_equal(before.threads, 1);
    assert_true(before.memory_bytes > 100 * KIB && before.memory_bytes < 4096ull * MIB);
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    assert_true(resource_read_process(&after, RESOURCE_BRAIN, getpid(), 2));
    assert_int_equal(after.descriptors, before.descriptors + 2);
    assert_true(after.cpu_us >= before.cpu_us);
    close(fd[0]);
    close(fd[1]);
}

static void a_process_that_is_gone_is_said(void **state)
{
    (void)state;
    struct ev_resource r;
    assert_false(resource_read_process(&r, RESOURCE_GATEWAY, 1 << 30, 1));
}

#define FOLDER_TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_configuration_in_parts_is_in_force_with_its_last_part),
        cmocka_unit_test(a_lost_part_keeps_the_old_configuration),
        cmocka_unit_test(a_part_that_comes_twice_is_passed_over),
        cmocka_unit_test(a_text_that_is_refused_keeps_the_old_configuration),
        cmocka_unit_test(an_override_wins_over_what_the_log_says),
        cmocka_unit_test(a_snapshot_brings_back_the_same_state),
        cmocka_unit_test(a_cut_snapshot_is_refused),
        cmocka_unit_test(outputs_are_what_the_engine_alone_makes),
        cmocka_unit_test(a_configuration_names_each_target_once),
        cmocka_unit_test(a_timeout_is_never_learned_above_what_was_configured),
        FOLDER_TEST(a_state_folder_has_one_user),
        FOLDER_TEST(a_state_folder_is_made_with_its_parents_for_its_owner),
        FOLDER_TEST(a_folder_that_cannot_be_made_is_told_with_a_way_out),
        FOLDER_TEST(the_token_is_made_once_and_private),
        FOLDER_TEST(a_configured_token_file_must_be_readable),
        FOLDER_TEST(a_node_keeps_its_number),
        FOLDER_TEST(the_announcement_is_json_and_goes_with_the_lock),
        cmocka_unit_test(the_host_has_cores_memory_and_time),
        cmocka_unit_test(this_process_is_seen_with_its_descriptors),
        cmocka_unit_test(a_process_that_is_gone_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
