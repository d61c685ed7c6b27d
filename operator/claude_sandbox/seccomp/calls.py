"""What the Strict filter lets an agent ask of the kernel, and what not: the declaration. Pure.

Every call of Linux on x86-64 and arm64 is in one place here, with the reason where it is refused. What a later Linux
adds is refused until it is added here. What is allowed was found by tracing Claude Code 2.1.331, git, shells, Python,
Node.js, compilers and the small programs of the sandbox's image (strace), and then completed: a call comes with its
older, newer and *at forms, and what undoes or asks after it.

Names are those of the kernel's syscall tables, values those of its headers in include/uapi.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Answer(Enum):
    """What a refused call returns."""

    NOT_PERMITTED = "EPERM"
    NOT_IMPLEMENTED = "ENOSYS"
    """As on an older kernel, or one built without: C libraries and runtimes then do it another way."""


@dataclass(frozen=True)
class Argument:
    """What an argument has to be; with a mask, what its bits in `mask` have to be. The first has the index 0."""

    index: int
    value: int
    mask: int | None = None


@dataclass(frozen=True)
class Condition:
    """A call that is allowed where these arguments are as said. It is not permitted otherwise."""

    call: str
    arguments: tuple[Argument, ...]
    title: str


@dataclass(frozen=True)
class Refusal:
    """Calls that are refused, and why."""

    title: str
    why: str
    calls: tuple[str, ...]
    answer: Answer = Answer.NOT_PERMITTED


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ALLOWED: Mapping[str, tuple[str, ...]] = {
    "Memory": _names(
        """brk madvise map_shadow_stack membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect mremap
        mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect"""
    ),
    "Programs, processes and threads": _names(
        """arch_prctl execve execveat exit exit_group fork futex futex_requeue futex_wait futex_waitv futex_wake
        get_robust_list getcpu getpgid getpgrp getpid getppid getsid gettid kill pidfd_open pidfd_send_signal prctl
        restart_syscall rseq rseq_slice_yield set_robust_list set_tid_address setpgid setsid tgkill tkill uprobe
        uretprobe vfork wait4 waitid"""
    ),
    "Priorities and limits": _names(
        """getpriority getrlimit getrusage ioprio_get ioprio_set prlimit64 sched_get_priority_max
        sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
        sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
        setpriority setrlimit sysinfo times uname"""
    ),
    "Who the process is: without capabilities these change nothing that counts": _names(
        """capget capset getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid setfsuid setgid
        setgroups setregid setresgid setresuid setreuid setuid umask"""
    ),
    "Signals": _names(
        """pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
        rt_sigtimedwait rt_tgsigqueueinfo sigaltstack signalfd signalfd4"""
    ),
    "Time": _names(
        """alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time
        timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime
        timerfd_settime"""
    ),
    "Opening, reading and writing": _names(
        """close close_range copy_file_range creat dup dup2 dup3 fadvise64 fallocate fcntl fdatasync flock fsync
        ftruncate ioctl lseek open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read
        readahead readv sendfile splice sync sync_file_range syncfs tee truncate write writev"""
    ),
    "Directories and the files in them": _names(
        """access chdir chmod chown faccessat faccessat2 fchdir fchmod fchmodat fchmodat2 fchown fchownat fgetxattr
        flistxattr fremovexattr fsetxattr fstat fstatfs futimesat getcwd getdents getdents64 getxattr inotify_add_watch
        inotify_init inotify_init1 inotify_rm_watch lchown lgetxattr link linkat listxattr llistxattr lremovexattr
        lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat readlink readlinkat removexattr rename renameat
        renameat2 rmdir setxattr stat statfs statx symlink symlinkat unlink unlinkat utime utimensat utimes"""
    ),
    "Waiting for several things": _names(
        """epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 poll ppoll
        pselect6 select"""
    ),
    "Sockets that are there": _names(
        """accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg
        sendmsg sendto setsockopt shutdown"""
    ),
    "Memory and semaphores that processes share": _names(
        """msgctl msgget msgrcv msgsnd semctl semget semop semtimedop shmat shmctl shmdt shmget"""
    ),
    "Random numbers": ("getrandom",),
    "Giving up more": _names("landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp"),
}
"""Calls that are allowed whatever their arguments, by purpose."""

# include/uapi/linux/sched.h: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET. A clone can't ask for
# NEWTIME, whose bit belongs to the signal there.
NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK, _NETLINK_ROUTE = 1, 2, 10, 16, 0

CONDITIONAL: tuple[Condition, ...] = (
    Condition("clone", (Argument(0, 0, NEW_NAMESPACES),), "processes and threads in the namespaces that are there"),
    Condition("socket", (Argument(0, _AF_UNIX),), "Unix sockets"),
    Condition("socket", (Argument(0, _AF_INET),), "IPv4"),
    Condition("socket", (Argument(0, _AF_INET6),), "IPv6"),
    Condition(
        "socket",
        (Argument(0, _AF_NETLINK), Argument(2, _NETLINK_ROUTE)),
        "route netlink, which tells a process its addresses",
    ),
    Condition("socketpair", (Argument(0, _AF_UNIX),), "Unix sockets"),
    Condition("personality", (Argument(0, 0),), "the ordinary personality"),
    Condition("personality", (Argument(0, 0xFFFFFFFF),), "asking which one it is"),
)
"""Calls of which only these are allowed. Several conditions of one call are alternatives."""

REFUSED: tuple[Refusal, ...] = (
    Refusal(
        "Ways into other processes",
        "much of the kernel lies behind them, and only debuggers, tracers and leak sanitizers need them",
        _names("kcmp pidfd_getfd process_vm_readv process_vm_writev ptrace"),
    ),
    Refusal(
        "Namespaces",
        "a user namespace gives every capability inside it, and with them code of the kernel that was written for root",
        _names("setns unshare"),
    ),
    Refusal(
        "Mounts and roots",
        "they change what the read-only root and the masked paths hold",
        _names(
            """chroot fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree open_tree_attr
            pivot_root umount2"""
        ),
    ),
    Refusal(
        "Files by handle",
        "a handle opens files outside of the container's root",
        ("open_by_handle_at",),
    ),
    Refusal(
        "The machine as a whole",
        "they are for administrators of a host",
        _names(
            """acct adjtimex clock_adjtime clock_settime delete_module finit_module init_module ioperm iopl
            kexec_file_load kexec_load reboot setdomainname sethostname settimeofday swapoff swapon syslog vhangup"""
        ),
    ),
    Refusal(
        "Keys in the kernel",
        "a user's keyring belongs to a number, and so to all containers that run as that user",
        _names("add_key keyctl request_key"),
        Answer.NOT_IMPLEMENTED,
    ),
    Refusal(
        "Programs in the kernel, and its counters",
        "both let a process run or count inside the kernel, and have let it take the kernel over",
        _names("bpf perf_event_open"),
        Answer.NOT_IMPLEMENTED,
    ),
    Refusal(
        "Faults and rings",
        "userfaultfd lets an attacker hold the kernel still at will; what io_uring does passes by this filter",
        _names("io_uring_enter io_uring_register io_uring_setup userfaultfd"),
        Answer.NOT_IMPLEMENTED,
    ),
    Refusal(
        "Ways of starting a process that a filter can't look into",
        "the arguments of clone3 are in memory; C libraries fall back on clone",
        ("clone3",),
        Answer.NOT_IMPLEMENTED,
    ),
    Refusal(
        "Rarely used parts of the kernel",
        "no tool of the image needs them, programs do without, and they have had their flaws",
        _names(
            """io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit memfd_secret modify_ldt mq_getsetattr
            mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink process_madvise process_mrelease remap_file_pages
            vmsplice"""
        ),
        Answer.NOT_IMPLEMENTED,
    ),
    Refusal(
        "Memory of several nodes",
        "where memory lies is the host's to decide",
        _names("get_mempolicy mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node"),
        Answer.NOT_IMPLEMENTED,
    ),
    Refusal(
        "Watching and limiting whole file systems",
        "a file system is more than what a container sees of it",
        _names("fanotify_init fanotify_mark name_to_handle_at quotactl quotactl_fd"),
        Answer.NOT_IMPLEMENTED,
    ),
    Refusal(
        "Newer ways of asking",
        "programs know an older way",
        _names(
            """cachestat file_getattr file_setattr getxattrat listmount listns listxattrat lsm_get_self_attr
            lsm_list_modules lsm_set_self_attr removexattrat setxattrat statmount"""
        ),
        Answer.NOT_IMPLEMENTED,
    ),
    Refusal(
        "Leftovers",
        "nothing has used them for many years, or Linux has nothing behind them",
        _names(
            """_sysctl afs_syscall create_module epoll_ctl_old epoll_wait_old get_kernel_syms get_thread_area getpmsg
            lookup_dcookie nfsservctl putpmsg query_module security set_thread_area sysfs tuxcall uselib ustat
            vserver"""
        ),
        Answer.NOT_IMPLEMENTED,
    ),
)
"""Every call that is refused whatever its arguments."""
