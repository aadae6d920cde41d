/* SPDX-License-Identifier: Apache-2.0 */
#include "main/resource.h"

#include <dirent.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The whole of a small file, terminated; false when it cannot be read. */
static bool read_text(const char *path, char *text, size_t size)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    size_t n = fread(text, 1, size - 1, f);
    fclose(f);
    text[n] = '\0';
    return n > 0;
}

/* The number after <key> in "key   123 kB" lists; 0 when absent. */
static uint64_t number_after(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static void read_cpu(struct ev_resource *out)
{
    char text[4096];
    uint64_t v[8] = {0};
    if (!read_text("/proc/stat", text, sizeof text) ||
        sscanf(text,
               "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
               " %" SCNu64 " %" SCNu64,
               &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) < 4)
        return;
    /* user, nice, system, irq, softirq; idle, iowait and steal are not ours */
    uint64_t busy = v[0] + v[1] + v[2] + v[5] + v[6];
    out->cpu_us = busy * (US_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
}

static void read_net(struct ev_resource *out)
{
    char text[8192];
    if (!read_text("/proc/net/dev", text, sizeof text))
        return;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        const char *colon = strchr(line, ':');
        uint64_t in, sent;
        if (colon && sscanf(colon + 1, "%" SCNu64 " %*u %*u %*u %*u %*u %*u %*u %" SCNu64, &in,
                            &sent) == 2) {
            out->net_received_bytes += in;
            out->net_sent_bytes += sent;
        }
    }
}

static void read_disk(struct ev_resource *out)
{
    char text[16384];
    if (!read_text("/proc/diskstats", text, sizeof text))
        return;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char name[64];
        uint64_t sectors_read, sectors_written;
        if (sscanf(line, "%*u %*u %63s %*u %*u %" SCNu64 " %*u %*u %*u %" SCNu64, name,
                   &sectors_read, &sectors_written) != 3)
            continue;
        /* whole devices only: partitions end in a digit after sd?, vd?; nvme0n1p1 has a p */
        size_t n = strlen(name);
        bool is_part =
            (strncmp(name, "nvme", 4) == 0 && strchr(name + 4, 'p')) ||
            ((name[0] == 's' || name[0] == 'v') && n && name[n - 1] >= '0' && name[n - 1] <= '9');
        if (is_part || strncmp(name, "loop", 4) == 0 || strncmp(name, "ram", 3) == 0)
            continue;
        out->disk_read_bytes += sectors_read * 512;
        out->disk_written_bytes += sectors_written * 512;
    }
}

/* Share of the last 10 s in which some task waited, "some avg10=1.53 ...". */
static uint32_t read_psi(const char *path)
{
    char text[512];
    double pct;
    if (!read_text(path, text, sizeof text) || sscanf(text, "some avg10=%lf", &pct) != 1)
        return 0;
    return (uint32_t)(pct * 10000.0);
}

void resource_read_host(struct ev_resource *out, uint64_t now_us)
{
    char text[4096];
    *out = EV_INIT(RESOURCE, resource, now_us);
    out->scope = RESOURCE_HOST;
    cpu_set_t set;
    out->cores = sched_getaffinity(0, sizeof set, &set) == 0 ? (uint8_t)CPU_COUNT(&set) : 1;
    read_cpu(out);
    if (read_text("/proc/meminfo", text, sizeof text)) {
        out->memory_total_bytes = number_after(text, "MemTotal:") * 1024;
        out->memory_bytes = out->memory_total_bytes - number_after(text, "MemAvailable:") * 1024;
    }
    read_net(out);
    read_disk(out);
    out->psi_cpu_ppm = read_psi("/proc/pressure/cpu");
    out->psi_memory_ppm = read_psi("/proc/pressure/memory");
    out->psi_io_ppm = read_psi("/proc/pressure/io");
}

/* Linux 6.2 and later say the number as the folder's size; before, each entry has to be read. */
static uint32_t count_descriptors(pid_t pid)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    if (stat(path, &st) == 0 && st.st_size > 0)
        return (uint32_t)st.st_size;
    DIR *dir = opendir(path);
    if (!dir)
        return 0;
    uint32_t count = 0;
    while (readdir(dir))
        count++;
    closedir(dir);
    /* ".", "..", and for this process the one that reads */
    uint32_t extra = pid == getpid() ? 3 : 2;
    return count > extra ? count - extra : 0;
}

bool resource_read_process(struct ev_resource *out, enum resource_scope scope, pid_t pid,
                           uint64_t now_us)
{
    char path[64], text[4096];
    *out = EV_INIT(RESOURCE, resource, now_us);
    out->scope = (uint8_t)scope;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (!read_text(path, text, sizeof text))
        return false;
    const char *after = strrchr(text, ')'); /* the name may hold blanks */
    uint64_t user, system, threads, pages;
    if (!after || sscanf(after + 2,
                         "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
                         " %*d %*d %*d %*d %" SCNu64 " %*d %*u %*u %" SCNu64,
                         &user, &system, &threads, &pages) != 4)
        return false;
    out->cpu_us = (user + system) * (US_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
    out->threads = (uint16_t)threads;
    out->memory_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    out->descriptors = count_descriptors(pid);
    snprintf(path, sizeof path, "/proc/%d/io", (int)pid);
    if (read_text(path, text, sizeof text)) {
        out->disk_read_bytes = number_after(text, "\nread_bytes: ");
        out->disk_written_bytes = number_after(text, "\nwrite_bytes: ");
    }
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    if (read_text(path, text, sizeof text))
        out->context_switches = (uint32_t)(number_after(text, "\nvoluntary_ctxt_switches:") +
                                           number_after(text, "nonvoluntary_ctxt_switches:"));
    return true;
}
