"""The operating system's wall, by itself: behind it, even a Deno with all rights can do nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sandbox_runtime import executable
from sandbox_runtime.wall import NO_WALL, Wall, behind, survey

OFFERED = survey()
pytestmark = pytest.mark.skipif(not OFFERED, reason="this system offers no such wall")

LANDLOCK = Wall(landlock=OFFERED.landlock)
SECCOMP = Wall(seccomp=OFFERED.seccomp)

# What each attempt is, in JavaScript; each is a function that must not come to its end.
FILES = {
    "read": "() => Deno.readTextFileSync(secret)",
    "list": "() => [...Deno.readDirSync(folder)].length",
    "write": "() => Deno.writeTextFileSync(folder + '/new', 'x')",
    "append": "() => Deno.writeTextFileSync(secret, 'x', {append: true})",
    "remove": "() => Deno.removeSync(secret)",
    "rename": "() => Deno.renameSync(secret, folder + '/other')",
    "make a folder": "() => Deno.mkdirSync(folder + '/made')",
    "link": "() => Deno.linkSync(secret, folder + '/linked')",
    "truncate": "() => Deno.truncateSync(secret)",
    "environment of the host": "() => Deno.readTextFileSync(`/proc/${Deno.ppid}/environ`)",
    "run a shell": "() => new Deno.Command('/bin/sh', {args: ['-c', 'true']}).outputSync()",
    "a library's shell": (
        "() => { const code = Deno.dlopen(libc, {system: {parameters: ['buffer'], result: 'i32'}})"
        ".symbols.system(new TextEncoder().encode('true\\0'));"
        " if (code !== 0) throw new Error(`exit ${code}`) }"
    ),
}
SOCKETS = {
    "connect": "async () => (await Deno.connect({port})).close()",
    "fetch": "() => fetch(`http://127.0.0.1:${port}`)",
    "listen": "() => Deno.listen({port: 0})",
    "udp": "() => Deno.listenDatagram({port: 0, transport: 'udp', hostname: '127.0.0.1'})",
    "unix socket": "() => Deno.listen({transport: 'unix', path: folder + '/s'})",
}
PROCESSES = {"signal to the host": "() => Deno.kill(Deno.ppid, 'SIGUSR1')"}


@pytest.fixture
def attempted(tmp_path, monkeypatch):
    """Makes attempts in a Deno with all rights; what came of each, `done` or an error."""
    secret = tmp_path / "kept" / "secret"
    secret.parent.mkdir()
    secret.write_text("secret")
    heard = []
    monkeypatch.setattr(threading, "excepthook", heard.append)
    old = signal.signal(signal.SIGUSR1, lambda *_: heard.append("signal"))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def attempt(wall, attempts):
            names = {
                "secret": str(secret),
                "folder": str(secret.parent),
                "libc": "libc.so.6",
                "port": server.getsockname()[1],
            }
            program = tmp_path / "attempts.js"
            program.write_text(
                f"const {{secret, folder, libc, port}} = {json.dumps(names)};\n"
                f"const attempts = {{{', '.join(f'{json.dumps(n)}: {f}' for n, f in attempts.items())}}};\n"
                "const said = {};\n"
                "for (const [name, work] of Object.entries(attempts)) {\n"
                "  try { await work(); said[name] = 'done' } catch (error) { said[name] = String(error) }\n"
                "}\n"
                "console.log(JSON.stringify(said)); Deno.exit(0);\n"
            )
            command = [
                str(executable.find_deno()),
                "run",
                "--allow-all",
                "--unstable-net",
                str(program),
            ]

            def start():
                return subprocess.run(
                    command,
                    env={"DENO_DIR": "/dev/null/none", "NO_COLOR": "1"},
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )

            done = behind(start, wall, Path(command[0]), [program])
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        yield attempt
    signal.signal(signal.SIGUSR1, old)


def test_without_it_the_attempts_come_through(attempted):
    """So it is the wall that holds, not a mistake in the attempts."""
    said = attempted(NO_WALL, {n: f for n, f in FILES.items() if n not in ("remove", "rename")})
    said |= attempted(NO_WALL, {n: SOCKETS[n] for n in ("connect", "listen", "udp", "unix socket")})
    said |= attempted(NO_WALL, PROCESSES)

    assert set(said.values()) == {"done"}, said


@pytest.mark.skipif(not OFFERED.landlock, reason="this system has no Landlock")
def test_landlock_alone(attempted):
    """No file is read, made or changed, and no program is run."""
    said = attempted(LANDLOCK, FILES)

    assert {name for name, outcome in said.items() if outcome == "done"} == set()


@pytest.mark.skipif(OFFERED.landlock < 4, reason="this Landlock knows no network")
def test_landlock_and_the_network(attempted):
    """Neither out nor in, by TCP."""
    said = attempted(LANDLOCK, {name: SOCKETS[name] for name in ("connect", "fetch", "listen")})

    assert "done" not in said.values(), said


@pytest.mark.skipif(not OFFERED.seccomp, reason="this system has no seccomp")
def test_seccomp_alone(attempted):
    """No socket of any kind, and no signal to another process."""
    said = attempted(SECCOMP, SOCKETS | PROCESSES)

    assert "done" not in said.values(), said


def test_both(attempted):
    """They do not get in each other's way."""
    said = attempted(OFFERED, FILES | SOCKETS | PROCESSES)

    assert "done" not in said.values(), said


# Calls by their number, which no program needs that only computes.
CALLS = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
said = {}
for name, *call in json.loads(sys.argv[1]):
    ctypes.set_errno(0)
    said[name] = ctypes.get_errno() if libc.syscall(*call) == -1 else 0
print(json.dumps(said))
"""


@pytest.mark.skipif(not OFFERED.seccomp, reason="this system has no seccomp")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are of this machine")
def test_calls_that_are_refused():
    """Each gives EPERM, also by the numbers of the other kind of program that the machine runs."""
    calls = [
        ("ptrace", 101, 0, 0, 0, 0),
        ("io_uring_setup", 425, 1, 0),
        ("bpf", 321, 0, 0, 0),
        ("userfaultfd", 323, 0),
        ("process_vm_readv", 310, 1, 0, 0, 0, 0, 0),
        ("keyctl", 250, 0, 0, 0, 0, 0),
        ("unshare", 272, 0x10000000),
        ("clone into a new user namespace", 56, 0x10000000 | 17, 0, 0, 0, 0),
        ("mount", 165, 0, 0, 0, 0, 0),
        ("memfd by the numbers of x32", 319 | 0x40000000, 0, 0),
    ]
    python = Path(sys.executable).resolve()

    def start():
        command = [python, "-I", "-S", "-c", CALLS, json.dumps(calls)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    done = behind(start, SECCOMP, python)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {name: 1 for name, *_ in calls}


def test_nothing_else_of_this_process_is_bound():
    """Only the thread that started the other process was, and it is gone."""
    behind(lambda: None, OFFERED, Path(sys.executable))

    assert Path(__file__).read_text()
    socket.create_server(("127.0.0.1", 0)).close()
    assert not [thread for thread in threading.enumerate() if thread.name == "sandbox-start"]


def test_what_goes_wrong_reaches_the_caller(tmp_path):
    """As it would without a wall."""
    with pytest.raises(FileNotFoundError):
        behind(lambda: subprocess.Popen([tmp_path / "none"]), OFFERED, tmp_path / "none")


def test_a_session_is_behind_it():
    """As the kernel tells of its process."""
    from sandbox_runtime import open_session

    with open_session() as session:
        status = Path(f"/proc/{session.pid}/status").read_text()

    assert "NoNewPrivs:\t1" in status
    assert f"Seccomp:\t{2 if OFFERED.seccomp else 0}" in status
