/* SPDX-License-Identifier: Apache-2.0 */
/* series_bench PORT SECONDS [CLIENTS [PER_S]]: latency second by second, to see what a reload or an
 * upgrade does to it.
 *
 * Each client is a thread with one kept connection and a fixed rate; latency counts from when the
 * request was due.  An end of the connection without `Connection: close` before it is counted. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 64
#define PER_SECOND_MAX 20000
#define SECONDS_MAX 120

static uint32_t sample_us[SECONDS_MAX][PER_SECOND_MAX];
static _Atomic uint32_t count[SECONDS_MAX];
static _Atomic uint32_t refused, broken, ended, wrong;
static uint64_t begin_us;
static unsigned seconds, clients = 8, per_s = 1600;
static uint16_t port;

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int open_connection(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int one = 1;
    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    close(fd);
    return -1;
}

/* One exchange; false when the connection is over. */
static bool exchange(int fd, bool *is_good, bool *is_first)
{
    static const char ask[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    char got[4096];
    size_t have = 0;
    *is_good = false;
    *is_first = true;
    if (send(fd, ask, sizeof ask - 1, MSG_NOSIGNAL) != (ssize_t)(sizeof ask - 1))
        return false;
    for (;;) {
        ssize_t n = recv(fd, got + have, sizeof got - 1 - have, 0);
        if (n <= 0)
            return false;
        *is_first = false;
        have += (size_t)n;
        got[have] = '\0';
        char *end = strstr(got, "\r\n\r\n");
        const char *length = end ? strcasestr(got, "content-length:") : NULL;
        if (!end || !length)
            continue;
        if (have < (size_t)(end + 4 - got) + (size_t)strtoul(length + 15, NULL, 10))
            continue;
        *is_good = strncmp(got, "HTTP/1.1 200", 12) == 0;
        return strcasestr(got, "connection: close") == NULL;
    }
}

static void *run(void *arg)
{
    uint64_t gap_us = 1000000 * (uint64_t)clients / per_s;
    uint64_t due_us = begin_us + gap_us * (uint64_t)(uintptr_t)arg / clients;
    int fd = -1;
    for (; due_us < begin_us + (uint64_t)seconds * 1000000; due_us += gap_us) {
        uint64_t at_us = now_us();
        if (at_us < due_us)
            usleep((useconds_t)(due_us - at_us));
        if (fd < 0 && (fd = open_connection()) < 0) {
            refused++;
            continue;
        }
        bool is_good, is_first;
        bool goes_on = exchange(fd, &is_good, &is_first);
        if (!is_good)
            (*(goes_on ? &wrong : is_first ? &ended : &broken))++;
        if (!goes_on) {
            close(fd);
            fd = -1;
        }
        uint64_t second = (due_us - begin_us) / 1000000;
        uint32_t i = atomic_fetch_add(&count[second], 1);
        if (i < PER_SECOND_MAX)
            sample_us[second][i] = (uint32_t)(now_us() - due_us);
    }
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    port = (uint16_t)atoi(argv[1]);
    seconds = (unsigned)atoi(argv[2]);
    clients = argc > 3 ? (unsigned)atoi(argv[3]) : clients;
    per_s = argc > 4 ? (unsigned)atoi(argv[4]) : per_s;
    if (!seconds || seconds > SECONDS_MAX || !clients || clients > CLIENTS_MAX || !per_s)
        return 2;
    pthread_t thread[CLIENTS_MAX];
    begin_us = now_us();
    for (unsigned i = 0; i < clients; i++)
        pthread_create(&thread[i], NULL, run, (void *)(uintptr_t)i);
    for (unsigned i = 0; i < clients; i++)
        pthread_join(thread[i], NULL);
    printf("second  count  p50_us  p99_us p999_us  max_us\n");
    for (unsigned s = 0; s < seconds; s++) {
        uint32_t n = count[s] < PER_SECOND_MAX ? count[s] : PER_SECOND_MAX;
        uint32_t *of = sample_us[s];
        if (n == 0)
            continue;
        qsort(of, n, sizeof *of, by_value);
        printf("%6u %6u %7u %7u %7u %7u\n", s, n, of[n / 2], of[n * 99 / 100], of[n * 999 / 1000],
               of[n - 1]);
    }
    printf("refused %u, cut in an answer %u, ended before one %u, not 200 %u\n", refused, broken,
           ended, wrong);
    return refused || broken || ended || wrong;
}
