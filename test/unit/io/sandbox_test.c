/* SPDX-License-Identifier: Apache-2.0 */
#include "io/sandbox.h"

#include "base/sanitize.h"
#include "io/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Runs <what> behind the filter in a process of its own; its status. */
static int behind_the_filter(int (*what)(void))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        sandbox_enter("test");
        _exit(what());
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int runs_a_program(void)
{
    execl("/bin/true", "true", (char *)NULL);
    return 77; /* never: the process is gone */
}

static int asks_for_what_is_refused(void)
{
    int wrong = 0;
    wrong += !(ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 && errno == EPERM);
    wrong += !(mount("none", "/nonexistent", "tmpfs", 0, NULL) < 0 && errno == EPERM);
    wrong += !(syscall(SYS_unshare, 0) < 0 && errno == EPERM);
    wrong += !(syscall(SYS_setuid, getuid()) < 0 && errno == EPERM);
    wrong += !(syscall(SYS_init_module, "", 0, "") < 0 && errno == EPERM);
    wrong += !(fork() < 0 && errno == EPERM);
    return wrong;
}

static void *work(void *arg)
{
    *(int *)arg = 1;
    return NULL;
}

static int does_its_work(void)
{
    int pair[2], ran = 0;
    pthread_t thread;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 || open("/dev/null", O_WRONLY) < 0)
        return 1;
    if (thread_start(&thread, "work", work, &ran) != FB_OK)
        return 2;
    pthread_join(thread, NULL);
    return ran ? 0 : 3;
}

static void a_program_is_never_run(void **state)
{
    (void)state;
    int status = behind_the_filter(runs_a_program);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void what_gives_a_foothold_is_refused(void **state)
{
    (void)state;
    if (FB_IS_SANITIZED)
        skip(); /* they need some of it */
    int status = behind_the_filter(asks_for_what_is_refused);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void threads_files_and_sockets_work(void **state)
{
    (void)state;
    int status = behind_the_filter(does_its_work);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_is_never_run),
        cmocka_unit_test(what_gives_a_foothold_is_refused),
        cmocka_unit_test(threads_files_and_sockets_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
