/* SPDX-License-Identifier: Apache-2.0 */
/* train: shows a foldback that was built with counters what most of its time goes into, for the
 * compiler (`./dev release`).
 *
 * An origin in this process, `foldback run` in front of it, and clients of libcurl in phases: small
 * requests on kept connections, bodies, handshakes, HTTP/2, cache hits, uploads.  Queues and
 * refusals come from `foldback demo`.  Counters are written when foldback ends in order.  A path
 * that no phase takes is compiled for size: a new feature of the request path belongs into a phase
 * here.
 *
 * Run: train BINARY FOLDER (made, and left to the caller). */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 256
#define ANSWERS_MIN 100 /* of a phase; a slow machine gets the time for them */
#define SLOW_S 60
#define UPLOAD_BYTES 2048
#define HEAD_BYTES 4096

static const struct phase {
    const char *what, *path;
    bool is_tls, is_closing, is_upload;
    long http; /* CURL_HTTP_VERSION_... */
    unsigned clients;
    unsigned seconds;
} phases[] = {
    {"small requests", "/128", .http = CURL_HTTP_VERSION_1_1, .clients = 64, .seconds = 4},
    {"many connections", "/128", .http = CURL_HTTP_VERSION_1_1, .clients = 256, .seconds = 4},
    {"bodies of 64 KiB", "/65536", .http = CURL_HTTP_VERSION_1_1, .clients = 16, .seconds = 2},
    {"bodies of 1 MiB", "/1048576", .http = CURL_HTTP_VERSION_1_1, .clients = 8, .seconds = 1},
    {"uploads", "/128", .is_upload = true, .http = CURL_HTTP_VERSION_1_1, .clients = 16,
     .seconds = 1},
    {"cache hits", "/cached/128", .http = CURL_HTTP_VERSION_1_1, .clients = 64, .seconds = 2},
    {"cached 16 KiB", "/cached/16384", .http = CURL_HTTP_VERSION_1_1, .clients = 16, .seconds = 1},
    {"TLS", "/128", .is_tls = true, .http = CURL_HTTP_VERSION_1_1, .clients = 32, .seconds = 2},
    {"handshakes", "/128", .is_tls = true, .is_closing = true, .http = CURL_HTTP_VERSION_1_1,
     .clients = 8, .seconds = 2},
    {"HTTP/2", "/128", .is_tls = true, .http = CURL_HTTP_VERSION_2TLS, .clients = 64, .seconds = 2},
};

static char body[1 << 20];

static void die(const char *what)
{
    fprintf(stderr, "train: %s\n", what);
    exit(1);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- origin ---- */

static int listen_any(uint16_t *port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t bytes = sizeof at;
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 1024) ||
        getsockname(fd, (struct sockaddr *)&at, &bytes))
        die("no port on 127.0.0.1");
    *port = ntohs(at.sin_port);
    return fd;
}

/* A port that is free now.  foldback says at its start if somebody was faster. */
static unsigned free_port(void)
{
    uint16_t port;
    close(listen_any(&port));
    return port;
}

static bool write_all(int fd, const char *at, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = send(fd, at, bytes, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        at += n;
        bytes -= (size_t)n;
    }
    return true;
}

/* Answers with as many bytes as the last number of the path says.  Requests come one by one. */
static bool origin_answer(int fd, const char *head, size_t body_bytes_here)
{
    const char *end = strchr(head, '\n'), *length = strcasestr(head, "\ncontent-length:");
    size_t owed = length ? strtoul(length + 16, NULL, 10) : 0;
    for (char drop[HEAD_BYTES]; body_bytes_here < owed;) {
        ssize_t n = recv(fd, drop, sizeof drop, 0);
        if (n <= 0)
            return false;
        body_bytes_here += (size_t)n;
    }
    size_t bytes = 0;
    for (const char *at = head; end && at < end; at++)
        if (*at == '/' && at[1] >= '0' && at[1] <= '9')
            bytes = strtoul(at + 1, NULL, 10);
    bytes = bytes < sizeof body ? bytes : sizeof body;
    char line[256];
    int n = snprintf(line, sizeof line,
                     "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\n"
                     "Content-Type: text/plain\r\nContent-Length: %zu\r\n\r\n",
                     bytes);
    return write_all(fd, line, (size_t)n) && write_all(fd, body, bytes);
}

static void *origin_connection(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char head[HEAD_BYTES + 1];
    size_t len = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    for (;;) {
        ssize_t n = recv(fd, head + len, HEAD_BYTES - len, 0);
        if (n <= 0)
            break;
        len += (size_t)n;
        head[len] = 0;
        char *end = strstr(head, "\r\n\r\n");
        if (!end)
            continue;
        if (!origin_answer(fd, head, (size_t)(head + len - end - 4)))
            break;
        len = 0;
    }
    close(fd);
    return NULL;
}

static void *origin(void *arg)
{
    int fd;
    pthread_t thread;
    while ((fd = accept4((int)(intptr_t)arg, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        if (pthread_create(&thread, NULL, origin_connection, (void *)(intptr_t)fd))
            die("no thread");
        pthread_detach(thread);
    }
    return NULL;
}

/* ---- clients ---- */

static size_t ignore(char *at, size_t size, size_t n, void *arg)
{
    (void)at;
    (void)arg;
    return size * n;
}

static CURL *client_new(const struct phase *p, const char *url)
{
    CURL *c = curl_easy_init();
    if (!c)
        die("no client");
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, ignore);
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, p->http);
    curl_easy_setopt(c, CURLOPT_FORBID_REUSE, (long)p->is_closing);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(c, CURLOPT_PIPEWAIT, (long)(p->http == CURL_HTTP_VERSION_2TLS));
    curl_easy_setopt(c, CURLOPT_TIMEOUT, 20L);
    if (p->is_upload) {
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE, (long)UPLOAD_BYTES);
    }
    return c;
}

static void run(const struct phase *p, unsigned port)
{
    char url[128];
    snprintf(url, sizeof url, "%s://localhost:%u%s", p->is_tls ? "https" : "http", port, p->path);
    CURLM *all = curl_multi_init();
    CURL *client[CLIENTS_MAX];
    for (unsigned i = 0; i < p->clients; i++)
        curl_multi_add_handle(all, client[i] = client_new(p, url));
    unsigned long ok = 0, failed = 0;
    int running, left;
    double end_s = now_s() + p->seconds;
    while (now_s() < end_s || (ok < ANSWERS_MIN && now_s() < end_s + SLOW_S)) {
        unsigned long before = ok + failed;
        curl_multi_perform(all, &running);
        for (CURLMsg *m; (m = curl_multi_info_read(all, &left));) {
            long status = 0;
            curl_easy_getinfo(m->easy_handle, CURLINFO_RESPONSE_CODE, &status);
            ok += status == 200;
            failed += status != 200;
            CURL *again = m->easy_handle;
            curl_multi_remove_handle(all, again);
            curl_multi_add_handle(all, again);
        }
        if (ok + failed == before)
            curl_multi_poll(all, NULL, 0, 20, NULL);
    }
    for (unsigned i = 0; i < p->clients; i++) {
        curl_multi_remove_handle(all, client[i]);
        curl_easy_cleanup(client[i]);
    }
    curl_multi_cleanup(all);
    printf("  %-18s %lu answers, %lu others\n", p->what, ok, failed);
    fflush(stdout);
    if (ok < ANSWERS_MIN)
        die("too few answers to learn from");
}

/* ---- foldback ---- */

struct ports {
    uint16_t origin;
    unsigned clear, tls, admin;
};

static pid_t foldback_start(const char *binary, const char *folder, const struct ports *port)
{
    char file[1024];
    snprintf(file, sizeof file, "%s/train.yaml", folder);
    FILE *f = fopen(file, "w");
    if (!f)
        die("the folder cannot be written");
    fprintf(f,
            "listen: [\"127.0.0.1:%u\", { address: \"127.0.0.1:%u\", tls: internal }]\n"
            "mode: act\n"
            "admin: { listen: \"127.0.0.1:%u\" }\n"
            "state: \"%s/state\"\n"
            "threads: 1\n"
            "services:\n"
            "  app: { endpoints: [\"127.0.0.1:%u\"], objective: { latency: 99%% < 500ms } }\n"
            "routes:\n"
            "  - { match: /cached/, service: app, cache: { ttl: 10m } }\n"
            "  - { match: /, service: app }\n",
            port->clear, port->tls, port->admin, folder, port->origin);
    fclose(f);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        execl(binary, binary, "run", "--config", file, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void wait_for(unsigned port, pid_t pid)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    for (int i = 0; i < 600; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool is_up = connect(fd, (struct sockaddr *)&to, sizeof to) == 0;
        close(fd);
        if (is_up)
            return;
        if (waitpid(pid, NULL, WNOHANG) == pid)
            die("foldback ended at its start");
        usleep(50000);
    }
    die("foldback does not listen within 30 s");
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: train BINARY FOLDER\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    mkdir(argv[2], 0700);
    struct ports port;
    int listener = listen_any(&port.origin);
    pthread_t thread;
    if (pthread_create(&thread, NULL, origin, (void *)(intptr_t)listener))
        die("no thread");
    port.clear = free_port();
    port.tls = free_port();
    port.admin = free_port();
    pid_t pid = foldback_start(argv[1], argv[2], &port);
    wait_for(port.clear, pid);
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++)
        run(&phases[i], phases[i].is_tls ? port.tls : port.clear);
    int status = 0;
    kill(pid, SIGTERM);
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        die("foldback did not end in order: its counters are lost");
    return 0;
}
