/* SPDX-License-Identifier: Apache-2.0 */
/* A list of what is refused, not of what is allowed: a library update that uses one more harmless
 * call must not take a site down.  Refused is what turns a bug into a foothold: to run a program,
 * to look into or steer other processes, to change what is mounted, loaded, traced or who we are.
 * Running a program ends the process (nobody here does that by mistake); the rest is EPERM. */
#include "io/sandbox.h"

#include "base/base.h"
#include "base/log.h"
#include "base/sanitize.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/prctl.h>

static const char *const deadly[] = {"execve", "execveat"};
static const char *const refused[] = {
    "fork",
    "vfork",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "pidfd_getfd",
    "kcmp",
    "mount",
    "umount2",
    "move_mount",
    "fsopen",
    "fsmount",
    "open_tree",
    "pivot_root",
    "chroot",
    "unshare",
    "setns",
    "open_by_handle_at",
    "name_to_handle_at",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "add_key",
    "request_key",
    "keyctl",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setgroups",
    "capset",
    "swapon",
    "swapoff",
    "reboot",
    "sethostname",
    "setdomainname",
    "settimeofday",
    "clock_settime",
    "adjtimex",
    "clock_adjtime",
    "mknod",
    "mknodat",
    "acct",
    "quotactl",
    "syslog",
    "personality",
    "iopl",
    "ioperm",
};

static bool add_all(scmp_filter_ctx filter, uint32_t action, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int number = seccomp_syscall_resolve_name(names[i]);
        bool is_needed = FB_IS_SANITIZED && strcmp(names[i], "ptrace") == 0;
        if (number == __NR_SCMP_ERROR || is_needed) /* this processor has no such call */
            continue;
        if (seccomp_rule_add(filter, action, number, 0) < 0)
            return false;
    }
    return true;
}

/* Threads may start, processes may not; clone3 hides which it is: the C library then asks by clone.
 */
static bool add_clone(scmp_filter_ctx filter)
{
    int clone3 = seccomp_syscall_resolve_name("clone3");
    if (FB_IS_SANITIZED) /* a tracer is started at exit */
        return true;
    if (clone3 != __NR_SCMP_ERROR &&
        seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), clone3, 0) < 0)
        return false;
    return seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                            SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0)) == 0;
}

void sandbox_enter(const char *who)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        fb_log(FB_LOG_WARN, "the %s runs without no_new_privs: %s", who, strerror(errno));
        return;
    }
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int code = -ENOMEM;
    if (filter && add_all(filter, SCMP_ACT_KILL_PROCESS, deadly, FB_COUNT(deadly)) &&
        add_all(filter, SCMP_ACT_ERRNO(EPERM), refused, FB_COUNT(refused)) && add_clone(filter))
        code = seccomp_load(filter);
    if (filter)
        seccomp_release(filter);
    if (code < 0)
        fb_log(FB_LOG_WARN, "the %s runs without a filter of system calls: %s", who,
               strerror(-code));
}
