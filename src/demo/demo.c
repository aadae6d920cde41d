/* SPDX-License-Identifier: Apache-2.0 */
#include "demo/demo.h"

#include "base/clock.h"
#include "base/error.h"
#include "cli/client.h"
#include "demo/load.h"
#include "demo/report.h"
#include "demo/result.h"
#include "demo/service.h"
#include "io/socket.h"
#include "io/textfile.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LANES 2
#define CHILDREN_MAX (LANES * (DEMO_ENDPOINTS + 2))
#define LANE_FD 30 /* where the proxy of a lane finds its listening socket */

enum { LANE_OURS, LANE_TWIN };

struct lane {
    const char *name;
    int service_fd[DEMO_ENDPOINTS], listen_fd;
    struct sock_addr service[DEMO_ENDPOINTS], at;
    struct load_board *board;
    char state_dir[700], admin[SOCK_TEXT_BYTES];
    pid_t proxy;
};
struct demo {
    const struct cli_demo_args *args;
    const struct demo_scenario *scenario;
    uint32_t seconds;
    uint64_t start_us, length_us;
    struct lane lane[LANES];
    pid_t child[CHILDREN_MAX];
    size_t child_count;
    char dir[512];
    struct buf decisions;
};

static volatile sig_atomic_t is_interrupted;

static enum fb_code open_sockets(struct demo *d, struct fb_err *err);
static enum fb_code start_proxy(struct demo *d, struct lane *l, struct fb_err *err);
static enum fb_code await_proxy(struct lane *l, struct fb_err *err);
static void start_children(struct demo *d);
static void watch(struct demo *d);
static void stop_all(struct demo *d);
static int finish(struct demo *d);
static void remove_tree(const char *dir);

static void on_interrupt(int signal)
{
    (void)signal;
    is_interrupted = 1;
}

int demo_command(const struct cli_demo_args *args)
{
    struct demo d = {.args = args,
                     .scenario =
                         demo_scenario_find(args->scenario ? args->scenario : "flash-sale")};
    struct fb_err err = {0};
    if (!d.scenario) {
        fprintf(stderr,
                "foldback: demo: no scenario \"%s\"; there are flash-sale, live-sports, collab\n",
                args->scenario);
        return 2;
    }
    d.seconds = args->seconds ? args->seconds : d.scenario->seconds;
    d.length_us = d.seconds * US_PER_S;
    d.lane[LANE_OURS].name = "foldback";
    d.lane[LANE_TWIN].name = "static";
    buf_init(&d.decisions, 16 * MIB);
    const char *tmp = getenv("TMPDIR");
    if (args->state)
        snprintf(d.dir, sizeof d.dir, "%s", args->state);
    else
        snprintf(d.dir, sizeof d.dir, "%.400s/foldback-demo-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
    if (!args->state && !mkdtemp(d.dir)) {
        fprintf(stderr, "foldback: demo: cannot make %s: %s; name a folder with --state\n", d.dir,
                strerror(errno));
        return 1;
    }
    if (args->state)
        (void)mkdir(d.dir, 0700);
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
    signal(SIGPIPE, SIG_IGN);
    int code = 1;
    enum fb_code got = open_sockets(&d, &err);
    for (int i = 0; got == FB_OK && i < LANES; i++)
        got = start_proxy(&d, &d.lane[i], &err);
    for (int i = 0; got == FB_OK && i < LANES; i++)
        got = await_proxy(&d.lane[i], &err);
    if (got == FB_OK) {
        start_children(&d);
        watch(&d);
        code = finish(&d);
    } else {
        fprintf(stderr, "foldback: demo: %s\n", err.text);
        code = fb_error_row(got)->exit_code;
    }
    stop_all(&d);
    buf_fini(&d.decisions);
    if (!args->state)
        remove_tree(d.dir);
    return code;
}

static enum fb_code open_sockets(struct demo *d, struct fb_err *err)
{
    for (int i = 0; i < LANES; i++) {
        struct lane *l = &d->lane[i];
        l->board = load_board_new();
        if (!l->board)
            return fb_fail(err, FB_E_NOMEM, "no memory for the samples");
        enum fb_code code = sock_listen("127.0.0.1:0", &l->listen_fd, 1, err);
        if (code != FB_OK)
            return code;
        (void)sock_local(l->listen_fd, &l->at);
        for (int e = 0; e < DEMO_ENDPOINTS; e++) {
            code = sock_listen("127.0.0.1:0", &l->service_fd[e], 1, err);
            if (code != FB_OK)
                return code;
            (void)sock_local(l->service_fd[e], &l->service[e]);
        }
    }
    return FB_OK;
}

/* The configuration is the point of the demo: the first lane is told endpoints and an objective, no
 * number more. */
static void put_config(struct demo *d, const struct lane *l, bool is_twin, struct buf *out)
{
    const struct demo_scenario *sc = d->scenario;
    buf_printf(out, "listen: [\"fd:%d\"]\n", LANE_FD);
    if (is_twin)
        buf_puts(
            out,
            "mode: observe\nadmin: { listen: \"off\" }\nupstream: { retry_pct: 0, timeout: 5s }\n");
    buf_puts(out, "services:\n  app:\n    endpoints: [");
    for (int e = 0; e < DEMO_ENDPOINTS; e++) {
        char text[SOCK_TEXT_BYTES];
        sock_format(&l->service[e], text);
        buf_printf(out, "%s\"%s\"", e ? ", " : "", text);
    }
    buf_puts(out, "]\n");
    if (is_twin)
        buf_puts(out, "    balance: round-robin\n    eject: false\n    queue: off\n    tune: { "
                      "limit: { value: 256 } }\n");
    else
        buf_printf(out, "    objective: { latency: 99%% < %llums }\n",
                   (unsigned long long)(DEMO_DEADLINE_US / 1000));
    buf_puts(out, "routes:\n");
    for (uint8_t i = 0; i < EV_CLASS_COUNT; i++)
        buf_printf(out, "  - { match: \"%s\", service: app, priority: %s, key: X-User%s }\n",
                   sc->mix[i].path, ev_class_name(sc->mix[i].class),
                   sc->mix[i].kind == DEMO_KIND_REQUEST ? "" : ", stream: true");
}

static enum fb_code start_proxy(struct demo *d, struct lane *l, struct fb_err *err)
{
    char file[700];
    struct buf text;
    snprintf(l->state_dir, sizeof l->state_dir, "%s/%s", d->dir, l->name);
    snprintf(file, sizeof file, "%s/%s.yaml", d->dir, l->name);
    buf_init(&text, MIB);
    put_config(d, l, l == &d->lane[LANE_TWIN], &text);
    FILE *f = fopen(file, "we");
    if (!f || fwrite(text.at, 1, text.len, f) != text.len || fclose(f) != 0) {
        buf_fini(&text);
        return fb_fail(err, FB_E_IO, "cannot write %s: %s", file, strerror(errno));
    }
    buf_fini(&text);
    l->proxy = fork();
    if (l->proxy < 0)
        return fb_fail(err, FB_E_IO, "cannot start a process: %s", strerror(errno));
    if (l->proxy == 0) {
        char log[720];
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        signal(SIGINT, SIG_IGN);
        snprintf(log, sizeof log, "%s/%s.log", d->dir, l->name);
        int to = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        dup2(to, STDOUT_FILENO);
        dup2(to, STDERR_FILENO);
        if (l->listen_fd == LANE_FD)
            (void)fcntl(LANE_FD, F_SETFD, 0);
        else
            dup2(l->listen_fd, LANE_FD);
        execl("/proc/self/exe", "foldback", "run", "--config", file, "--state", l->state_dir,
              (char *)NULL);
        _exit(127);
    }
    return FB_OK;
}

/* What a lane wrote, for its folder goes with the demo. */
static void tell_log(const struct lane *l)
{
    char file[740], part[4096];
    snprintf(file, sizeof file, "%s.log", l->state_dir);
    FILE *f = fopen(file, "re");
    size_t n = f ? fread(part, 1, sizeof part, f) : 0;
    fwrite(part, 1, n, stderr);
    if (f)
        fclose(f);
}

/* admin.json appears when the proxy serves. */
static enum fb_code await_proxy(struct lane *l, struct fb_err *err)
{
    char file[740];
    snprintf(file, sizeof file, "%s/admin.json", l->state_dir);
    for (int i = 0; i < 1000; i++) {
        json_t *root = json_load_file(file, 0, NULL);
        const char *address = json_string_value(json_object_get(root, "address"));
        if (address) {
            snprintf(l->admin, sizeof l->admin, "%s", address);
            json_decref(root);
            return FB_OK;
        }
        json_decref(root);
        if (waitpid(l->proxy, NULL, WNOHANG) == l->proxy) {
            l->proxy = 0;
            tell_log(l);
            return fb_fail(err, FB_E_AGAIN, "the %s lane did not start; the lines above say why",
                           l->name);
        }
        usleep(10000);
    }
    tell_log(l);
    return fb_fail(err, FB_E_TIMEOUT,
                   "the %s lane was not ready within 10 s; what it said is above, and `foldback "
                   "check` looks at this host",
                   l->name);
}

static pid_t fork_child(struct demo *d)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGINT, SIG_IGN);
        signal(SIGTERM, SIG_DFL);
    } else if (pid > 0) {
        d->child[d->child_count++] = pid;
    }
    return pid;
}

static void start_children(struct demo *d)
{
    d->start_us = fb_mono_us() + 300 * US_PER_MS;
    for (int i = 0; i < LANES; i++) {
        struct lane *l = &d->lane[i];
        for (uint8_t e = 0; e < DEMO_ENDPOINTS; e++) {
            struct service_setup setup = {.scenario = d->scenario,
                                          .endpoint = e,
                                          .listen_fd = l->service_fd[e],
                                          .start_us = d->start_us,
                                          .length_us = d->length_us,
                                          .seed = 100u + e};
            if (fork_child(d) == 0)
                _exit(service_run(&setup));
            close(l->service_fd[e]);
        }
        struct load_setup setup = {.scenario = d->scenario,
                                   .to = l->at,
                                   .start_us = d->start_us,
                                   .length_us = d->length_us,
                                   .seed = 7,
                                   .board = l->board};
        if (fork_child(d) == 0)
            _exit(load_run(&setup));
        close(l->listen_fd);
    }
}

static void put_lane(struct demo *d, const struct lane *l, uint32_t now_ms, char *text, size_t size)
{
    struct result r;
    /* the last 2 s, without the newest half second: its users still wait */
    uint32_t until_ms = now_ms > 500 ? now_ms - 500 : 0,
             from_ms = until_ms > 2000 ? until_ms - 2000 : 0;
    (void)d;
    result_compute(l->board, from_ms, until_ms, &r);
    if (r.all.offered == 0) {
        snprintf(text, size, "%-8s nobody has come yet", l->name);
        return;
    }
    snprintf(text, size, "%-8s %5.1f %% in time (critical %5.1f %%), p99 %4.0f ms", l->name,
             result_in_time_pct(&r.all), result_in_time_pct(&r.class[EV_CLASS_CRITICAL]),
             r.all.p99_ms);
}

static void watch(struct demo *d)
{
    bool is_tty = isatty(STDERR_FILENO);
    uint64_t next_line_us = 0, end_us = d->start_us + d->length_us;
    if (!d->args->is_json && !d->args->is_headless) {
        char token[160] = "", file[800];
        snprintf(file, sizeof file, "%s/admin.token", d->lane[LANE_OURS].state_dir);
        (void)!textfile_line(file, token, sizeof token); /* without one the page asks for it */
        fprintf(stderr,
                "foldback demo: %s\n%s\n\n  dashboard  http://%s/?token=%s\n  ask it     foldback "
                "--state %s decisions | why ...\n\n",
                d->scenario->name, d->scenario->says, d->lane[LANE_OURS].admin, token,
                d->lane[LANE_OURS].state_dir);
    }
    for (;;) {
        uint64_t now_us = fb_mono_us();
        bool is_done =
            atomic_load(&d->lane[0].board->is_done) && atomic_load(&d->lane[1].board->is_done);
        if (is_interrupted || is_done || now_us > end_us + 30 * US_PER_S)
            break;
        if (now_us >= next_line_us && now_us >= d->start_us && now_us < end_us) {
            uint32_t now_ms = (uint32_t)((now_us - d->start_us) / 1000);
            char a[160], b[160];
            put_lane(d, &d->lane[LANE_OURS], now_ms, a, sizeof a);
            put_lane(d, &d->lane[LANE_TWIN], now_ms, b, sizeof b);
            fprintf(stderr, "%s%u:%02u of %u:%02u  %s\n      %s\n      %s%s",
                    is_tty && next_line_us ? "\r\033[2A\033[J" : "", now_ms / 60000,
                    now_ms / 1000 % 60, d->seconds / 60, d->seconds % 60,
                    demo_says(d->scenario, (double)now_ms / 1000.0 / d->seconds), a, b,
                    is_tty ? "" : "\n");
            next_line_us = now_us + (is_tty ? 500 * US_PER_MS : 5 * US_PER_S);
        }
        usleep(50000);
    }
    if (is_tty)
        fputc('\n', stderr);
}

/* The figures of both lanes, the decisions, the report. */
static int finish(struct demo *d)
{
    struct result ours, twin;
    struct fb_err err = {0};
    uint32_t all_ms = d->seconds * 1000;
    result_compute(d->lane[LANE_OURS].board, 0, all_ms, &ours);
    result_compute(d->lane[LANE_TWIN].board, 0, all_ms, &twin);
    struct client client;
    static const struct client_call call = {.method = "GET", .path = "/v1/decisions?limit=2000"};
    if (client_init(&client, d->lane[LANE_OURS].state_dir, NULL, NULL, &err) != FB_OK ||
        client_call(&client, &call, &d->decisions, &err) != FB_OK)
        fprintf(stderr, "foldback: demo: decisions: %s\n", err.text);
    char file[512];
    snprintf(file, sizeof file, "foldback-demo-%s.html", d->scenario->name);
    const char *path = d->args->report ? d->args->report : file;
    struct buf html;
    buf_init(&html, 16 * MIB);
    report_html(&(struct report){.scenario = d->scenario,
                                 .seconds = d->seconds,
                                 .ours = d->lane[LANE_OURS].board,
                                 .twin = d->lane[LANE_TWIN].board,
                                 .ours_result = &ours,
                                 .twin_result = &twin,
                                 .decisions = buf_span(&d->decisions)},
                &html);
    FILE *f = fopen(path, "we");
    bool is_written = f && fwrite(html.at, 1, html.len, f) == html.len;
    if (f)
        is_written &= fclose(f) == 0;
    buf_fini(&html);
    json_t *root = json_loadb(d->decisions.at ? d->decisions.at : "", d->decisions.len, 0, NULL);
    json_t *list = json_is_array(root) ? root : json_object_get(root, "decisions");
    struct buf out;
    buf_init(&out, 32 * MIB);
    if (d->args->is_json) {
        struct json j;
        json_init(&j, &out);
        json_object_begin(&j);
        json_key_str(&j, "scenario", d->scenario->name);
        json_key_u64(&j, "seconds", d->seconds);
        json_key(&j, "lanes");
        json_object_begin(&j);
        json_key(&j, "foldback");
        result_to_json(&ours, &j);
        json_key(&j, "static");
        result_to_json(&twin, &j);
        json_object_end(&j);
        json_key(&j, "decisions");
        char *text = list ? json_dumps(list, JSON_COMPACT) : NULL;
        json_raw(&j, span_of(text ? text : "[]"));
        free(text);
        json_key_str(&j, "report", is_written ? path : "");
        json_object_end(&j);
        buf_putc(&out, '\n');
    } else {
        result_table(&ours, &twin, &out);
        buf_printf(&out, "\n  %zu decisions; the newest:\n", json_array_size(list));
        for (size_t i = 0; i < json_array_size(list) && i < 8; i++) {
            const char *sentence =
                json_string_value(json_object_get(json_array_get(list, i), "sentence"));
            buf_printf(&out, "    %s\n", sentence ? sentence : "");
        }
        buf_printf(&out,
                   is_written ? "\n  report: %s\n" : "\n  the report %s could not be written\n",
                   path);
    }
    fputs(buf_str(&out), stdout);
    fflush(stdout);
    buf_fini(&out);
    json_decref(root);
    return is_interrupted ? 130 : ours.all.offered ? 0 : 1;
}

static void stop_all(struct demo *d)
{
    for (size_t i = 0; i < d->child_count; i++)
        kill(d->child[i], SIGKILL);
    for (int i = 0; i < LANES; i++)
        if (d->lane[i].proxy > 0)
            kill(d->lane[i].proxy, SIGTERM);
    for (size_t i = 0; i < d->child_count; i++)
        waitpid(d->child[i], NULL, 0);
    for (int i = 0; i < LANES; i++) {
        pid_t pid = d->lane[i].proxy;
        for (int t = 0; pid > 0 && t < 500; t++) {
            if (waitpid(pid, NULL, WNOHANG) == pid)
                pid = 0;
            else if (t == 400)
                kill(pid, SIGKILL);
            else
                usleep(10000);
        }
    }
}

/* The demo's own temporary folder, two levels deep. */
static void remove_tree(const char *dir)
{
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", "--", dir, (char *)NULL);
        _exit(127);
    }
    if (pid > 0)
        waitpid(pid, NULL, 0);
}
