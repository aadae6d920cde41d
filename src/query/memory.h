/* SPDX-License-Identifier: Apache-2.0 */
/* memory: a bound on what SQLite allocates in one thread.
 *
 * SQLite's own limit holds for the whole process, where the brain keeps its state with it, and the
 * progress handler is not asked while a statement is prepared: common table expressions that name
 * each other double there without an end.  So the allocator counts, and refuses. */
#ifndef FB_QUERY_MEMORY_H
#define FB_QUERY_MEMORY_H
#include <stddef.h>

/* Once per process, before anything else uses SQLite; without it there is no bound. */
void query_memory_init(void);
/* For this thread from now on, counted from here; 0: none. */
void query_memory_limit(size_t bytes_max);
#endif
