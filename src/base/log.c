/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const char *log_role = "foldback";
static enum fb_log_level log_level = FB_LOG_INFO;
static const char *const level_words[] = {"error", "warn", "info", "debug"};

void fb_log_init(const char *role, enum fb_log_level most_verbose)
{
    log_role = role;
    log_level = most_verbose;
}

void fb_log(enum fb_log_level level, const char *fmt, ...)
{
    if (level > log_level)
        return;
    char line[1024], when[32];
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    int head = snprintf(line, sizeof line, "%s.%03ldZ %s %s: ", when, now.tv_nsec / 1000000,
                        level_words[level], log_role);
    va_list args;
    va_start(args, fmt);
    int body = vsnprintf(line + head, sizeof line - (size_t)head - 1, fmt, args);
    va_end(args);
    size_t len = (size_t)head + (body > 0 ? (size_t)body : 0);
    if (len > sizeof line - 2)
        len = sizeof line - 2;
    for (size_t i = (size_t)head; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = ' ';
    line[len++] = '\n';
    if (write(STDERR_FILENO, line, len) < 0)
        return; /* nowhere left to say it */
}
