/* SPDX-License-Identifier: Apache-2.0 */
/* Dead letters: found in whatever they hold, taken out, never written into a file that is gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "stream/block.h"
#include "stream/connectors/dead.h"
#include "stream/connectors/letters.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define WHO "canary-7f3a"

static char state_dir[64], path[128];
static struct block_codec *codec;

static int set_up(void **state)
{
    char dir[96];
    (void)state;
    snprintf(state_dir, sizeof state_dir, "/tmp/fb-letters-XXXXXX");
    assert_non_null(mkdtemp(state_dir));
    snprintf(dir, sizeof dir, "%s/connectors", state_dir);
    assert_int_equal(mkdir(dir, 0750), 0);
    snprintf(path, sizeof path, "%s/k.dead.jsonl", dir);
    codec = block_codec_new();
    return codec ? 0 : -1;
}

static int tear_down(void **state)
{
    char dir[96];
    (void)state;
    block_codec_free(codec);
    snprintf(dir, sizeof dir, "%s/connectors", state_dir);
    (void)unlink(path);
    (void)rmdir(dir);
    return rmdir(state_dir);
}

static bool is_canary(void *ctx, struct span text)
{
    (void)ctx;
    return memmem(text.at, text.len, WHO, sizeof WHO - 1) != NULL;
}

/* Under the lock, as the runner does it. */
static void bury(struct span value)
{
    struct buf line;
    struct dead_letter letter = {.topic = "", .position = "", .value = value, .reason = "refused"};
    buf_init(&line, 4 * MIB);
    dead_put(&letter, "k", 1, &line);
    int lock = letters_lock(state_dir);
    assert_true(lock >= 0);
    FILE *f = fopen(path, "ae");
    assert_non_null(f);
    assert_int_equal(fwrite(line.at, 1, line.len, f), line.len);
    assert_int_equal(fclose(f), 0);
    letters_unlock(lock);
    buf_fini(&line);
}

static struct letters go_through(bool is_removing)
{
    struct letters l = {.is_meant = is_canary, .is_removing = is_removing};
    struct fb_err err;
    assert_int_equal(letters_go_through(state_dir, &l, &err), FB_OK);
    return l;
}

/* Events enough that the block is compressed: its bytes do not show the name. */
static struct span block_of(const char *who)
{
    static struct ev_custom at[64];
    struct block_head head = {.node = 1};
    struct span block;
    for (size_t i = 0; i < FB_COUNT(at); i++) {
        at[i] = EV_INIT(CUSTOM, custom, 1000 + i);
        snprintf(at[i].text, sizeof at[i].text, "mail %s and so on, and so on, %zu", who, i);
    }
    assert_int_equal(block_encode(codec, &head, (struct span){(const char *)at, sizeof at}, &block),
                     FB_OK);
    assert_int_equal(block_seal(codec, &head, 0, 0), FB_OK);
    return block;
}

static void a_block_is_looked_at_as_its_records(void **state)
{
    (void)state;
    bury(block_of(WHO));
    bury(block_of("other"));
    struct letters l = go_through(false);
    assert_int_equal(l.lines, 2);
    assert_int_equal(l.meant, 1);
    assert_int_equal(l.unread, 0);
    assert_string_equal(l.first, path);
    assert_int_equal(go_through(true).meant, 1);
    l = go_through(false);
    assert_int_equal(l.lines, 1);
    assert_int_equal(l.meant, 0);
}

static void a_block_that_cannot_be_decoded_is_said(void **state)
{
    (void)state;
    struct span block = block_of(WHO);
    bury((struct span){block.at, block.len - 9});
    struct letters l = go_through(false);
    assert_int_equal(l.unread, 1);
}

#define BURIED 400

static void *bury_many(void *arg)
{
    for (int i = 0; i < BURIED; i++)
        bury(i % 2 ? SPAN("mail " WHO) : SPAN("mail other"));
    return arg;
}

static void none_is_lost_to_a_writer_that_runs_meanwhile(void **state)
{
    pthread_t writer;
    uint64_t removed = 0;
    (void)state;
    assert_int_equal(pthread_create(&writer, NULL, bury_many, NULL), 0);
    for (int i = 0; i < 20; i++)
        removed += go_through(true).meant;
    assert_int_equal(pthread_join(writer, NULL), 0);
    removed += go_through(true).meant;
    assert_int_equal(removed, BURIED / 2);
    assert_int_equal(go_through(false).lines, BURIED / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_block_is_looked_at_as_its_records, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_block_that_cannot_be_decoded_is_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(none_is_lost_to_a_writer_that_runs_meanwhile, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
