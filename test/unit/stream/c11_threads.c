/* SPDX-License-Identifier: Apache-2.0 */
/* Threads and locks of C11 as those of POSIX, for a test under the thread sanitizer.
 *
 * librdkafka makes its threads with thrd_create and locks with mtx_lock; the sanitizer watches the
 * calls of POSIX only: it falls over a thread that it has not seen begin, and takes what a lock
 * orders for a race.  The program's symbols come before the C library's, so the library calls
 * these; in glibc the types are the same bytes. */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

_Static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t), "a lock of C11 is one of POSIX");
_Static_assert(sizeof(cnd_t) == sizeof(pthread_cond_t), "so is a condition");
_Static_assert(sizeof(thrd_t) == sizeof(pthread_t), "and a thread");

struct begin {
    thrd_start_t run;
    void *arg;
};

static int said(int code)
{
    return code == 0           ? thrd_success
           : code == EBUSY     ? thrd_busy
           : code == ETIMEDOUT ? thrd_timedout
           : code == ENOMEM    ? thrd_nomem
                               : thrd_error;
}

static void *run(void *arg)
{
    struct begin begin = *(struct begin *)arg;
    free(arg);
    return (void *)(intptr_t)begin.run(begin.arg);
}

int thrd_create(thrd_t *thread, thrd_start_t start, void *arg)
{
    struct begin *begin = malloc(sizeof *begin);
    if (!begin)
        return thrd_nomem;
    *begin = (struct begin){start, arg};
    int code = pthread_create((pthread_t *)thread, NULL, run, begin);
    if (code)
        free(begin);
    return said(code);
}

int thrd_join(thrd_t thread, int *result)
{
    void *value = NULL;
    int code = pthread_join((pthread_t)thread, &value);
    if (result)
        *result = (int)(intptr_t)value;
    return said(code);
}

int mtx_init(mtx_t *lock, int type)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    if (type & mtx_recursive)
        pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    int code = pthread_mutex_init((pthread_mutex_t *)lock, &attr);
    pthread_mutexattr_destroy(&attr);
    return said(code);
}

int mtx_lock(mtx_t *lock)
{
    return said(pthread_mutex_lock((pthread_mutex_t *)lock));
}

int mtx_trylock(mtx_t *lock)
{
    return said(pthread_mutex_trylock((pthread_mutex_t *)lock));
}

int mtx_unlock(mtx_t *lock)
{
    return said(pthread_mutex_unlock((pthread_mutex_t *)lock));
}

void mtx_destroy(mtx_t *lock)
{
    pthread_mutex_destroy((pthread_mutex_t *)lock);
}

int cnd_init(cnd_t *cond)
{
    return said(pthread_cond_init((pthread_cond_t *)cond, NULL));
}

int cnd_signal(cnd_t *cond)
{
    return said(pthread_cond_signal((pthread_cond_t *)cond));
}

int cnd_broadcast(cnd_t *cond)
{
    return said(pthread_cond_broadcast((pthread_cond_t *)cond));
}

int cnd_wait(cnd_t *cond, mtx_t *lock)
{
    return said(pthread_cond_wait((pthread_cond_t *)cond, (pthread_mutex_t *)lock));
}

int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict lock, const struct timespec *restrict until)
{
    return said(pthread_cond_timedwait((pthread_cond_t *)cond, (pthread_mutex_t *)lock, until));
}

void cnd_destroy(cnd_t *cond)
{
    pthread_cond_destroy((pthread_cond_t *)cond);
}
