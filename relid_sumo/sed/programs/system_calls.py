"""The system calls that a model's program may use, and the filter that refuses all others.

The list is an allow-list: a call that is not in `CALLS` fails with EPERM, also one that a later kernel adds. It has
what Python, numpy and networkx need to compute once the interpreter runs. Calls that are harmless only with some
arguments have a `Condition`. Nothing in the list creates, changes, sends, starts or stops anything outside the process.

The filter is a classic BPF program for seccomp (Linux, Documentation/userspace-api/seccomp_filter.rst). The numbers are
those of the kernel's syscall_64.tbl and asm-generic/unistd.h.
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass
from typing import Literal

Machine = Literal["x86_64", "aarch64"]
AUDIT_ARCH: dict[str, int] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Offsets in struct seccomp_data; little-endian, so the low half of an argument comes first.
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
LOAD, AND, EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000
WHOLE = 0xFFFFFFFF


@dataclass(frozen=True)
class Condition:
    """A condition on an argument: ``argument & mask`` is one of the values, compared as 32 bits.

    Attributes
    ----------
    argument : int
        Index of the argument, from 0.
    values : tuple of int
        Permitted values after masking.
    mask : int
        Bits that are compared.
    pointer : bool
        The upper 32 bits have to be 0, too.
    """

    argument: int
    values: tuple[int, ...]
    mask: int = WHOLE
    pointer: bool = False


@dataclass(frozen=True)
class Call:
    """A permitted system call.

    Attributes
    ----------
    name : str
        As in the kernel's table.
    x86_64, aarch64 : int or None
        Its number; None where the machine has no such call.
    why : str
        What needs it.
    conditions : tuple of Condition
        All have to be met.
    """

    name: str
    x86_64: int | None
    aarch64: int | None
    why: str
    conditions: tuple[Condition, ...] = ()


def _flags(argument: int, refused: int) -> Condition:
    """Return the condition that none of some flags is set."""
    return Condition(argument, (0,), refused)


OPEN_FLAGS = {  # O_NONBLOCK, O_CLOEXEC, O_NOCTTY; then O_DIRECTORY, O_NOFOLLOW, O_LARGEFILE, which differ
    "x86_64": 0o4000 | 0o2000000 | 0o400 | 0o200000 | 0o400000 | 0o100000,
    "aarch64": 0o4000 | 0o2000000 | 0o400 | 0o40000 | 0o100000 | 0o400000,
}
MAP_HUGETLB_OR_LOCKED = 0x40000 | 0x2000
GET_FLAGS = (1, 2, 3)  # F_GETFD, F_SETFD (close on exec), F_GETFL
ADVICE = (0, 1, 2, 3, 4, 8, 14, 15)  # MADV_NORMAL to MADV_DONTNEED, MADV_FREE, MADV_(NO)HUGEPAGE
CLOCKS = (
    *range(8),
    11,
)  # the machine's and the process's own; no alarms, which wake the machine, and no other process's
FUTEX_COMMANDS = (0, 1, 3, 4, 5, 9, 10)  # wait, wake, requeue; no priority inheritance
FUTEX_OPTIONS = 0x180  # private, clock

FILES, MEMORY, LOCKS, SIGNALS, SELF, TIME, END = (
    "reading modules and writing the answer",
    "memory",
    "the interpreter's locks",
    "signal handlers of its own process",
    "what it is and where it runs",
    "time",
    "ending",
)
CALLS: tuple[Call, ...] = (
    Call("read", 0, 63, FILES),
    Call("write", 1, 64, FILES),
    Call("close", 3, 57, FILES),
    Call("lseek", 8, 62, FILES),
    Call("pread64", 17, 67, FILES),
    Call("fstat", 5, 80, FILES),
    Call("stat", 4, None, FILES),
    Call("lstat", 6, None, FILES),
    Call("newfstatat", 262, 79, FILES),
    Call("getdents64", 217, 61, FILES),
    Call("getcwd", 79, 17, FILES),
    Call("fcntl", 72, 25, FILES, (Condition(1, GET_FLAGS),)),
    Call("mmap", 9, 222, MEMORY, (_flags(3, MAP_HUGETLB_OR_LOCKED),)),
    Call("munmap", 11, 215, MEMORY),
    Call("mprotect", 10, 226, MEMORY),
    Call("mremap", 25, 216, MEMORY),
    Call("brk", 12, 214, MEMORY),
    Call("madvise", 28, 233, MEMORY, (Condition(2, ADVICE),)),
    Call("futex", 202, 98, LOCKS, (Condition(1, FUTEX_COMMANDS, WHOLE & ~FUTEX_OPTIONS),)),
    Call("sched_yield", 24, 124, LOCKS),
    Call("rt_sigaction", 13, 134, SIGNALS),
    Call("rt_sigprocmask", 14, 135, SIGNALS),
    Call("rt_sigreturn", 15, 139, SIGNALS),
    Call("sigaltstack", 131, 132, SIGNALS),
    Call("restart_syscall", 219, 128, SIGNALS),
    Call("getpid", 39, 172, SELF),
    Call("gettid", 186, 178, SELF),
    Call("getppid", 110, 173, SELF),
    Call("getuid", 102, 174, SELF),
    Call("geteuid", 107, 175, SELF),
    Call("getgid", 104, 176, SELF),
    Call("getegid", 108, 177, SELF),
    Call("uname", 63, 160, SELF),
    Call("sysinfo", 99, 179, SELF),
    Call("getrandom", 318, 278, SELF),
    Call("sched_getaffinity", 204, 123, SELF, (Condition(0, (0,)),)),
    Call("prlimit64", 302, 261, SELF, (Condition(0, (0,)), Condition(2, (0,), pointer=True))),
    Call("clock_gettime", 228, 113, TIME, (Condition(0, CLOCKS),)),
    Call("clock_getres", 229, 114, TIME, (Condition(0, CLOCKS),)),
    Call("clock_nanosleep", 230, 115, TIME, (Condition(0, CLOCKS),)),
    Call("nanosleep", 35, 101, TIME),
    Call("gettimeofday", 96, 169, TIME),
    Call("time", 201, None, TIME),
    Call("exit", 60, 93, END),
    Call("exit_group", 231, 94, END),
)


def permitted(machine: Machine) -> dict[int, Call]:
    """Return the permitted calls of a machine by number."""
    opening = Call("openat", 257, 56, FILES, (_flags(2, WHOLE & ~OPEN_FLAGS[machine]),))  # for reading only
    numbers = {getattr(call, machine): call for call in (*CALLS, opening)}
    return {number: call for number, call in numbers.items() if number is not None}


def this_machine() -> Machine | None:
    """Return this machine's name in `Call`; None where it has no filter."""
    name = platform.machine()
    return name if name in ("x86_64", "aarch64") else None  # type: ignore[return-value] # mypy does not narrow by `in`


def compiled(machine: Machine, refusal: int = errno.EPERM) -> bytes:
    """Return the filter as an array of struct sock_filter.

    Parameters
    ----------
    refusal
        The error number of a refused call.
    """
    refuse = _instruction(RETURN, REFUSE | refusal)
    program = [
        _instruction(LOAD, ARCHITECTURE),
        _instruction(EQUAL, AUDIT_ARCH[machine], 1, 0),
        _instruction(RETURN, KILL),  # calls by the numbers of another machine: int 0x80
        _instruction(LOAD, NUMBER),
    ]
    for number, call in permitted(machine).items():
        block = [part for condition in call.conditions for part in _checked(condition, refuse)]
        block.append(_instruction(RETURN, ALLOW))
        program += [_instruction(EQUAL, number, 0, len(block)), *block]
    return b"".join([*program, refuse])


def _checked(condition: Condition, refuse: bytes) -> list[bytes]:
    """Return the instructions that go on behind themselves where an argument is permitted, and refuse elsewhere."""
    low, count = ARGUMENTS + 8 * condition.argument, len(condition.values)
    upper = [_instruction(LOAD, low + 4), _instruction(EQUAL, 0, 1, 0), refuse] if condition.pointer else []
    masked = [] if condition.mask == WHOLE else [_instruction(AND, condition.mask)]
    compared = [_instruction(EQUAL, value, count - i, 0) for i, value in enumerate(condition.values)]
    return [*upper, _instruction(LOAD, low), *masked, *compared, refuse]


def _instruction(code: int, k: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, jump_true, jump_false, k)
