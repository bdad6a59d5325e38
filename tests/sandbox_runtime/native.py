"""Native code behind the wall: the code of an attacker who has escaped from V8. Run by `test_wall.py`.

Python with `ctypes` stands for that code: it makes system calls by their numbers (of x86-64), with no library
in between. It says `ready`, waits for a line, makes its attempts, and prints what each came to: 0, or
the number of the error.
"""

import ctypes
import json
import os
import struct
import sys

CALLS = {
    "read": 0, "write": 1, "open": 2, "stat": 4, "lstat": 6, "mmap": 9, "ioctl": 16, "access": 21,
    "pipe": 22, "mincore": 27, "madvise": 28, "shmget": 29, "socket": 41, "sendto": 44, "sendmsg": 46,
    "socketpair": 53, "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "semget": 64,
    "msgget": 68, "fcntl": 72, "flock": 73, "truncate": 76, "getdents": 78, "chdir": 80, "rename": 82,
    "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87, "symlink": 88, "readlink": 89,
    "chmod": 90, "chown": 92, "lchown": 94, "umask": 95, "ptrace": 101, "syslog": 103, "setuid": 105,
    "setgid": 106, "setpgid": 109, "setsid": 112, "setgroups": 116, "getpgid": 121, "getsid": 124,
    "capset": 126, "rt_sigqueueinfo": 129, "utime": 132, "mknod": 133, "personality": 135, "statfs": 137,
    "getpriority": 140, "setpriority": 141, "sched_setparam": 142, "sched_getparam": 143,
    "sched_setscheduler": 144, "sched_getscheduler": 145, "sched_rr_get_interval": 148,
    "mlock": 149, "modify_ldt": 154, "pivot_root": 155, "prctl": 157, "adjtimex": 159, "setrlimit": 160,
    "chroot": 161, "sync": 162, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166,
    "swapon": 167, "reboot": 169, "sethostname": 170, "iopl": 172, "ioperm": 173, "init_module": 175,
    "quotactl": 179, "setxattr": 188, "lsetxattr": 189, "getxattr": 191, "removexattr": 197,
    "tkill": 200, "futex": 202, "sched_setaffinity": 203, "sched_getaffinity": 204, "timer_create": 222,
    "clock_settime": 227, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "tgkill": 234,
    "utimes": 235, "mq_open": 240, "kexec_load": 246, "waitid": 247, "add_key": 248, "keyctl": 250,
    "ioprio_set": 251, "ioprio_get": 252, "inotify_init": 253, "openat": 257, "mkdirat": 258,
    "mknodat": 259, "fchownat": 260, "futimesat": 261, "newfstatat": 262, "unlinkat": 263,
    "renameat": 264, "linkat": 265, "symlinkat": 266, "readlinkat": 267, "fchmodat": 268,
    "faccessat": 269, "unshare": 272, "get_robust_list": 274, "splice": 275, "tee": 276, "vmsplice": 278, "utimensat": 280,
    "move_pages": 279, "signalfd": 282, "timerfd_create": 283, "fallocate": 285, "pipe2": 293, "inotify_init1": 294,
    "rt_tgsigqueueinfo": 297, "perf_event_open": 298, "fanotify_init": 300, "prlimit64": 302, "name_to_handle_at": 303,
    "open_by_handle_at": 304, "clock_adjtime": 305, "setns": 308, "process_vm_readv": 310,
    "process_vm_writev": 311, "kcmp": 312, "finit_module": 313, "sched_setattr": 314,
    "sched_getattr": 315,
    "renameat2": 316, "seccomp": 317, "memfd_create": 319, "kexec_file_load": 320, "bpf": 321,
    "execveat": 322, "userfaultfd": 323, "membarrier": 324, "copy_file_range": 326, "statx": 332,
    "pidfd_send_signal": 424, "io_uring_setup": 425, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "clone3": 435, "pidfd_open": 434, "openat2": 437, "pidfd_getfd": 438,
    "faccessat2": 439, "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443,
    "landlock_create_ruleset": 444, "memfd_secret": 447, "process_mrelease": 448, "cachestat": 451,
    "fchmodat2": 452,
}  # fmt: skip

HERE = -100  # AT_FDCWD
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def call(name, *arguments):
    """Makes a system call; returns its result, or the error as a negative number."""
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(CALLS[name]), *map(_word, arguments))
    return -ctypes.get_errno() if result == -1 else result


def _word(value):
    if isinstance(value, int):
        return ctypes.c_long(value)
    if isinstance(value, str):
        return value.encode()
    return value


def room(size=4096):
    """Allocates bytes for the kernel to write to."""
    return ctypes.create_string_buffer(size)


def start_child(name, *arguments):
    """Starts a process; the child, if the start succeeds, sleeps until it is killed."""
    result = call(name, *arguments)
    if result == 0:
        while True:
            libc.sleep(1000)
    return result


def signal_by_owner(victim):
    """Makes the kernel send SIGIO for a pipe to its owner."""
    ends = (ctypes.c_int * 2)()
    libc.pipe(ends)
    owned = call("fcntl", ends[0], 8, victim)
    call("fcntl", ends[0], 10, 9)  # F_SETSIG: SIGKILL
    flagged = call("fcntl", ends[0], 4, 0x2000)
    call("write", ends[1], b"x", 1)
    return min(owned, flagged)


def signal_by_timer(victim):
    """Creates a timer that signals a thread of another process."""
    event = struct.pack("<QiiiI", 0, 9, 4, victim, 0).ljust(64, b"\0")
    return call("timer_create", 1, event, room(8))


def signal_by_pidfd(victim):
    """Signals by a process descriptor."""
    descriptor = call("pidfd_open", victim, 0)
    return call("pidfd_send_signal", descriptor, 9, 0, 0) if descriptor >= 0 else descriptor


def write_memory(victim):
    """Writes through the file of the process's memory."""
    return call("openat", HERE, f"/proc/{victim}/mem", 2)


def attempts(facts):
    """Returns all attempts by name, as functions."""
    victim, outside, folder, missing = (
        facts[key] for key in ("victim", "file", "folder", "missing")
    )
    limit = struct.pack("<QQ", 7, 7)
    mask = struct.pack("<Q", 1)
    attributes = struct.pack("<IIQiIQQQ", 48, 3, 0, 19, 0, 0, 0, 0)
    dates = struct.pack("<QQQQ", 1000, 0, 1000, 0)
    vector = struct.pack("<QQ", ctypes.addressof(room(16)), 16)
    python = facts["program"]
    return {
        "processes": {
            "kill": lambda: call("kill", victim, 9),
            "kill the group": lambda: call("kill", -victim, 9),
            "kill 0": lambda: call("kill", 0, 23),
            "tkill": lambda: call("tkill", victim, 9),
            "tgkill": lambda: call("tgkill", victim, victim, 9),
            "rt_sigqueueinfo": lambda: call(
                "rt_sigqueueinfo", victim, 9, struct.pack("<iii", 9, 0, -1).ljust(128, b"\0")
            ),
            "pidfd": lambda: signal_by_pidfd(victim),
            "owner of a pipe": lambda: signal_by_owner(victim),
            "timer": lambda: signal_by_timer(victim),
            "prlimit64": lambda: call("prlimit64", victim, 0, limit, 0),
            "prlimit64 of files": lambda: call("prlimit64", victim, 7, limit, 0),
            "read its limits": lambda: call("prlimit64", victim, 7, 0, room(16)),
            "setpriority": lambda: call("setpriority", 0, victim, 19),
            "setpriority of the user": lambda: call("setpriority", 2, facts["user"], 0),
            "sched_setaffinity": lambda: call("sched_setaffinity", victim, 8, mask),
            "sched_setscheduler": lambda: call("sched_setscheduler", victim, 3, bytes(4)),
            "sched_setparam": lambda: call("sched_setparam", victim, bytes(4)),
            "sched_setattr": lambda: call("sched_setattr", victim, attributes, 0),
            "ioprio_set": lambda: call("ioprio_set", 1, victim, 3 << 13),
            "setpgid": lambda: call("setpgid", victim, 0),
            "ptrace": lambda: call("ptrace", 16, victim, 0, 0),
            "ptrace seize": lambda: call("ptrace", 0x4206, victim, 0, 0),
            "process_vm_readv": lambda: call("process_vm_readv", victim, vector, 1, vector, 1, 0),
            "process_vm_writev": lambda: call("process_vm_writev", victim, vector, 1, vector, 1, 0),
            "memory": lambda: write_memory(victim),
            "pidfd_getfd": lambda: call("pidfd_getfd", victim, 1, 0),
            "kcmp": lambda: call("kcmp", victim, os.getpid(), 1, 0, 0),
            "process_madvise": lambda: call("process_madvise", victim, vector, 1, 4, 0),
        },
        "found": {
            f"{name} of {what}": lambda name=name, process=process: FOUND[name](process)
            for what, process in (("a process", victim), ("nothing", facts["nobody"]))
            for name in FOUND
        },
        "files": {
            "chmod": lambda: call("chmod", outside, 0o777),
            "fchmodat": lambda: call("fchmodat", HERE, outside, 0o777),
            "fchmodat2": lambda: call("fchmodat2", HERE, outside, 0o777, 0),
            "chmod of the folder": lambda: call("chmod", folder, 0o777),
            "chown": lambda: call("chown", outside, 12345, 12345),
            "lchown": lambda: call("lchown", outside, 12345, 12345),
            "fchownat": lambda: call("fchownat", HERE, outside, 12345, 12345, 0),
            "utime": lambda: call("utime", outside, struct.pack("<QQ", 1000, 1000)),
            "utimes": lambda: call("utimes", outside, dates),
            "futimesat": lambda: call("futimesat", HERE, outside, dates),
            "utimensat": lambda: call("utimensat", HERE, outside, dates, 0),
            "setxattr": lambda: call("setxattr", outside, "user.a", b"1", 1, 0),
            "lsetxattr": lambda: call("lsetxattr", outside, "user.b", b"1", 1, 0),
            "removexattr": lambda: call("removexattr", outside, "user.kept"),
            "truncate": lambda: call("truncate", outside, 1),
            "write": lambda: call("openat", HERE, outside, 1 | 0x200),
            "append": lambda: call("open", outside, 1 | 0x400),
            "make a file": lambda: call("openat", HERE, folder + "/made", 0x41, 0o644),
            "make a file without a name": lambda: call("openat", HERE, folder, 0x410002, 0o600),
            "creat": lambda: call("creat", folder + "/created", 0o644),
            "mknod": lambda: call("mknod", folder + "/pipe", 0o10644, 0),
            "mknodat": lambda: call("mknodat", HERE, folder + "/pipe2", 0o10644, 0),
            "mkdir": lambda: call("mkdir", folder + "/below", 0o755),
            "mkdirat": lambda: call("mkdirat", HERE, folder + "/below2", 0o755),
            "link": lambda: call("link", outside, folder + "/linked"),
            "linkat": lambda: call("linkat", HERE, outside, HERE, folder + "/linked2", 0),
            "symlink": lambda: call("symlink", outside, folder + "/soft"),
            "symlinkat": lambda: call("symlinkat", outside, HERE, folder + "/soft2"),
            "rename": lambda: call("rename", outside, folder + "/renamed"),
            "renameat": lambda: call("renameat", HERE, outside, HERE, folder + "/renamed"),
            "renameat2": lambda: call("renameat2", HERE, outside, HERE, folder + "/renamed", 0),
            "unlink": lambda: call("unlink", outside),
            "unlinkat": lambda: call("unlinkat", HERE, outside, 0),
            "rmdir": lambda: call("rmdir", folder + "/empty"),
        },
        "starts": {
            "fork": lambda: start_child("fork"),
            "vfork": lambda: call("vfork") if facts["walled"] else 0,
            "clone": lambda: start_child("clone", 17, 0, 0, 0, 0),
            "clone in the same memory": lambda: (
                call("clone", 0x100 | 17, 0, 0, 0, 0) if facts["walled"] else 0
            ),
            "clone for the parent": lambda: start_child("clone", 0x8000 | 17, 0, 0, 0, 0),
            "clone3": lambda: start_child(
                "clone3", struct.pack("<8Q", 0, 0, 0, 0, 17, 0, 0, 0), 64
            ),
            "execve": lambda: call("execve", python, 0, 0) if facts["walled"] else 0,
            "execveat": lambda: call("execveat", HERE, python, 0, 0, 0) if facts["walled"] else 0,
            "posix_spawn": lambda: (
                -libc.posix_spawn(
                    ctypes.byref(ctypes.c_int()),
                    python.encode(),
                    None,
                    None,
                    (ctypes.c_char_p * 2)(b"python"),
                    None,
                )
            ),
            "setsid": lambda: call("setsid"),
            "setpgid": lambda: call("setpgid", 0, 0),
        },
        "told": {
            f"{name} of {what}": lambda name=name, path=path: ASKED[name](path)
            for what, path in (("a file", outside), ("nothing", missing))
            for name in ASKED
        },
        "listed": {
            "open the folder": lambda: call("openat", HERE, folder, 0o200000),
            "chdir": lambda: call("chdir", folder),
            "environment of the host": lambda: call(
                "openat", HERE, f"/proc/{facts['host']}/environ", 0
            ),
            "its own memory": lambda: call("openat", HERE, "/proc/self/mem", 2),
            "its own memory by a descriptor": lambda: call("openat", HERE, "/proc/self/mem", 0),
            "a library": lambda: call("openat", HERE, facts["library"], 0),
        },
        "machine": {
            name: (lambda call_parts=call_parts: call(*call_parts))
            for name, call_parts in _machine().items()
        },
    }


def lock_that_lends_priority(owner):
    """Tries to take a lock whose owner is another thread, which the kernel looks for."""
    lock = struct.pack("<I", owner)
    return call("futex", ctypes.create_string_buffer(lock, 8), 8, 0, 0, 0, 0)


def clock_of(process):
    """Returns the clock of a process's CPU time."""
    return (~process << 3) | 2


# What tells a process from a number that none has.
FOUND = {
    "kill": lambda process: call("kill", process, 0),
    "sched_getscheduler": lambda process: call("sched_getscheduler", process),
    "sched_getparam": lambda process: call("sched_getparam", process, room(8)),
    "sched_getattr": lambda process: call("sched_getattr", process, room(64), 64, 0),
    "sched_getaffinity": lambda process: call("sched_getaffinity", process, 1024, room(1024)),
    "sched_rr_get_interval": lambda process: call("sched_rr_get_interval", process, room(16)),
    "getpriority": lambda process: call("getpriority", 0, process),
    "ioprio_get": lambda process: call("ioprio_get", 1, process),
    "getpgid": lambda process: call("getpgid", process),
    "getsid": lambda process: call("getsid", process),
    "prlimit64": lambda process: call("prlimit64", process, 7, 0, room(16)),
    "get_robust_list": lambda process: call("get_robust_list", process, room(8), room(8)),
    "move_pages": lambda process: call("move_pages", process, 0, 0, 0, 0, 0),
    "rt_tgsigqueueinfo": lambda process: call(
        "rt_tgsigqueueinfo", process, process, 0, struct.pack("<iii", 0, 0, -1).ljust(128, b"\0")
    ),
    "pidfd_open": lambda process: call("pidfd_open", process, 0),
    "clock_gettime": lambda process: call("clock_gettime", clock_of(process), room(16)),
    "clock_getres": lambda process: call("clock_getres", clock_of(process), room(16)),
    "clock_nanosleep": lambda process: call("clock_nanosleep", clock_of(process), 0, bytes(16), 0),
    "futex": lock_that_lends_priority,
}

ASKED = {
    "stat": lambda path: call("stat", path, room()),
    "lstat": lambda path: call("lstat", path, room()),
    "newfstatat": lambda path: call("newfstatat", HERE, path, room(), 0),
    "newfstatat with AT_EMPTY_PATH": lambda path: call("newfstatat", HERE, path, room(), 0x1000),
    "statx": lambda path: call("statx", HERE, path, 0, 0x7FF, room()),
    "statx with AT_EMPTY_PATH": lambda path: call("statx", HERE, path, 0x1000, 0x7FF, room()),
    "statfs": lambda path: call("statfs", path, room()),
    "access": lambda path: call("access", path, 0),
    "faccessat": lambda path: call("faccessat", HERE, path, 0),
    "faccessat2": lambda path: call("faccessat2", HERE, path, 0, 0),
    "readlink": lambda path: call("readlink", path, room(), 4096),
    "readlinkat": lambda path: call("readlinkat", HERE, path, room(), 4096),
    "getxattr": lambda path: call("getxattr", path, "user.kept", room(), 4096),
    "open": lambda path: call("open", path, 0),
    "openat": lambda path: call("openat", HERE, path, 0),
    "openat with O_PATH": lambda path: call("openat", HERE, path, 0x200000),
    "openat2": lambda path: call("openat2", HERE, path, struct.pack("<QQQ", 0, 0, 0), 24),
    "name_to_handle_at": lambda path: call(
        "name_to_handle_at", HERE, path, struct.pack("<Ii", 128, 0).ljust(256, b"\0"), room(4), 0
    ),
    "execve": lambda path: call("execve", path, 0, 0),
    "chdir": lambda path: call("chdir", path),
    "mkdir": lambda path: call("mkdir", path, 0o755),
    "unlink below it": lambda path: call("unlink", path + "/x"),
    "open_tree": lambda path: call("open_tree", HERE, path, 0),
}


def _machine():
    """Returns attempts that concern the whole machine, or bypass other refusals."""
    zero = bytes(256)
    return {
        "memfd_create": ("memfd_create", "x", 0),
        "memfd_secret": ("memfd_secret", 0),
        "io_uring_setup": ("io_uring_setup", 1, room(256)),
        "perf_event_open": (
            "perf_event_open",
            struct.pack("<II", 1, 112) + bytes(104),
            0,
            -1,
            -1,
            0,
        ),
        "bpf": ("bpf", 0, struct.pack("<IIII", 2, 4, 4, 1) + bytes(100), 72),
        "keyctl": ("keyctl", 0, -3, 0, 0, 0),
        "add_key": ("add_key", "user", "k", b"x", 1, -3),
        "userfaultfd": ("userfaultfd", 1),
        "open_by_handle_at": ("open_by_handle_at", HERE, zero, 0),
        "quotactl": ("quotactl", 0x80000100, 0, 0, 0),
        "quotactl_fd": ("quotactl_fd", 0, 0, 0, 0),
        "mount": ("mount", "none", "/nowhere", "tmpfs", 0, 0),
        "umount2": ("umount2", "/nowhere", 0),
        "pivot_root": ("pivot_root", "/", "/"),
        "chroot": ("chroot", "/"),
        "fsopen": ("fsopen", "tmpfs", 0),
        "move_mount": ("move_mount", HERE, "/nowhere", HERE, "/nowhere", 0),
        "mount_setattr": ("mount_setattr", HERE, "/", 0, zero, 32),
        "unshare": ("unshare", 0x10000000),
        "setns": ("setns", 0, 0),
        "personality": ("personality", 0x0400000),
        "modify_ldt": ("modify_ldt", 1, zero, 16),
        "kexec_load": ("kexec_load", 0, 0, 0, 0),
        "kexec_file_load": ("kexec_file_load", 0, 0, 0, 0, 0),
        "swapon": ("swapon", "/nowhere", 0),
        "reboot": ("reboot", 0xFEE1DEAD, 672274793, 0, 0),
        "sethostname": ("sethostname", os.uname().nodename, len(os.uname().nodename)),
        "syslog": ("syslog", 3, room(), 4096),
        "acct": ("acct", 0),
        "settimeofday": ("settimeofday", 0, 0),
        "clock_settime": ("clock_settime", 0, zero),
        "adjtimex": ("adjtimex", zero),
        "clock_adjtime": ("clock_adjtime", 0, zero),
        "init_module": ("init_module", zero, 16, ""),
        "finit_module": ("finit_module", 0, "", 0),
        "iopl": ("iopl", 0),
        "ioperm": ("ioperm", 0, 1, 0),
        "inotify_init": ("inotify_init",),
        "inotify_init1": ("inotify_init1", 0),
        "fanotify_init": ("fanotify_init", 0, 0),
        "shmget": ("shmget", 0, 4096, 0o1600),
        "semget": ("semget", 0, 1, 0o1600),
        "msgget": ("msgget", 0, 0o1600),
        "mq_open": ("mq_open", "wall", 0x42, 0o600, 0),
        "timer_create": ("timer_create", 1, 0, room(8)),
        "timerfd_create": ("timerfd_create", 1, 0),
        "signalfd": ("signalfd", -1, bytes(8), 8),
        "setuid": ("setuid", 0),
        "setgid": ("setgid", 0),
        "setgroups": ("setgroups", 0, 0),
        "capset": ("capset", struct.pack("<II", 0x20080522, 0), zero),
        "setrlimit": ("setrlimit", 7, struct.pack("<QQ", 9, 9)),
        "mlock": ("mlock", room(), 4096),
        "mincore": ("mincore", 0x10000, 4096, room(16)),
        "cachestat": ("cachestat", 0, zero, room(64), 0),
        "poisoned memory": ("madvise", 0, 4096, 100),
        "merged memory": ("madvise", 0, 4096, 12),
        "shared memory": ("mmap", 0, 1 << 20, 3, 0x21, -1, 0),
        "memory of a stack that grows": ("mmap", 0, 1 << 20, 3, 0x122, -1, 0),
        "locked memory": ("mmap", 0, 1 << 20, 3, 0x2022, -1, 0),
        "huge pages": ("mmap", 0, 1 << 21, 3, 0x40022, -1, 0),
        "a pipe of the kernel's events": ("pipe2", room(8), 0x80),
        "socket": ("socket", 2, 1, 0),
        "unix socket": ("socket", 1, 1, 0),
        "netlink": ("socket", 16, 3, 0),
        "vsock": ("socket", 40, 1, 0),
        "packets": ("socket", 17, 3, 0),
        "pair of datagram sockets": ("socketpair", 1, 2, 0, room(8)),
        "send to an address": ("sendto", 1, b"x", 1, 0, 0, 0),
        "wake at an address": ("sendto", 1, b"x", 1, 0x40, room(16), 16),
        "send descriptors": ("sendmsg", 1, zero, 0),
        "splice": ("splice", 0, 0, 1, 0, 1, 0),
        "tee": ("tee", 0, 1, 1, 0),
        "vmsplice": ("vmsplice", 1, zero, 1, 0),
        "copy_file_range": ("copy_file_range", 0, 0, 1, 0, 1, 0),
        "fallocate": ("fallocate", 1, 0, 0, 4096),
        "flock": ("flock", 1, 2),
        "lock": ("fcntl", 1, 6, zero),
        "lease": ("fcntl", 1, 1024, 0),
        "notify": ("fcntl", 1, 1026, 1),
        "input of a terminal": ("ioctl", 0, 0x5412, b"x"),
        "terminal's session": ("ioctl", 0, 0x540E, 1),
        "ptracer": ("prctl", 0x59616D61, -1, 0, 0, 0),
        "undumpable": ("prctl", 4, 0, 0, 0, 0),
        "another filter": ("prctl", 22, 2, 0, 0, 0),
        "capabilities": ("prctl", 24, 1, 0, 0, 0),
        "reaper": ("prctl", 36, 1, 0, 0, 0),
        "death signal": ("prctl", 1, 9, 0, 0, 0),
        "seccomp": ("seccomp", 1, 0, 0),
        "landlock": ("landlock_create_ruleset", 0, 0, 1),
        "getpgid": ("getpgid", 1),
        "getsid": ("getsid", 1),
        "getpriority": ("getpriority", 0, 1),
        "ioprio_get": ("ioprio_get", 1, 1),
        "process_mrelease": ("process_mrelease", 0, 0),
        "membarrier of all": ("membarrier", 1, 0, 0),
        "umask": ("umask", 0),
        "sync": ("sync",),
    }


def say(text):
    """Writes a line to the host."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    facts = json.loads(sys.argv[1])
    group = attempts(facts)[facts["group"]]
    say("ready")
    sys.stdin.readline()
    say(json.dumps({name: attempt() for name, attempt in group.items()}))
    sys.stdin.readline()
    os._exit(0)
