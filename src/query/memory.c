/* SPDX-License-Identifier: Apache-2.0 */
#include "query/memory.h"

#include <sqlite3.h>

static sqlite3_mem_methods system_methods;
static _Thread_local size_t used_bytes, most_bytes;

static size_t size_of(void *at)
{
    return at ? (size_t)system_methods.xSize(at) : 0;
}

/* Below 0 when another thread allocated it. */
static void count_less(size_t bytes)
{
    used_bytes -= bytes < used_bytes ? bytes : used_bytes;
}

static void *take(int bytes)
{
    if (most_bytes && used_bytes + (size_t)bytes > most_bytes)
        return NULL;
    void *at = system_methods.xMalloc(bytes);
    if (most_bytes)
        used_bytes += size_of(at);
    return at;
}

static void give(void *at)
{
    if (most_bytes)
        count_less(size_of(at));
    system_methods.xFree(at);
}

static void *change(void *at, int bytes)
{
    size_t was = most_bytes ? size_of(at) : 0;
    if (most_bytes && (size_t)bytes > was && used_bytes + (size_t)bytes - was > most_bytes)
        return NULL;
    void *to = system_methods.xRealloc(at, bytes);
    if (most_bytes && to) {
        count_less(was);
        used_bytes += size_of(to);
    }
    return to;
}

void query_memory_init(void)
{
    sqlite3_mem_methods ours;
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &system_methods) != SQLITE_OK)
        return;
    ours = system_methods;
    ours.xMalloc = take;
    ours.xFree = give;
    ours.xRealloc = change;
    (void)sqlite3_config(SQLITE_CONFIG_MALLOC, &ours);
}

void query_memory_limit(size_t bytes_max)
{
    used_bytes = 0;
    most_bytes = bytes_max;
}
