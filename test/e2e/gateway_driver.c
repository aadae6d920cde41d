/* SPDX-License-Identifier: Apache-2.0 */
/* gateway_driver: the gateway alone, without supervisor and brain: for tests of the data plane.
 *
 *   gateway_driver CONFIG [THREADS]
 *
 * Prints "port N" for each listener and "ready".  stdin: "reload FILE", "drain", "stop", "events"
 * (prints each event of the rings as a line of JSON, then "."), "tls" (counters), one command per
 * line; stdout: "reloaded TEXT", "refused TEXT", "drained". */
#include "base/clock.h"
#include "base/log.h"
#include "gateway/control_msg.h"
#include "gateway/gateway.h"
#include "io/socket.h"
#include "io/thread.h"
#include "io/tls.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static struct gateway_setup setup;
static int exit_code;

static void *serve(void *arg)
{
    (void)arg;
    exit_code = gateway_run(&setup);
    return NULL;
}

static void send_file(int socket, const char *path)
{
    char text[65536];
    int from = open(path, O_RDONLY | O_CLOEXEC), fd = memfd_create("conf", MFD_CLOEXEC);
    ssize_t n = from < 0 ? -1 : read(from, text, sizeof text);
    if (n >= 0 && write(fd, text, (size_t)n) == n)
        control_send_fd(socket, CONTROL_RELOAD, path, fd);
    close(fd);
    if (from >= 0)
        close(from);
}

static void print_events(struct memfile *mem)
{
    for (uint32_t i = 0; i < mem->head->threads; i++) {
        uint64_t cursor = ring_cursor(mem->rings[i]);
        const struct ev_head *ev;
        while ((ev = ring_peek(mem->rings[i], &cursor)) != NULL) {
            struct buf out;
            struct json j;
            buf_init(&out, 64 * KIB);
            json_init(&j, &out);
            ev_to_json(&j, ev, 0, false);
            printf("%s\n", buf_str(&out));
            buf_fini(&out);
        }
        ring_release(mem->rings[i], cursor);
    }
    printf(".\n");
}

static void print_tls(struct memfile_tls *t)
{
    printf("tls full=%llu resumed=%llu reloads=%llu refused=%u", (unsigned long long)t->full,
           (unsigned long long)t->resumed, (unsigned long long)t->reloads, t->refused[0]);
    for (int i = 1; i < TLS_FAULT_COUNT; i++)
        printf(" %s=%llu", tls_fault_name((enum tls_fault)i), (unsigned long long)t->failed[i]);
    printf("\n");
}

static void command(char *line, int socket, struct memfile *mem)
{
    line[strcspn(line, "\r\n")] = '\0';
    if (strncmp(line, "reload ", 7) == 0)
        send_file(socket, line + 7);
    else if (strcmp(line, "drain") == 0)
        control_send(socket, CONTROL_DRAIN, 0, 0, "");
    else if (strncmp(line, "purge ", 6) == 0 && strlen(line) > 10) /* purge KIND PACED TEXT */
        control_send(socket, CONTROL_PURGE, (uint16_t)(line[6] - '0'), line[8] == '1', line + 10);
    else if (strcmp(line, "stop") == 0)
        control_send(socket, CONTROL_STOP, 0, 0, "");
    else if (strcmp(line, "events") == 0)
        print_events(mem);
    else if (strcmp(line, "tls") == 0)
        print_tls(&mem->head->tls);
}

static bool listen_all(struct conf *conf, uint32_t threads, struct fb_err *err)
{
    int *fds = calloc(threads * conf->listen_count, sizeof *fds), group[64];
    for (size_t i = 0; i < conf->listen_count; i++) {
        if (sock_listen(conf->listens[i].address, group, threads, err) != FB_OK)
            return false;
        struct sock_addr a;
        sock_local(group[0], &a);
        printf("port %u\n", sock_port(&a));
        for (uint32_t t = 0; t < threads; t++)
            fds[t * conf->listen_count + i] = group[t];
    }
    setup.listen_fds = fds;
    setup.listen_count = conf->listen_count;
    return true;
}

int main(int argc, char **argv)
{
    struct fb_err err = {0};
    struct conf_report report = {0};
    struct conf *conf = NULL;
    struct memfile mem;
    uint32_t threads = argc > 2 ? (uint32_t)atoi(argv[2]) : 2;
    int pair[2];
    pthread_t server;
    if (argc < 2 || threads < 1 || threads > 64) {
        fprintf(stderr, "usage: gateway_driver CONFIG [THREADS]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    fb_log_init("driver", FB_LOG_INFO);
    if (conf_load(argv[1], &conf, &report, &err) != FB_OK) {
        struct buf out;
        buf_init(&out, 64 * KIB);
        conf_report_print(&report, argv[1], (struct span){NULL, 0}, &out);
        fprintf(stderr, "%s%s\n", buf_str(&out), err.text);
        return 2;
    }
    conf_report_fini(&report);
    if (memfile_create(&mem, threads, conf->p.gateway_ring_cells, &err) != FB_OK ||
        !listen_all(conf, threads, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return 1;
    setup.mem = &mem;
    setup.conf = conf;
    setup.state_dir = conf->p.top_state;
    setup.control_fd = pair[1];
    if (thread_start(&server, "gateway-00", serve, NULL) != FB_OK)
        return 1;
    struct pollfd ready[2] = {{.fd = pair[0], .events = POLLIN},
                              {.fd = STDIN_FILENO, .events = POLLIN}};
    for (bool is_over = false; !is_over;) {
        /* the gateway's end of the pair lives as long as we do: its end shows in DRAINED, or in
         * `stop` */
        if (poll(ready, 2, -1) < 0)
            break;
        if (ready[1].revents) {
            char line[1024];
            if (!fgets(line, sizeof line, stdin))
                break;
            command(line, pair[0], &mem);
            is_over = strncmp(line, "stop", 4) == 0;
        }
        if (ready[0].revents) {
            static struct control_msg m;
            int fd;
            static const char *const words[] = {"ready", "reloaded", "refused", "drained"};
            while (control_receive(pair[0], &m, &fd) == 1) {
                if (m.kind < CONTROL_READY || m.kind > CONTROL_DRAINED)
                    continue;
                for (uint32_t i = 0; i < m.text_bytes; i++)
                    if (m.text[i] == '\n')
                        m.text[i] = '|';
                printf("%s %.*s\n", words[m.kind - CONTROL_READY], (int)m.text_bytes, m.text);
                is_over = is_over || m.kind == CONTROL_DRAINED;
            }
        }
    }
    control_send(pair[0], CONTROL_STOP, 0, 0, "");
    pthread_join(server, NULL);
    conf_unref(conf);
    free((void *)(uintptr_t)setup.listen_fds);
    memfile_close(&mem);
    return exit_code;
}
