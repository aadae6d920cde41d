/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of passwords, and the threads that find out.
 *
 *   submit --same tag is on its way--> waits with it
 *      \--room--> queued --thread--> computed --> remembered, all who wait for it are told
 *       \--none--> refused: JOBS_MAX wait, or JOBS_OF_ONE_MAX of the same client; and who waits
 *                   with others: WAITS_MAX, or WAITS_OF_ONE_MAX for the jobs of one client
 *
 * A right password stays known for `remember`, as a keyed fingerprint of version of the file, name
 * and password; a wrong one for WRONG_US, so that a program that repeats it computes nothing.
 * Threads: workers submit and recall, a few threads of its own compute. */
#include "base/assert.h"
#include "base/clock.h"
#include "gateway/authz.h"

#include <stdlib.h>

#define THREADS_MAX 4
#define JOBS_MAX 128
#define JOBS_OF_ONE_MAX 16
/* All requests of one client that ask at once, as behind a new password of a program; as many
 * clients must do so before others find no room as with jobs. */
#define WAITS_OF_ONE_MAX 2048
#define WAITS_MAX (JOBS_MAX / JOBS_OF_ONE_MAX * WAITS_OF_ONE_MAX)
#define WAYS 8
#define RIGHT_SETS 512
#define WRONG_SETS 64
#define WRONG_US (10 * US_PER_S)

struct known {
    unsigned char tag[MAC_BYTES];
    uint64_t at_us; /* 0: free */
};
struct memory {
    struct spin lock;
    uint32_t sets;
    struct known *known; /* [sets * WAYS] */
};

enum job_state { JOB_FREE /* 0 */, JOB_QUEUED, JOB_RUNNING };
struct job {
    unsigned char tag[MAC_BYTES];
    uint64_t client_key, number; /* in the order of arrival */
    struct authz_wait *waits;
    uint32_t wait_count;
    enum job_state state;
    bool is_known;
    char hash[HTPASSWD_HASH_BYTES_MAX];
    char password[BASIC_PASSWORD_BYTES_MAX + 1];
};

struct authz {
    struct gw *gw;
    struct mac *macs[MEMFILE_THREADS_MAX]; /* by worker */
    struct memory right, wrong;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t has_work;
    pthread_t threads[THREADS_MAX];
    uint32_t thread_count;
    bool is_stopping;
    uint64_t submitted;
    struct authz_wait *free_wait;
    uint32_t waits_used; /* of <waits>: those behind were never taken, and cost no memory */
    struct job jobs[JOBS_MAX];
    struct authz_wait waits[WAITS_MAX];
};

static void *pool_main(void *arg);

struct authz *authz_new(struct gw *gw)
{
    unsigned char key[MAC_KEY_BYTES];
    struct authz *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->gw = gw;
    a->right = (struct memory){.sets = RIGHT_SETS,
                               .known = calloc(RIGHT_SETS * WAYS, sizeof(struct known))};
    a->wrong = (struct memory){.sets = WRONG_SETS,
                               .known = calloc(WRONG_SETS * WAYS, sizeof(struct known))};
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->has_work, NULL);
    bool is_good = a->right.known && a->wrong.known && mac_draw_key(key);
    for (uint32_t i = 0; i < gw->thread_count && is_good; i++)
        is_good = (a->macs[i] = mac_new(key)) != NULL;
    mac_wipe(key, sizeof key);
    if (is_good)
        return a;
    authz_free(a);
    return NULL;
}

/* Loops that are told must still be there. */
void authz_stop(struct authz *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->is_stopping = true;
    pthread_cond_broadcast(&a->has_work);
    pthread_mutex_unlock(&a->lock);
    for (uint32_t i = 0; i < a->thread_count; i++)
        pthread_join(a->threads[i], NULL);
    a->thread_count = 0;
    /* its seat may be empty for long, and what it shows stays */
    atomic_store_explicit(&a->gw->mem->head->auth.waiting[a->gw->setup->slot], 0,
                          memory_order_relaxed);
}

void authz_free(struct authz *a)
{
    if (!a)
        return;
    fb_assert(a->thread_count == 0);
    pthread_cond_destroy(&a->has_work);
    pthread_mutex_destroy(&a->lock);
    for (size_t i = 0; i < FB_COUNT(a->macs); i++)
        mac_free(a->macs[i]);
    free(a->right.known);
    free(a->wrong.known);
    mac_wipe(a->jobs, sizeof a->jobs);
    free(a);
}

/* ---- memory ---- */

bool authz_tag(struct worker *w, uint64_t version, const struct basic *said,
               unsigned char tag[MAC_BYTES])
{
    const struct span parts[] = {
        {(const char *)&version, sizeof version}, said->user, said->password};
    return mac_make(w->gw->authz->macs[w->index], parts, FB_COUNT(parts), tag);
}

static struct known *set_of(const struct memory *m, const unsigned char tag[MAC_BYTES])
{
    uint32_t number;
    memcpy(&number, tag, sizeof number);
    return m->known + (size_t)(number % m->sets) * WAYS;
}

/* When it was found out; 0: it is not known. */
static uint64_t recall(struct memory *m, const unsigned char tag[MAC_BYTES])
{
    const struct known *set = set_of(m, tag);
    uint64_t at_us = 0;
    spin_lock(&m->lock);
    for (size_t i = 0; i < WAYS; i++)
        if (set[i].at_us && mac_is_same(set[i].tag, tag))
            at_us = set[i].at_us;
    spin_unlock(&m->lock);
    return at_us;
}

static void remember(struct memory *m, const unsigned char tag[MAC_BYTES], uint64_t now_us)
{
    struct known *set = set_of(m, tag), *place = set;
    spin_lock(&m->lock);
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].at_us && mac_is_same(set[i].tag, tag)) {
            place = &set[i];
            break;
        }
        if (set[i].at_us < place->at_us)
            place = &set[i];
    }
    memcpy(place->tag, tag, MAC_BYTES);
    place->at_us = now_us;
    spin_unlock(&m->lock);
}

enum authz_memory authz_recall(struct authz *a, const unsigned char tag[MAC_BYTES],
                               uint64_t remember_us)
{
    uint64_t now_us = fb_mono_us(), at_us = recall(&a->right, tag);
    if (at_us && fb_sub_floor_u64(now_us, at_us) < remember_us)
        return AUTHZ_RIGHT;
    at_us = recall(&a->wrong, tag);
    return at_us && fb_sub_floor_u64(now_us, at_us) < WRONG_US ? AUTHZ_WRONG : AUTHZ_UNKNOWN;
}

/* ---- the queue ---- */

/* Under the lock, with the first job: they inherit the confinement of the worker that asks. */
static bool has_threads(struct authz *a)
{
    uint32_t wanted = fb_min_u32(fb_max_u32(thread_cores() / 2, 1), THREADS_MAX);
    while (a->thread_count < wanted &&
           thread_start(&a->threads[a->thread_count], "passwords", pool_main, a) == FB_OK)
        a->thread_count++;
    if (a->thread_count == 0)
        fb_log(FB_LOG_ERROR, "auth: no thread to check passwords; who is not known is refused");
    return a->thread_count > 0;
}

/* One that finds no room, and why; any thread. */
static void note_refused(const struct authz *a, enum memfile_auth_cause cause)
{
    atomic_fetch_add_explicit(&a->gw->mem->head->auth.refused[cause], 1, memory_order_relaxed);
}

/* Under the lock: the job that one more wait belongs to; NULL: there is no room, which is counted.
 */
static struct job *place_of(struct authz *a, const struct authz_job *job)
{
    struct job *same = NULL, *free_job = NULL;
    uint32_t jobs_of_one = 0, waits_of_one = 0;
    for (size_t i = 0; i < JOBS_MAX; i++) {
        struct job *j = &a->jobs[i];
        if (j->state == JOB_FREE) {
            free_job = j;
            continue;
        }
        if (mac_is_same(j->tag, job->tag))
            same = j;
        jobs_of_one += j->client_key == job->client_key;
        waits_of_one += j->client_key == job->client_key ? j->wait_count : 0;
    }
    if (same && waits_of_one < WAITS_OF_ONE_MAX)
        return same;
    bool has_most = same || jobs_of_one >= JOBS_OF_ONE_MAX;
    if (has_most || !free_job || (a->thread_count == 0 && !has_threads(a))) {
        note_refused(a, has_most    ? MEMFILE_AUTH_CLIENT
                        : !free_job ? MEMFILE_AUTH_FULL
                                    : MEMFILE_AUTH_THREAD);
        return NULL;
    }
    *free_job = (struct job){.client_key = job->client_key,
                             .number = a->submitted++,
                             .state = JOB_QUEUED,
                             .is_known = job->is_known};
    memcpy(free_job->tag, job->tag, MAC_BYTES);
    memcpy(free_job->hash, job->hash, strlen(job->hash) + 1);
    memcpy(free_job->password, job->password, strlen(job->password) + 1);
    pthread_cond_signal(&a->has_work);
    return free_job;
}

/* Under the lock; NULL: all are taken, which is counted. */
static struct authz_wait *take_wait(struct authz *a)
{
    struct authz_wait *wait = a->free_wait;
    if (wait)
        a->free_wait = wait->next;
    else if (a->waits_used < WAITS_MAX)
        wait = &a->waits[a->waits_used++];
    else
        note_refused(a, MEMFILE_AUTH_FULL);
    return wait;
}

static void give_wait(struct authz *a, struct authz_wait *wait)
{
    wait->next = a->free_wait;
    a->free_wait = wait;
}

struct authz_wait *authz_submit(struct request *req, const struct authz_job *job,
                                void (*on_told)(struct loop_message *m))
{
    struct authz *a = req->worker->gw->authz;
    fb_assert(strlen(job->hash) < HTPASSWD_HASH_BYTES_MAX);
    fb_assert(strlen(job->password) <= BASIC_PASSWORD_BYTES_MAX);
    pthread_mutex_lock(&a->lock);
    struct authz_wait *wait = take_wait(a);
    struct job *j = wait ? place_of(a, job) : NULL;
    if (j) {
        *wait = (struct authz_wait){.message = {.on_message = on_told},
                                    .authz = a,
                                    .loop = req->worker->loop,
                                    .req = req,
                                    .next = j->waits,
                                    .job = j};
        j->waits = wait;
        j->wait_count++;
    } else if (wait) {
        give_wait(a, wait);
    }
    pthread_mutex_unlock(&a->lock);
    return j ? wait : NULL;
}

uint32_t authz_waiting(struct authz *a)
{
    uint32_t count = 0;
    pthread_mutex_lock(&a->lock);
    for (size_t i = 0; i < JOBS_MAX; i++)
        count += a->jobs[i].state != JOB_FREE;
    pthread_mutex_unlock(&a->lock);
    return count;
}

void authz_wait_give(struct authz_wait *wait)
{
    struct authz *a = wait->authz;
    pthread_mutex_lock(&a->lock);
    give_wait(a, wait);
    pthread_mutex_unlock(&a->lock);
}

/* What nobody waits for is not computed: who sends passwords and leaves costs next to nothing. */
void authz_wait_leave(struct authz_wait *wait)
{
    struct authz *a = wait->authz;
    wait->req = NULL;
    pthread_mutex_lock(&a->lock);
    struct job *j = wait->job;
    if (j && j->state == JOB_QUEUED) {
        struct authz_wait **at = &j->waits;
        while (*at != wait)
            at = &(*at)->next;
        *at = wait->next;
        j->wait_count--;
        give_wait(a, wait);
        if (!j->waits)
            mac_wipe(j, sizeof *j);
    }
    pthread_mutex_unlock(&a->lock);
}

/* ---- the threads ---- */

/* The oldest job, once there is one; NULL: it is to stop. */
static struct job *take(struct authz *a)
{
    struct job *first = NULL;
    pthread_mutex_lock(&a->lock);
    while (!a->is_stopping && !first) {
        for (size_t i = 0; i < JOBS_MAX; i++) {
            struct job *j = &a->jobs[i];
            if (j->state == JOB_QUEUED && (!first || j->number < first->number))
                first = j;
        }
        if (!first)
            pthread_cond_wait(&a->has_work, &a->lock);
    }
    if (a->is_stopping)
        first = NULL;
    else
        first->state = JOB_RUNNING;
    pthread_mutex_unlock(&a->lock);
    return first;
}

static void tell(struct authz *a, struct job *j, enum htpasswd_verdict verdict)
{
    pthread_mutex_lock(&a->lock);
    struct authz_wait *waits = j->waits;
    for (struct authz_wait *wait = waits; wait; wait = wait->next)
        wait->job = NULL;
    mac_wipe(j, sizeof *j); /* and so it is free */
    pthread_mutex_unlock(&a->lock);
    while (waits) {
        struct authz_wait *wait = waits;
        waits = wait->next; /* it is its worker's once it is told */
        wait->verdict = verdict;
        loop_post(wait->loop, &wait->message);
    }
}

static void *pool_main(void *arg)
{
    struct authz *a = arg;
    struct job *j;
    thread_haste(THREAD_BACKGROUND);
    void *room = htpasswd_room_new();
    while ((j = take(a)) != NULL) {
        enum htpasswd_verdict verdict =
            room ? htpasswd_check(room, j->password, j->hash) : HTPASSWD_FAILED;
        if (verdict == HTPASSWD_RIGHT && !j->is_known)
            verdict = HTPASSWD_WRONG;
        if (verdict != HTPASSWD_FAILED)
            remember(verdict == HTPASSWD_RIGHT ? &a->right : &a->wrong, j->tag, fb_mono_us());
        tell(a, j, verdict);
    }
    htpasswd_room_free(room);
    return NULL;
}
