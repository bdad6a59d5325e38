"""The allow-list of system calls, each with its reason; everything else is refused.

Data only; `seccomp_filter.py` compiles it. The list comes from tracing Deno, V8 and Pyodide through starts, cells,
packages, checkpoints, interrupts, exhausted memory, crashes and exits.

An unlisted call fails with EPERM. It fails with ENOSYS where the C library then has a fallback (`MISSING`), or
where the call is newer than this list, so that a later C library or Deno takes its fallback for older kernels.

Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (aarch64).
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Sequence


class Known(enum.Enum):
    """A value that is known only at launch."""

    OWN_PID = enum.auto()
    """The process's own id."""

    PASS_LOW = enum.auto()
    """The lower half of a random number that only the launcher knows."""

    PASS_HIGH = enum.auto()
    """Its upper half."""


class Refusal(enum.Enum):
    """The error of a refused call."""

    FORBIDDEN = "EPERM"
    MISSING = "ENOSYS"
    """As on a kernel without the call: the C library then uses its fallback."""


@dataclasses.dataclass(frozen=True)
class Test:
    """True if one 32-bit half of an argument, with only the bits of `mask`, is one of `values`."""

    argument: int
    values: Sequence[int | Known]
    mask: int = 0xFFFFFFFF
    upper_half: bool = False


def _is(argument: int, *values: int | Known) -> Test:
    return Test(argument, values)


def _without(argument: int, bits: int) -> Test:
    return Test(argument, (0,), mask=bits)


def _null(argument: int) -> tuple[Test, Test]:
    return Test(argument, (0,)), Test(argument, (0,), upper_half=True)


Rule = Sequence[Sequence[Test]]
"""One of the inner sequences must hold, with all of its tests. An empty rule allows every argument."""


@dataclasses.dataclass(frozen=True)
class Call:
    """An allowed system call."""

    name: str
    reason: str
    x86_64: int | None
    aarch64: int | None
    """The numbers; None if the architecture lacks the call."""

    rule: Rule = ()

    otherwise: Refusal = Refusal.FORBIDDEN
    """The error for arguments that the rule does not allow."""

    until_sealed: bool = False
    """True if only the start needs it; see `open_gate.py`."""


# ---- Arguments --------------------------------------------------------------------------------------

# linux/sched.h: CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID, CHILD_CLEARTID,
# DETACHED, CHILD_SETTID: those of a thread, and none that makes a process or a namespace.
_THREAD = 0x00010000
_THREAD_FLAGS = 0x100 | 0x200 | 0x400 | 0x800 | _THREAD | 0x40000 | 0x80000 | 0x100000 | 0x200000
_THREAD_FLAGS |= 0x400000 | 0x1000000

# fcntl.h: O_WRONLY and O_RDWR, O_CREAT, O_TRUNC, O_ASYNC, O_PATH, O_TMPFILE. A descriptor of O_PATH can be
# had of every file, and tells its size and dates.
_NOT_TO_READ = 0x3 | 0x40 | 0x200 | 0x2000 | 0x200000 | 0x400000
_ASYNC = 0x2000

# linux/fcntl.h. Not F_SETOWN and F_SETSIG, by which the kernel sends signals to others.
_DUP_FD, _GET_FD, _SET_FD, _GET_FLAGS, _SET_FLAGS = 0, 1, 2, 3, 4
_DUP_FD_CLOEXEC, _GET_PIPE_SIZE = 1030, 1032

# asm-generic/ioctls.h: TCGETS, TIOCGWINSZ (is it a terminal, of which size), FIONREAD, FIONBIO, FIONCLEX, FIOCLEX.
_REQUESTS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)

# asm-generic/mman-common.h and mman.h: MAP_TYPE, MAP_PRIVATE; MAP_GROWSDOWN, MAP_LOCKED, MAP_HUGETLB.
# RLIMIT_DATA counts neither shared memory nor stacks that grow, and huge pages come out of the machine's pool.
_MAP_TYPE, _MAP_PRIVATE = 0xF, 0x2
_UNCOUNTED = 0x100 | 0x2000 | 0x40000

# fcntl.h: O_NONBLOCK and O_CLOEXEC. Not O_NOTIFICATION_PIPE, by which the kernel reports events.
_PIPE_FLAGS = 0x800 | 0x80000

# linux/prctl.h: PR_SET_NAME and PR_GET_NAME of a thread, PR_SET_VMA (the name of a piece of memory).
_OPERATIONS = (15, 16, 0x53564D41)

# asm/prctl.h: ARCH_SET_FS, ARCH_GET_FS.
_REGISTERS = (0x1002, 0x1003)

# asm-generic/mman-common.h: what concerns nothing but the process's own pages. Not MADV_HWPOISON and
# MADV_SOFT_OFFLINE, which take memory from the machine, nor MADV_MERGEABLE, which reveals others' pages.
_ADVICE = (0, 1, 2, 3, 4, 8, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23)

# linux/membarrier.h: QUERY, PRIVATE_EXPEDITED and PRIVATE_EXPEDITED_SYNC_CORE with their registrations, for
# the threads of this process.
_BARRIERS = (0, 8, 16, 32, 64)

_AF_UNIX, _SOCK_STREAM, _SOCKET_TYPE_BITS = 1, 1, 0xF
_DONT_WAIT = 0x40  # linux/socket.h: MSG_DONTWAIT

# The secret is in the sixth argument, which neither of the two calls has.
_LAUNCHER_ONLY = ((_is(5, Known.PASS_LOW), Test(5, (Known.PASS_HIGH,), upper_half=True)),)

# linux/futex.h: WAIT, WAKE, REQUEUE, CMP_REQUEUE, WAKE_OP, WAIT_BITSET, WAKE_BITSET, without the flags PRIVATE and
# CLOCK_REALTIME. Not the locks that lend priority (LOCK_PI and its kin): they find their owner, any thread of the
# machine, by the number in the lock.
_LOCKS = ((Test(1, (0, 1, 3, 4, 5, 9, 10), mask=0xFFFFFFFF & ~(0x80 | 0x100)),),)

# linux/posix-timers.h: the clock of the CPU time of a process has the complement of its id, so it is negative.
_OWN_CLOCKS = ((_without(0, 0x80000000),),)

_OWN = Known.OWN_PID
_OWN_OR_CALLER = ((_is(0, 0, _OWN),),)

# ---- The list ---------------------------------------------------------------------------------------

CALLS: Sequence[Call] = (
    # Memory of the process itself. V8 makes its compiled code in pages that are written and executed.
    Call(
        "mmap",
        "memory, and the libraries' code; only what RLIMIT_DATA counts",
        9,
        222,
        ((Test(3, (_MAP_PRIVATE,), mask=_MAP_TYPE), _without(3, _UNCOUNTED)),),
    ),
    Call("munmap", "memory", 11, 215),
    Call("mprotect", "V8's code, the ends of stacks", 10, 226),
    Call("mremap", "the C library's realloc", 25, 216),
    Call("brk", "the C library's malloc", 12, 214),
    Call("madvise", "memory that is returned", 28, 233, ((_is(2, *_ADVICE),),)),
    Call("pkey_alloc", "V8 guards its code by keys where the processor has them", 330, 289),
    Call("pkey_free", "as above", 331, 290),
    Call("pkey_mprotect", "as above", 329, 288),
    # Threads and their synchronisation.
    Call(
        "clone",
        "threads; no process, no namespace",
        56,
        220,
        ((Test(0, (_THREAD,), mask=_THREAD), _without(0, 0xFFFFFFFF & ~_THREAD_FLAGS)),),
    ),
    Call("futex", "locks", 202, 98, _LOCKS, otherwise=Refusal.MISSING),
    Call("set_robust_list", "locks of threads that end", 273, 99),
    Call("rseq", "the C library's memory per processor", 334, 293),
    Call("set_tid_address", "the end of a thread", 218, 96),
    Call("membarrier", "memory barriers between own threads", 324, 283, ((_is(0, *_BARRIERS),),)),
    Call("sched_yield", "locks", 24, 124),
    Call(
        "sched_getaffinity",
        "how many processors there are; pthread_getattr_np passes a thread's id, and works without",
        204,
        123,
        _OWN_OR_CALLER,
        otherwise=Refusal.MISSING,
    ),
    Call(
        "sched_getscheduler",
        "absl's locks read a thread's priority, and work without",
        145,
        120,
        _OWN_OR_CALLER,
        otherwise=Refusal.MISSING,
    ),
    Call("sched_getparam", "as above", 143, 121, _OWN_OR_CALLER, otherwise=Refusal.MISSING),
    Call("gettid", "a thread's own id", 186, 178),
    Call("getpid", "its own id", 39, 172),
    Call("getppid", "its host's id", 110, 173),
    Call("getcpu", "which processor it runs on", 309, 168),
    Call("exit", "the end of a thread", 60, 93),
    Call("exit_group", "its end", 231, 94),
    Call(
        "sendmsg",
        "the launcher hands the gate to the host: the only caller that knows the number",
        46,
        211,
        _LAUNCHER_ONLY,
    ),
    Call(
        "execve",
        "the launcher becomes Deno: the only caller that knows the number",
        59,
        221,
        _LAUNCHER_ONLY,
    ),
    # Signals to itself.
    Call("rt_sigaction", "V8 catches WebAssembly's accesses outside of its memory", 13, 134),
    Call("rt_sigprocmask", "threads without signals", 14, 135),
    Call("rt_sigreturn", "the end of a signal's handler", 15, 139),
    Call("sigaltstack", "the stack of a signal's handler", 131, 132),
    Call("restart_syscall", "a wait that a signal interrupted", 219, 128),
    Call("kill", "to itself", 62, 129, ((_is(0, _OWN),),)),
    Call("tgkill", "abort()", 234, 131, ((_is(0, _OWN),),)),
    # Files: Landlock decides which, and none can be opened or found once the process is sealed.
    Call(
        "openat",
        "to read a file or list a folder",
        257,
        56,
        ((_without(2, _NOT_TO_READ),),),
        until_sealed=True,
    ),
    Call("read", "the pipe from the host", 0, 63),
    Call("readv", "as above", 19, 65),
    Call("pread64", "libraries", 17, 67),
    Call("write", "the pipe to the host", 1, 64),
    Call("writev", "as above", 20, 66),
    Call("close", "descriptors", 3, 57),
    Call("lseek", "files", 8, 62),
    Call("fstat", "open files", 5, 80),
    # With a path it reveals any file, and a filter cannot see whether it has one.
    Call("newfstatat", "libraries: so does the C library before 2.39", 262, 79, until_sealed=True),
    Call("readlink", "the path of Deno itself", 89, None, until_sealed=True),
    Call("readlinkat", "as above", 267, 78, until_sealed=True),
    Call("getdents64", "to list a folder", 217, 61, until_sealed=True),
    Call("getcwd", "the current folder", 79, 17, until_sealed=True),
    Call("dup", "the standard streams", 32, 23),
    Call(
        "fcntl",
        "flags of descriptors, and second ones",
        72,
        25,
        (
            (_is(1, _DUP_FD, _GET_FD, _SET_FD, _GET_FLAGS, _DUP_FD_CLOEXEC, _GET_PIPE_SIZE),),
            (_is(1, _SET_FLAGS), _without(2, _ASYNC)),
        ),
    ),
    Call("ioctl", "is it a terminal; to wait or not", 16, 29, ((_is(1, *_REQUESTS),),)),
    # Waiting.
    Call("epoll_create1", "Deno's event loop", 291, 20),
    Call("epoll_ctl", "as above", 233, 21),
    Call("epoll_wait", "as above", 232, None),
    Call("epoll_pwait", "as above", 281, 22),
    Call("eventfd2", "as above", 290, 19),
    Call("poll", "are the standard streams open", 7, None),
    Call("ppoll", "as above", 271, 73),
    Call(
        "pipe2",
        "wakes a thread that waits",
        293,
        59,
        ((_without(1, 0xFFFFFFFF & ~_PIPE_FLAGS),),),
    ),
    Call(
        "socketpair",
        "wakes Deno's event loop when a signal comes; both ends are its own",
        53,
        199,
        ((_is(0, _AF_UNIX), Test(1, (_SOCK_STREAM,), mask=_SOCKET_TYPE_BITS)),),
    ),
    Call("recvfrom", "as above", 45, 207),
    # One byte to a connected socket, which is one of such a pair: no other can be had.
    Call("sendto", "as above", 44, 206, ((_is(2, 1), _is(3, _DONT_WAIT), *_null(4), *_null(5)),)),
    # Time.
    Call("clock_gettime", "time", 228, 113, _OWN_CLOCKS),
    Call("clock_getres", "time", 229, 114, _OWN_CLOCKS),
    Call("clock_nanosleep", "sleep", 230, 115, _OWN_CLOCKS),
    Call("nanosleep", "sleep", 35, 101),
    Call("gettimeofday", "time", 96, 169),
    Call("time", "time", 201, None),
    # Facts about the process and the machine.
    Call("prlimit64", "its own limits, to read", 302, 261, ((_is(0, 0, _OWN), *_null(2)),)),
    Call("getrlimit", "its own limits, to read", 97, 163),
    Call("getrusage", "its own use of memory", 98, 165),
    Call("sysinfo", "how much memory there is", 99, 179),
    Call("uname", "the system's name", 63, 160),
    Call("getrandom", "random numbers", 318, 278),
    Call("getuid", "its own user", 102, 174),
    Call("geteuid", "its own user", 107, 175),
    Call("getgid", "its own group", 104, 176),
    Call("getegid", "its own group", 108, 177),
    Call("prctl", "names of threads and memory", 157, 167, ((_is(0, *_OPERATIONS),),)),
    Call("arch_prctl", "where a thread's variables are", 158, None, ((_is(0, *_REGISTERS),),)),
)


@dataclasses.dataclass(frozen=True)
class Missing:
    """A call that fails with ENOSYS, so that the C library uses its fallback."""

    name: str
    instead: str
    x86_64: int
    aarch64: int


MISSING: Sequence[Missing] = (
    # Its flags are in memory, which a filter cannot read.
    Missing("clone3", "clone", 435, 435),
    Missing("close_range", "close", 436, 436),
    # Rust then uses fstat. It reveals any path, and its flags do not show whether it has one.
    Missing("statx", "fstat", 332, 291),
    Missing("openat2", "openat", 437, 437),
    Missing("faccessat2", "faccessat, which is refused", 439, 439),
    Missing("epoll_pwait2", "epoll_pwait", 441, 441),
    Missing("futex_waitv", "futex", 449, 449),
)

# The last number when this list was written (Linux 6.10). Later calls fail with ENOSYS.
NEWEST = 462

# linux/audit.h: AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64.
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# From this number on x86-64 has the calls of x32, which are those of the table with other pointers.
X32 = 0x40000000


@functools.cache
def numbered(machine: str) -> dict[int, Call | Missing]:
    """Returns the listed calls of a machine by number."""
    listed: tuple[Call | Missing, ...] = (*CALLS, *MISSING)
    return {number: call for call in listed if (number := getattr(call, machine)) is not None}


def number_of(machine: str, name: str) -> int:
    """Returns the number of a listed call on a machine that has it."""
    return next(number for number, call in numbered(machine).items() if call.name == name)
