/* SPDX-License-Identifier: Apache-2.0 */
/* The connector of files as a source: which file is which. */
#include "stream/connectors/connector.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

extern const struct connector_type foldback_connector;
static const struct connector_type *const type = &foldback_connector;

struct world {
    char path[64];
    char topic[1200], position[CONNECTOR_POSITION_BYTES]; /* as foldback keeps them */
    char lines[200];                                      /* what came, a blank behind each */
};

static const char *value(const void *conf, const char *key)
{
    const struct world *w = conf;
    return strcmp(key, "path") == 0 ? w->path : "";
}

static bool position(void *ctx, const char *topic, uint32_t partition,
                     char out[CONNECTOR_POSITION_BYTES])
{
    const struct world *w = ctx;
    (void)partition;
    snprintf(out, CONNECTOR_POSITION_BYTES, "%s", w->position);
    return w->topic[0] && strcmp(topic, w->topic) == 0;
}

static bool is_stopping(void *ctx)
{
    (void)ctx;
    return false;
}

static void say(void *ctx, enum fb_log_level level, const char *text)
{
    (void)ctx, (void)level, (void)text;
}

static bool each(void *arg, const struct connector_message *m)
{
    struct world *w = arg;
    size_t len = strlen(w->lines);
    snprintf(w->lines + len, sizeof w->lines - len, "%.*s ", SPAN_ARG(m->value));
    snprintf(w->topic, sizeof w->topic, "%s", m->topic);
    snprintf(w->position, sizeof w->position, "%s", m->position);
    return true;
}

static void put(const struct world *w, const char *mode, const char *text)
{
    FILE *f = fopen(w->path, mode);
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

/* A connector that begins anew reads what there is. */
static const char *read_anew(struct world *w)
{
    struct fb_err err;
    struct connector *c;
    struct connector_setup setup = {.name = "f",
                                    .node = "n",
                                    .state_dir = "",
                                    .is_source = true,
                                    .value = value,
                                    .conf = w,
                                    .position = position,
                                    .is_stopping = is_stopping,
                                    .say = say,
                                    .ctx = w};
    w->lines[0] = '\0';
    assert_int_equal(type->open(&c, &setup, &err), FB_OK);
    assert_int_equal(type->receive(c, each, w, 0, &err), FB_OK);
    type->close(c);
    return w->lines;
}

static void world_begin(struct world *w)
{
    *w = (struct world){.path = "/tmp/fb-file-test-XXXXXX"};
    int fd = mkstemp(w->path);
    assert_true(fd >= 0);
    close(fd);
}

static void a_file_that_grew_goes_on_behind_its_position(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    put(&w, "w", "on");
    assert_string_equal(read_anew(&w), ""); /* no line yet, and no name */
    put(&w, "a", "e\ntwo\n");
    assert_string_equal(read_anew(&w), "one two ");
    put(&w, "a", "three\n");
    assert_string_equal(read_anew(&w), "three ");
    assert_string_equal(read_anew(&w), "");
    unlink(w.path);
}

static void another_file_in_the_same_inode_is_read_from_its_start(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    put(&w, "w", "one\ntwo\n");
    assert_string_equal(read_anew(&w), "one two ");
    put(&w, "w", "four\nfive\nsix\n"); /* the same inode, and longer than before */
    assert_string_equal(read_anew(&w), "four five six ");
    put(&w, "a", "seven\n");
    assert_string_equal(read_anew(&w), "seven ");
    unlink(w.path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_that_grew_goes_on_behind_its_position),
        cmocka_unit_test(another_file_in_the_same_inode_is_read_from_its_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
