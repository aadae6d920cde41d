/* SPDX-License-Identifier: Apache-2.0 */
/* The connector of Redis against servers that follow a script: what they refuse, and what they do
 * to harm. */
#include "base/clock.h"
#include "stream/connectors/redis_int.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define CLOSES "close"

extern const struct connector_type foldback_connector;

/* ---- a server ---- */
struct line {
    const char *command; /* first word; in order, all others get OK */
    const char *answer;  /* NULL: none; CLOSES: the connection ends */
};
struct server {
    int listener;
    uint16_t port;
    pthread_t thread;
    const struct line *script; /* ends with {NULL, NULL} */
    _Atomic uint32_t connections;
    struct buf seen; /* all arguments, a blank behind each; read it after server_end */
};

static bool read_all(int fd, char *out, size_t len)
{
    return recv(fd, out, len, MSG_WAITALL) == (ssize_t)len;
}

static bool read_line(int fd, char *out, size_t size)
{
    size_t len = 0;
    while (len < size - 1 && read_all(fd, out + len, 1))
        if (out[len++] == '\n')
            break;
    out[len] = '\0';
    return len > 0 && out[len - 1] == '\n';
}

/* The first word of the next command; false: the client went away. */
static bool read_command(struct server *s, int fd, char word[32])
{
    char line[64];
    if (!read_line(fd, line, sizeof line) || line[0] != '*')
        return false;
    int count = atoi(line + 1);
    for (int i = 0; i < count; i++) {
        if (!read_line(fd, line, sizeof line) || line[0] != '$')
            return false;
        size_t len = (size_t)atol(line + 1);
        char *text = malloc(len + 3);
        bool is_whole = text && read_all(fd, text, len + 2);
        if (is_whole && i == 0)
            snprintf(word, 32, "%.*s", (int)(len < 31 ? len : 31), text);
        if (is_whole) {
            buf_put(&s->seen, text, len);
            buf_putc(&s->seen, ' ');
        }
        free(text);
        if (!is_whole)
            return false;
    }
    buf_putc(&s->seen, '\n');
    return true;
}

static void *serve(void *arg)
{
    struct server *s = arg;
    const struct line *at = s->script;
    char word[32];
    int fd;
    while ((fd = accept(s->listener, NULL, NULL)) >= 0) {
        struct timeval wait = {.tv_sec = 20};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        atomic_fetch_add(&s->connections, 1);
        while (read_command(s, fd, word)) {
            const char *answer = "+OK\r\n";
            if (at->command && strcmp(at->command, word) == 0)
                answer = (at++)->answer;
            if (answer && strcmp(answer, CLOSES) == 0)
                break;
            if (answer && send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0)
                break;
        }
        close(fd);
    }
    return NULL;
}

static void server_begin(struct server *s, const struct line *script)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof a;
    *s = (struct server){.script = script, .listener = socket(AF_INET, SOCK_STREAM, 0)};
    buf_init(&s->seen, 8 * MIB);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(s->listener, 8), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &len), 0);
    s->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_end(struct server *s)
{
    shutdown(s->listener, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->listener);
}

/* ---- a connector ---- */
struct world {
    char address[200];
    const char *pairs[16];        /* key, value, ... */
    _Atomic int calls_until_stop; /* 0: never */
    char said[600];
    struct connector_setup setup;
    struct connector *c;
    struct fb_err err;
};

static const char *value(const void *conf, const char *key)
{
    const struct world *w = conf;
    if (strcmp(key, "address") == 0)
        return w->address;
    for (size_t i = 0; i < FB_COUNT(w->pairs) && w->pairs[i]; i += 2)
        if (strcmp(w->pairs[i], key) == 0)
            return w->pairs[i + 1];
    return strcmp(key, "stream") == 0 ? "events:{node}" : strcmp(key, "group") == 0 ? "g" : "";
}

static bool position(void *ctx, const char *topic, uint32_t partition,
                     char out[CONNECTOR_POSITION_BYTES])
{
    (void)ctx, (void)topic, (void)partition, (void)out;
    return false;
}

static bool is_stopping(void *ctx)
{
    struct world *w = ctx;
    int left = atomic_load(&w->calls_until_stop);
    if (left == 0)
        return false;
    if (left > 1)
        atomic_store(&w->calls_until_stop, left - 1);
    return left == 1;
}

static void say(void *ctx, enum fb_log_level level, const char *text)
{
    struct world *w = ctx;
    (void)level;
    snprintf(w->said, sizeof w->said, "%s", text);
}

static void world_begin(struct world *w, bool is_source)
{
    w->setup = (struct connector_setup){.name = "r",
                                        .node = "n1",
                                        .is_source = is_source,
                                        .value = value,
                                        .conf = w,
                                        .position = position,
                                        .is_stopping = is_stopping,
                                        .say = say,
                                        .ctx = w};
    assert_int_equal(foldback_connector.open(&w->c, &w->setup, &w->err), FB_OK);
}

static struct connector_header header = {"foldback-offset", {"7", 1}};
static struct connector_record two[2];

static enum fb_code send_two(struct world *w, uint32_t timeout_ms)
{
    for (uint32_t i = 0; i < 2; i++)
        two[i] = (struct connector_record){.key = SPAN("n1"),
                                           .value = i ? SPAN("second") : SPAN("first"),
                                           .headers = &header,
                                           .header_count = 1};
    struct connector_batch batch = {.at = two, .count = 2, .timeout_ms = timeout_ms};
    w->err.text[0] = '\0';
    return foldback_connector.send(w->c, &batch, &w->err);
}

#define QUEUED "+QUEUED\r\n"
#define IDS "*2\r\n$3\r\n5-0\r\n$3\r\n5-1\r\n"

static const struct line takes_all[] = {
    {"XADD", QUEUED}, {"XADD", QUEUED}, {"EXEC", IDS}, {NULL, NULL}};

/* ---- sink ---- */
static void test_a_send_is_one_transaction_with_fields_and_one_trim(void **state)
{
    (void)state;
    struct server s;
    struct world w = {.pairs = {"max_len", "1000", "user", "u", "password_file", "/dev/null"}};
    server_begin(&s, takes_all);
    snprintf(w.address, sizeof w.address, "127.0.0.1:%u", s.port);
    w.pairs[2] = NULL;
    world_begin(&w, false);
    assert_int_equal(send_two(&w, 10000), FB_OK);
    assert_int_equal(two[0].result, CONNECTOR_DELIVERED);
    assert_int_equal(two[1].result, CONNECTOR_DELIVERED);
    foldback_connector.close(w.c);
    server_end(&s);
    const char *seen = buf_str(&s.seen);
    assert_non_null(strstr(seen, "MULTI \n"
                                 "XADD events:n1 * offset 7 key n1 data first \n"
                                 "XADD events:n1 MAXLEN ~ 1000 * offset 7 key n1 data second \n"
                                 "EXEC \n"));
    buf_fini(&s.seen);
}

static void test_each_refusal_has_a_code_and_a_next_step(void **state)
{
    (void)state;
    static const struct {
        const char *answer;
        enum fb_code code;
        const char *says;
    } rows[] = {
        {"-NOAUTH Authentication required.\r\n", FB_E_DENIED, "password_file"},
        {"-WRONGPASS invalid username-password pair or user is disabled.\r\n", FB_E_DENIED,
         "compare `user`"},
        {"-NOPERM this user has no permissions to run the 'xadd' command\r\n", FB_E_DENIED,
         "+@stream"},
        {"-DENIED Redis is running in protected mode\r\n", FB_E_DENIED, "protected mode"},
        {"-LOADING Redis is loading the dataset in memory\r\n", FB_E_AGAIN, "reads its data"},
        {"-MASTERDOWN Link with MASTER is down\r\n", FB_E_AGAIN, "without its primary"},
        {"-READONLY You can't write against a read only replica.\r\n", FB_E_AGAIN, "`address`"},
        {"-MISCONF Redis is configured to save RDB snapshots\r\n", FB_E_AGAIN, "its disk"},
        {"-OOM command not allowed when used memory > 'maxmemory'.\r\n", FB_E_AGAIN, "maxmemory"},
        {"-NOREPLICAS Not enough good replicas to write.\r\n", FB_E_AGAIN, "fewer replicas"},
        {"-BUSY Redis is busy running a script\r\n", FB_E_AGAIN, "a script"},
        {"-CLUSTERDOWN Hash slot not served\r\n", FB_E_AGAIN, "the cluster"},
        {"-TRYAGAIN Multiple keys request during rehashing\r\n", FB_E_AGAIN, "moves between"},
        {"-ASK 3999 10.0.0.1:6381\r\n", FB_E_AGAIN, "moves between"},
        {"-MOVED 3999 10.0.0.1:6381\r\n", FB_E_CONFIG, "name all nodes"},
        {"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", FB_E_CONFIG,
         "no stream"},
        {"-ERR DB index is out of range\r\n", FB_E_CONFIG, "`database`"},
        {"-ERR unknown command `XADD`\r\n", FB_E_CONFIG, "6.2 or newer"},
        {"-ERR max number of clients reached\r\n", FB_E_AGAIN, "maxclients"},
        {"-ERR something\x01 else\r\n", FB_E_AGAIN, "something? else: it is tried again"},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        const struct line script[] = {{"XADD", rows[i].answer},
                                      {"XADD", rows[i].answer},
                                      {"EXEC", "-EXECABORT Transaction discarded\r\n"},
                                      {NULL, NULL}};
        struct server s;
        struct world w = {.pairs = {NULL}};
        server_begin(&s, script);
        snprintf(w.address, sizeof w.address, "127.0.0.1:%u", s.port);
        world_begin(&w, false);
        assert_int_equal(send_two(&w, 10000), rows[i].code);
        assert_int_equal(w.err.code, rows[i].code);
        if (!strstr(w.err.text, rows[i].says))
            fail_msg("%s: %s", rows[i].answer, w.err.text);
        assert_int_not_equal(two[0].result, CONNECTOR_DELIVERED);
        foldback_connector.close(w.c);
        server_end(&s);
        buf_fini(&s.seen);
    }
}

static void test_a_record_that_is_too_large_is_the_largest(void **state)
{
    (void)state;
    static const struct line script[] = {{"XADD", "-ERR Protocol error: invalid bulk length\r\n"},
                                         {"XADD", NULL},
                                         {"EXEC", CLOSES},
                                         {NULL, NULL}};
    struct server s;
    struct world w = {.pairs = {NULL}};
    server_begin(&s, script);
    snprintf(w.address, sizeof w.address, "127.0.0.1:%u", s.port);
    world_begin(&w, false);
    assert_int_equal(send_two(&w, 10000), FB_E_AGAIN);
    assert_int_equal(two[0].result, CONNECTOR_UNSENT);
    assert_int_equal(two[1].result, CONNECTOR_TOO_LARGE); /* "second" is longer than "first" */
    foldback_connector.close(w.c);
    server_end(&s);
    buf_fini(&s.seen);
}

static void test_without_the_right_to_multi_what_was_stored_counts(void **state)
{
    (void)state;
    static const struct line script[] = {{"MULTI", "-NOPERM this user has no permissions\r\n"},
                                         {"XADD", "$3\r\n5-0\r\n"},
                                         {"XADD", "-OOM full\r\n"},
                                         {"EXEC", "-ERR EXEC without MULTI\r\n"},
                                         {NULL, NULL}};
    struct server s;
    struct world w = {.pairs = {NULL}};
    server_begin(&s, script);
    snprintf(w.address, sizeof w.address, "127.0.0.1:%u", s.port);
    world_begin(&w, false);
    assert_int_equal(send_two(&w, 10000), FB_E_DENIED);
    assert_int_equal(two[0].result, CONNECTOR_DELIVERED);
    assert_int_equal(two[1].result, CONNECTOR_UNSENT);
    foldback_connector.close(w.c);
    server_end(&s);
    buf_fini(&s.seen);
}

static void test_a_server_that_talks_nonsense_costs_a_connection_and_no_more(void **state)
{
    (void)state;
    char *flood = malloc(3 * MIB), nested[200] = "";
    assert_non_null(flood);
    memset(flood, 'a', 3 * MIB);
    memcpy(flood, "+", 1);
    flood[3 * MIB - 1] = '\0';
    for (int i = 0; i < 20; i++)
        memcpy(nested + 4 * i, "*1\r\n", 5);
    const char *const answers[] = {"HTTP/1.1 400 Bad Request\r\n\r\n",
                                   "*100000000\r\n",
                                   "*-7\r\n",
                                   "*1048576\r\n*1048576\r\n",
                                   "$2000000000\r\nabc",
                                   "$-9\r\n",
                                   "\x15\x03\x03",
                                   nested,
                                   flood,
                                   "+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n",
                                   CLOSES,
                                   "+O",
                                   NULL};
    for (size_t i = 0; i < FB_COUNT(answers); i++) {
        const struct line script[] = {{"MULTI", answers[i]},
                                      {"XADD", i % 2 ? CLOSES : NULL},
                                      {"XADD", NULL},
                                      {"EXEC", NULL},
                                      {NULL, NULL}};
        struct server s;
        struct world w = {.pairs = {NULL}};
        server_begin(&s, script);
        snprintf(w.address, sizeof w.address, "127.0.0.1:%u", s.port);
        world_begin(&w, false);
        enum fb_code code = send_two(&w, 300);
        assert_int_not_equal(code, FB_OK);
        assert_true(strlen(w.err.text) > 10);
        assert_int_equal(two[0].result, CONNECTOR_UNSENT);
        assert_false(w.c->link.is_ready);
        foldback_connector.close(w.c);
        server_end(&s);
        buf_fini(&s.seen);
    }
    free(flood);
}

static void test_a_silent_server_is_a_timeout_and_a_stop_is_obeyed(void **state)
{
    (void)state;
    static const struct line script[] = {{"PING", NULL}, {"PING", NULL}, {NULL, NULL}};
    struct server s;
    struct world w = {.pairs = {NULL}};
    server_begin(&s, script);
    snprintf(w.address, sizeof w.address, "127.0.0.1:%u", s.port);
    world_begin(&w, false);
    assert_int_equal(send_two(&w, 200), FB_E_TIMEOUT);
    assert_non_null(strstr(w.err.text, "does not answer in time"));
    atomic_store(&w.calls_until_stop, 4);
    uint64_t from_us = fb_mono_us();
    assert_int_equal(send_two(&w, 60000), FB_E_AGAIN);
    assert_true(fb_mono_us() - from_us < 30 * US_PER_S); /* not the minute */
    foldback_connector.close(w.c);
    server_end(&s);
    buf_fini(&s.seen);
}

static void test_the_next_address_is_tried_and_moved_is_followed_to_a_listed_one(void **state)
{
    (void)state;
    static const struct line replica[] = {{"XADD", "-READONLY You can't write\r\n"},
                                          {"XADD", "-READONLY You can't write\r\n"},
                                          {"EXEC", "-EXECABORT\r\n"},
                                          {NULL, NULL}};
    struct server a, b;
    struct world w = {.pairs = {NULL}};
    server_begin(&a, replica);
    server_begin(&b, takes_all);
    /* the first address refuses connections */
    snprintf(w.address, sizeof w.address, "127.0.0.1:1,127.0.0.1:%u, 127.0.0.1:%u", a.port, b.port);
    world_begin(&w, false);
    assert_int_equal(send_two(&w, 20000), FB_E_AGAIN);
    assert_int_equal(send_two(&w, 20000), FB_OK);
    assert_int_equal(two[1].result, CONNECTOR_DELIVERED);
    assert_int_equal(atomic_load(&a.connections), 1);
    foldback_connector.close(w.c);
    server_end(&a);
    server_end(&b);
    buf_fini(&a.seen);
    buf_fini(&b.seen);

    char moved[80];
    const struct line other[] = {
        {"XADD", moved}, {"XADD", moved}, {"EXEC", "-EXECABORT\r\n"}, {NULL, NULL}};
    server_begin(&b, takes_all);
    snprintf(moved, sizeof moved, "-MOVED 12 127.0.0.1:%u\r\n", b.port);
    server_begin(&a, other);
    snprintf(w.address, sizeof w.address, "127.0.0.1:%u,127.0.0.1:1,127.0.0.1:%u", a.port, b.port);
    world_begin(&w, false);
    assert_int_equal(send_two(&w, 20000), FB_E_AGAIN);
    assert_int_equal(send_two(&w, 20000), FB_OK);
    foldback_connector.close(w.c);
    server_end(&a);
    server_end(&b);
    buf_fini(&a.seen);
    buf_fini(&b.seen);
}

static void test_a_wrong_password_is_denied_and_never_repeated(void **state)
{
    (void)state;
    static const struct line script[] = {
        {"AUTH", "-ERR unknown command 'AUTH', with args beginning with: 'geheim'\r\n"},
        {"AUTH", "-WRONGPASS invalid username-password pair\r\n"},
        {NULL, NULL}};
    char path[] = "/tmp/redis_test_XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "geheim\n", 7), 7);
    close(fd);
    struct server s;
    struct world w = {.pairs = {"user", "u", "password_file", path}};
    server_begin(&s, script);
    snprintf(w.address, sizeof w.address, "127.0.0.1:%u", s.port);
    world_begin(&w, false);
    assert_int_not_equal(send_two(&w, 10000), FB_OK);
    assert_null(strstr(w.err.text, "geheim"));
    assert_int_equal(send_two(&w, 10000), FB_E_DENIED);
    assert_non_null(strstr(w.err.text, "WRONGPASS"));
    foldback_connector.close(w.c);
    server_end(&s);
    assert_non_null(strstr(buf_str(&s.seen), "AUTH u geheim \n"));
    buf_fini(&s.seen);
    unlink(path);
}

static void test_a_configuration_that_cannot_be_meant_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *address, *key, *value, *says;
    } rows[] = {
        {"", "", "", "`address` is empty"},
        {"host:", "", "", "HOST:PORT"},
        {"host:70000", "", "", "HOST:PORT"},
        {"[::1", "", "", "HOST:PORT"},
        {"a,,b", "", "", "HOST:PORT"},
        {"a:1", "user", "u", "needs `password_file`"},
        {"a:1", "ca_file", "x", "need `tls: true`"},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct world w = {.pairs = {rows[i].key, rows[i].value}};
        snprintf(w.address, sizeof w.address, "%s", rows[i].address);
        w.setup = (struct connector_setup){.name = "r", .node = "n", .value = value, .conf = &w};
        assert_int_equal(foldback_connector.open(&w.c, &w.setup, &w.err), FB_E_CONFIG);
        assert_non_null(strstr(w.err.text, rows[i].says));
    }
}

/* ---- source ---- */
struct taken {
    char text[2000];
    uint32_t room;
};

static bool take(void *arg, const struct connector_message *m)
{
    struct taken *t = arg;
    size_t len = strlen(t->text);
    if (t->room == 0)
        return false;
    t->room--;
    snprintf(t->text + len, sizeof t->text - len, "%s=%.*s;", m->position, SPAN_ARG(m->value));
    return true;
}

#define GROUPS(read, last)                                                                         \
    "*1\r\n*6\r\n$4\r\nname\r\n$1\r\ng\r\n$17\r\nlast-delivered-id\r\n$3\r\n" last                 \
    "\r\n$12\r\nentries-read\r\n:" read "\r\n"
#define STREAM(length, added, first)                                                               \
    "*8\r\n$6\r\nlength\r\n:" length "\r\n$13\r\nentries-added\r\n:" added                         \
    "\r\n$17\r\nlast-generated-id\r\n$3\r\n9-0\r\n$11\r\nfirst-entry\r\n*2\r\n$3\r\n" first        \
    "\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"
#define ENTRY(id, field, text) "*2\r\n$3\r\n" id "\r\n*2\r\n" field text
#define ONE_STREAM "*1\r\n*2\r\n$1\r\ns\r\n"
#define NOTHING ONE_STREAM "*0\r\n"

static void test_a_source_drains_claims_reads_and_tells_gaps(void **state)
{
    (void)state;
    static const struct line script[] = {
        {"XINFO", GROUPS("2", "2-0")},
        {"XINFO", STREAM("4", "9", "6-0")}, /* 9 added, 4 left, 2 read: 3 were lost */
        {"XREADGROUP", ONE_STREAM
         "*2\r\n" ENTRY("1-0", "$4\r\ndata\r\n", "$2\r\n{}\r\n") "*2\r\n$3\r\n2-0\r\n*-1\r\n"},
        {"XACK", ":1\r\n"},
        {"XREADGROUP", NOTHING},
        {"XAUTOCLAIM", "*3\r\n$3\r\n0-0\r\n*1\r\n" ENTRY("4-0", "$1\r\nn\r\n",
                                                         "$1\r\nx\r\n") "*1\r\n$3\r\n5-0\r\n"},
        {"XREADGROUP",
         ONE_STREAM "*1\r\n*2\r\n$3\r\n7-0\r\n*4\r\n$5\r\nvalue\r\n$4\r\n19.9\r\n$4\r\nname\r\n"
                    "$5\r\norder\r\n"},
        {"XREADGROUP", "*-1\r\n"},
        {"XACK", ":3\r\n"},
        {NULL, NULL}};
    struct server s;
    struct taken t = {.room = 100};
    struct world w = {.pairs = {"claim_after", "60000", "from", "start"}};
    server_begin(&s, script);
    snprintf(w.address, sizeof w.address, "127.0.0.1:%u", s.port);
    world_begin(&w, true);
    /* far from the second look at the group */
    assert_int_equal(foldback_connector.receive(w.c, take, &t, 20000, &w.err), FB_OK);
    assert_non_null(strstr(t.text, "gap-6-0={\"name\":\"foldback.connector.gap\",\"value\":3,"));
    assert_non_null(strstr(t.text, "1-0={};"));
    assert_non_null(strstr(t.text, "gap-2-0={\"name\":\"foldback.connector.gap\",\"value\":1,"));
    assert_non_null(strstr(t.text, "4-0={\"n\":\"x\"};"));
    assert_non_null(strstr(t.text, "gap-5-0={\"name\":\"foldback.connector.gap\",\"value\":1,"));
    assert_non_null(strstr(t.text, "7-0={\"value\":19.9,\"name\":\"order\"};"));
    assert_non_null(strstr(w.said, "were trimmed before they were read"));
    struct connector_done done[] = {{.topic = "s", .position = "gap-6-0"},
                                    {.topic = "s", .position = "1-0"},
                                    {.topic = "s", .position = "7-0"}};
    assert_int_equal(foldback_connector.commit(w.c, done, 3, &w.err), FB_OK);
    foldback_connector.close(w.c);
    server_end(&s);
    const char *seen = buf_str(&s.seen);
    assert_non_null(strstr(seen, "XGROUP CREATE events:n1 g 0 MKSTREAM \n"));
    assert_non_null(strstr(seen, "XREADGROUP GROUP g n1 COUNT 256 STREAMS events:n1 0 \n"));
    assert_non_null(strstr(seen, "XACK events:n1 g 2-0 \n"));
    assert_non_null(strstr(seen, "XAUTOCLAIM events:n1 g n1 60000 0-0 COUNT 256 \n"));
    assert_non_null(strstr(seen, "XACK events:n1 g 1-0 7-0 \n"));
    buf_fini(&s.seen);
}

static void test_what_has_no_room_is_read_again_as_ours(void **state)
{
    (void)state;
    static const struct line script[] = {
        {"XINFO", "-NOPERM no\r\n"},
        {"XINFO", "-NOPERM no\r\n"},
        {"XREADGROUP", NOTHING},
        {"XREADGROUP", ONE_STREAM "*2\r\n" ENTRY("1-0", "$4\r\ndata\r\n", "$1\r\n1\r\n")
                           ENTRY("2-0", "$4\r\ndata\r\n", "$1\r\n2\r\n")},
        {"XREADGROUP", ONE_STREAM "*1\r\n" ENTRY("2-0", "$4\r\ndata\r\n", "$1\r\n2\r\n")},
        {"XREADGROUP", NOTHING},
        {"XREADGROUP", "*-1\r\n"},
        {NULL, NULL}};
    struct server s;
    struct taken t = {.room = 1};
    struct world w = {.pairs = {NULL}};
    server_begin(&s, script);
    snprintf(w.address, sizeof w.address, "127.0.0.1:%u", s.port);
    world_begin(&w, true);
    assert_int_equal(foldback_connector.receive(w.c, take, &t, 20000, &w.err), FB_OK);
    assert_string_equal(t.text, "1-0=1;");
    w.c->look_at_us = UINT64_MAX; /* the script has no further look */
    t.room = 5;
    assert_int_equal(foldback_connector.receive(w.c, take, &t, 20000, &w.err), FB_OK);
    assert_string_equal(t.text, "1-0=1;2-0=2;");
    foldback_connector.close(w.c);
    server_end(&s);
    assert_non_null(strstr(buf_str(&s.seen), "STREAMS events:n1 1-0 \n"));
    buf_fini(&s.seen);
}

static void test_a_group_that_is_gone_is_made_again(void **state)
{
    (void)state;
    static const struct line script[] = {{"XINFO", "-ERR no such key\r\n"},
                                         {"XINFO", "-ERR no such key\r\n"},
                                         {"XREADGROUP", "-NOGROUP No such key\r\n"},
                                         {NULL, NULL}};
    struct server s;
    struct taken t = {.room = 1};
    struct world w = {.pairs = {NULL}};
    server_begin(&s, script);
    snprintf(w.address, sizeof w.address, "127.0.0.1:%u", s.port);
    world_begin(&w, true);
    assert_int_equal(foldback_connector.receive(w.c, take, &t, 20000, &w.err), FB_E_AGAIN);
    assert_non_null(strstr(w.err.text, "it is made again"));
    assert_int_equal(foldback_connector.receive(w.c, take, &t, 50, &w.err), FB_OK);
    foldback_connector.close(w.c);
    server_end(&s);
    const char *first = strstr(buf_str(&s.seen), "XGROUP CREATE");
    assert_non_null(first);
    assert_non_null(strstr(first + 1, "XGROUP CREATE"));
    buf_fini(&s.seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_send_is_one_transaction_with_fields_and_one_trim),
        cmocka_unit_test(test_each_refusal_has_a_code_and_a_next_step),
        cmocka_unit_test(test_a_record_that_is_too_large_is_the_largest),
        cmocka_unit_test(test_without_the_right_to_multi_what_was_stored_counts),
        cmocka_unit_test(test_a_server_that_talks_nonsense_costs_a_connection_and_no_more),
        cmocka_unit_test(test_a_silent_server_is_a_timeout_and_a_stop_is_obeyed),
        cmocka_unit_test(test_the_next_address_is_tried_and_moved_is_followed_to_a_listed_one),
        cmocka_unit_test(test_a_wrong_password_is_denied_and_never_repeated),
        cmocka_unit_test(test_a_configuration_that_cannot_be_meant_is_refused),
        cmocka_unit_test(test_a_source_drains_claims_reads_and_tells_gaps),
        cmocka_unit_test(test_what_has_no_room_is_read_again_as_ours),
        cmocka_unit_test(test_a_group_that_is_gone_is_made_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
