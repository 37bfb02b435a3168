"""The filter of system calls permits what is in the list, under the conditions there, and nothing else."""

from __future__ import annotations

import errno
import platform
import re
import signal
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from relid_sumo.sed.programs import system_calls
from relid_sumo.sed.programs.system_calls import Machine

MACHINES: list[Machine] = ["x86_64", "aarch64"]
HERE = system_calls.this_machine()
X32 = 0x40000000
MOST = 1024  # the kernel's table has less than 500 entries, and new ones come at its end
needs_filter = pytest.mark.skipif(HERE is None, reason="there is no list of calls for this processor")

# In a process of its own for each number: install the filter, call the number with arguments that are no use, and tell
# by the exit code whether it was refused. What ends the process or leaves it hanging was not.
EVERY_NUMBER = """
import ctypes, os, signal, sys
from relid_sumo.sed.programs import system_calls, runner
machine, refusal = system_calls.this_machine(), int(sys.argv[1])
compiled = system_calls.compiled(machine, refusal)
libc = ctypes.CDLL(None, use_errno=True)
wrong = [ctypes.c_long(-1)] * 6
for number in map(int, sys.argv[2:]):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        null = os.open(os.devnull, os.O_RDWR)
        for one in (0, 1, 2):
            os.dup2(null, one)
        runner.allow_calls(compiled)
        result = libc.syscall(ctypes.c_long(number), *wrong)
        os._exit(0 if result == -1 and ctypes.get_errno() == refusal else 1)
    status = os.waitpid(pid, 0)[1]
    if status != 0:
        print(number, os.waitstatus_to_exitcode(status))
"""


def passing(numbers: range) -> dict[int, int]:
    """Return the numbers of calls that the kernel carries out under the filter, with arguments of -1.

    With each how its process ended: 1, or minus the signal that ended it.
    """
    command = [sys.executable, "-c", EVERY_NUMBER, str(errno.EDOTDOT), *map(str, numbers)]  # an error of no other cause
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {int(number): int(code) for number, code in map(str.split, done.stdout.splitlines())}


@needs_filter
@pytest.mark.usefixtures("isolated")
def test_of_all_numbers_only_the_list_reaches_the_kernel() -> None:
    assert HERE is not None
    unconditional = {number for number, call in system_calls.permitted(HERE).items() if not call.conditions}
    reached = passing(range(MOST))
    # Seccomp lets two calls of x86_64 through whatever a filter says; outside the kernel's own code for probes they
    # fail or end the process (arch/x86/kernel/uprobes.c).
    probes = {number: reached.pop(number) for number in (335, 336) if number in reached} if HERE == "x86_64" else {}
    assert set(reached) == unconditional
    assert set(probes.values()) <= {1, -signal.SIGILL}


@needs_filter
@pytest.mark.usefixtures("isolated")
def test_the_numbers_of_the_other_convention_are_refused() -> None:
    assert passing(range(X32, X32 + 600)) == {}


@needs_filter
@pytest.mark.usefixtures("isolated")
def test_the_filter_applies_to_threads_that_run_already() -> None:
    code = """
import socket, threading
from relid_sumo.sed.programs import system_calls, runner
go, told = threading.Event(), []
def work():
    go.wait()
    try:
        socket.socket()
    except OSError as error:
        told.append(error.errno)
thread = threading.Thread(target=work)
thread.start()
runner.allow_calls(system_calls.compiled(system_calls.this_machine()))
go.set()
thread.join()
print(told)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"[{errno.EPERM}]\n"


@cache
def instructions(machine: Machine) -> list[tuple[int, ...]]:
    return list(struct.iter_unpack("<HBBI", system_calls.compiled(machine)))


def verdict(machine: Machine, architecture: int, number: int, arguments: tuple[int, ...]) -> int:
    """Return what a filter decides, by running its instructions as the kernel does."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *(*arguments, *[0] * (6 - len(arguments))))
    program = instructions(machine)
    at = register = 0
    while True:
        code, jump_true, jump_false, k = program[at]
        at += 1
        if code == system_calls.RETURN:
            return int(k)
        if code == system_calls.LOAD:
            (register,) = struct.unpack_from("<I", data, k)
        elif code == system_calls.AND:
            register &= k
        else:
            assert code == system_calls.EQUAL
            at += jump_true if register == k else jump_false


NUMBERS: dict[Machine, str] = {
    "x86_64": (
        "read=0 write=1 close=3 stat=4 fstat=5 lstat=6 lseek=8 mmap=9 mprotect=10 munmap=11 brk=12 "
        "rt_sigaction=13 rt_sigprocmask=14 rt_sigreturn=15 pread64=17 sched_yield=24 mremap=25 "
        "madvise=28 nanosleep=35 getpid=39 exit=60 uname=63 fcntl=72 getcwd=79 gettimeofday=96 "
        "sysinfo=99 getuid=102 getgid=104 geteuid=107 getegid=108 getppid=110 sigaltstack=131 gettid=186 "
        "time=201 futex=202 sched_getaffinity=204 getdents64=217 restart_syscall=219 clock_gettime=228 "
        "clock_getres=229 clock_nanosleep=230 exit_group=231 openat=257 newfstatat=262 prlimit64=302 "
        "getrandom=318"
    ),
    "aarch64": (
        "getcwd=17 fcntl=25 openat=56 close=57 getdents64=61 lseek=62 read=63 write=64 pread64=67 "
        "newfstatat=79 fstat=80 exit=93 exit_group=94 futex=98 nanosleep=101 clock_gettime=113 "
        "clock_getres=114 clock_nanosleep=115 sched_getaffinity=123 sched_yield=124 restart_syscall=128 "
        "sigaltstack=132 rt_sigaction=134 rt_sigprocmask=135 rt_sigreturn=139 uname=160 gettimeofday=169 "
        "getpid=172 getppid=173 getuid=174 geteuid=175 getgid=176 getegid=177 gettid=178 sysinfo=179 "
        "brk=214 munmap=215 mremap=216 mmap=222 mprotect=226 madvise=233 prlimit64=261 getrandom=278"
    ),
}
REFUSED = system_calls.REFUSE | errno.EPERM


def test_codes_are_those_of_the_kernel() -> None:
    """linux/filter.h, linux/seccomp.h and linux/audit.h: the class of an instruction, its operation and its operand."""
    word_at, constant, equal, bitwise_and = 0x00 | 0x20, 0x00, 0x10, 0x50
    load_class, alu_class, jump_class, return_class = 0x00, 0x04, 0x05, 0x06
    assert load_class | word_at == system_calls.LOAD
    assert alu_class | bitwise_and | constant == system_calls.AND
    assert jump_class | equal | constant == system_calls.EQUAL
    assert return_class | constant == system_calls.RETURN
    assert (system_calls.KILL, system_calls.REFUSE, system_calls.ALLOW) == (1 << 31, 5 << 16, 0x7FFF << 16)
    little_endian_64_bits = 1 << 31 | 1 << 30
    assert {
        "x86_64": 62 | little_endian_64_bits,
        "aarch64": 183 | little_endian_64_bits,
    } == system_calls.AUDIT_ARCH


@pytest.mark.parametrize("machine", MACHINES)
def test_another_machines_calls_end_the_process(machine: Machine) -> None:
    for other in (0x40000003, *(arch for name, arch in system_calls.AUDIT_ARCH.items() if name != machine)):  # i386
        assert verdict(machine, other, 0, ()) == system_calls.KILL


@pytest.mark.parametrize("machine", MACHINES)
def test_every_number_is_decided_by_the_list(machine: Machine) -> None:
    permitted = system_calls.permitted(machine)
    for number in [*range(MOST), X32, X32 + 1, 2**31, 2**32 - 1]:
        call = permitted.get(number)
        met = call is not None and all(0 in condition.values for condition in call.conditions)
        assert verdict(machine, system_calls.AUDIT_ARCH[machine], number, ()) == (
            system_calls.ALLOW if met else REFUSED
        )


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "allowed"),
    [
        ("openat", (2**32 - 100, 1, 0o2000000), True),
        ("openat", (0, 1, 0o1), False),  # to write
        ("openat", (0, 1, 0o2), False),  # to read and write
        ("openat", (0, 1, 0o100), False),  # create
        ("openat", (0, 1, 0o1000), False),  # empty
        ("openat", (0, 1, 0o10000000), False),  # hold a path
        ("openat", (0, 1, 0o20000000), False),  # without a name
        ("fcntl", (0, 2**32 + 1), True),  # an int: the kernel ignores the upper half
        ("prlimit64", (0, 7, 0, 1), True),
        ("prlimit64", (0, 7, 1, 0), False),
        ("prlimit64", (0, 7, 2**32, 0), False),  # an address whose lower half is 0
        ("prlimit64", (1, 7, 0, 1), False),
        ("fcntl", (3, 1), True),
        ("fcntl", (3, 0), False),  # F_DUPFD
        ("fcntl", (3, 4), False),  # F_SETFL
        ("fcntl", (3, 1024), False),  # F_SETLEASE
        ("madvise", (0, 4096, 14), True),
        ("madvise", (0, 4096, 100), False),  # MADV_HWPOISON
        ("mmap", (0, 4096, 3, 0x22), True),
        ("mmap", (0, 4096, 3, 0x40022), False),  # MAP_HUGETLB
        ("futex", (1, 0x80), True),
        ("futex", (1, 0x189), True),
        ("futex", (1, 6), False),  # FUTEX_LOCK_PI
        ("clock_gettime", (0,), True),
        ("clock_gettime", (2**32 - 6,), False),  # of another process
        ("clock_nanosleep", (1,), True),
        ("clock_nanosleep", (9,), False),  # CLOCK_BOOTTIME_ALARM
        ("sched_getaffinity", (0,), True),
        ("sched_getaffinity", (1,), False),
    ],
)
def test_arguments_are_looked_at(machine: Machine, name: str, arguments: tuple[int, ...], allowed: bool) -> None:
    number = next(number for number, call in system_calls.permitted(machine).items() if call.name == name)
    found = verdict(machine, system_calls.AUDIT_ARCH[machine], number, arguments)
    assert found == (system_calls.ALLOW if allowed else REFUSED)


@pytest.mark.parametrize("machine", MACHINES)
def test_conditions_permit_their_values_and_no_others(machine: Machine) -> None:
    for number, call in system_calls.permitted(machine).items():
        met = {condition.argument: condition.values[0] for condition in call.conditions}
        for condition in call.conditions:
            for value in (*range(40), *(1 << bit for bit in range(32)), 2**32 - 1):
                arguments = tuple({**met, condition.argument: value}.get(i, 0) for i in range(6))
                found = verdict(machine, system_calls.AUDIT_ARCH[machine], number, arguments)
                permitted = value & condition.mask in condition.values
                assert found == (system_calls.ALLOW if permitted else REFUSED), (call.name, condition.argument, value)


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_of_calls_are_these(machine: Machine) -> None:
    """As in the kernel's tables, also where its headers are not installed (see the test below)."""
    assert (
        " ".join(f"{call.name}={number}" for number, call in sorted(system_calls.permitted(machine).items()))
        == (NUMBERS[machine])
    )


@pytest.mark.parametrize("machine", MACHINES)
def test_a_processor_without_a_list_has_no_filter(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert system_calls.this_machine() == machine
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert system_calls.this_machine() is None


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_the_kernels(machine: Machine) -> None:
    wanted = "asm-generic/unistd.h" if machine == "aarch64" else "*/asm/unistd_64.h"
    header = next(Path("/usr/include").glob(wanted), None)
    if header is None:
        pytest.skip("the kernel's headers are not installed")
    defined = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text())
    numbers = {
        {"fstatat": "newfstatat"}.get(name, name) if machine == "aarch64" else name: int(n) for name, n in defined
    }
    assert {
        call.name: number
        for number, call in system_calls.permitted(machine).items()
        if numbers.get(call.name) != number
    } == {}
