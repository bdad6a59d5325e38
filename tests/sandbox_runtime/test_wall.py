"""Confinement by the operating system, tested separately: native code and a Deno with all permissions can do nothing.

Native code is `native.py`; what it attempts is judged by its effects: other processes, files and their
metadata are looked at before and after.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sandbox_runtime import Completed, Limits, Pool, Session, WallMissingError, open_session
from sandbox_runtime.engine import deno as executable
from sandbox_runtime.isolation import launcher
from sandbox_runtime.isolation.os_isolation import NO_WALL, Wall, detect, run_confined
from sandbox_runtime.open import ready_engine
from sandbox_runtime.rpc.process import Process
from tests.sandbox_runtime import native

OFFERED = detect()
pytestmark = pytest.mark.skipif(not OFFERED, reason="this system offers no such wall")

LANDLOCK = Wall(landlock=OFFERED.landlock)
SECCOMP = Wall(seccomp=OFFERED.seccomp, gate=OFFERED.gate)
PYTHON = Path(sys.executable).resolve()

# The attempts, in JavaScript; each is a function that must not complete.
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
    """Makes attempts in a Deno with all permissions; returns `done` or an error for each."""
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

            with run_confined(wall, Path(command[0]), [program]) as launch:
                done = subprocess.run(
                    command,
                    env={"DENO_DIR": "/dev/null/none", "NO_COLOR": "1"},
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                    **launch.options,
                )
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        yield attempt
    signal.signal(signal.SIGUSR1, old)


def test_without_it_the_attempts_come_through(attempted):
    """Without the wall the attempts succeed, so they are valid."""
    said = attempted(NO_WALL, {n: f for n, f in FILES.items() if n not in ("remove", "rename")})
    said |= attempted(NO_WALL, {n: SOCKETS[n] for n in ("connect", "listen", "udp", "unix socket")})
    said |= attempted(NO_WALL, PROCESSES)

    assert set(said.values()) == {"done"}, said


@pytest.mark.skipif(not OFFERED.landlock, reason="this system has no Landlock")
def test_landlock_alone(attempted):
    """Landlock alone: no file is read, created or changed, and no program runs."""
    said = attempted(LANDLOCK, FILES)

    assert {name for name, outcome in said.items() if outcome == "done"} == set()


@pytest.mark.skipif(OFFERED.landlock < 4, reason="this Landlock knows no network")
def test_landlock_and_the_network(attempted):
    """Landlock alone: no TCP connection in either direction."""
    said = attempted(LANDLOCK, {name: SOCKETS[name] for name in ("connect", "fetch", "listen")})

    assert "done" not in said.values(), said


@pytest.mark.skipif(not OFFERED.seccomp, reason="this system has no seccomp")
def test_seccomp_alone(attempted):
    """seccomp alone: no socket of any kind, and no signal to another process."""
    said = attempted(SECCOMP, SOCKETS | PROCESSES)

    assert "done" not in said.values(), said


def test_both(attempted):
    """Landlock and seccomp work together."""
    said = attempted(OFFERED, FILES | SOCKETS | PROCESSES)

    assert "done" not in said.values(), said


# ---- Native code -----------------------------------------------------------------------------------

on_x86_64 = pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="the numbers of `native.py` are those of this machine"
)
needs_seccomp = pytest.mark.skipif(not OFFERED.seccomp, reason="this system has no seccomp")
needs_gate = pytest.mark.skipif(not OFFERED.gate, reason="this system's seccomp has no gate")

FULL_AND_SECCOMP = pytest.mark.parametrize(
    "wall", [OFFERED, SECCOMP], ids=["both", "seccomp alone"]
)


class Surroundings:
    """A process and a folder with a file outside of the wall, and their state."""

    def __init__(self, folder):
        self.folder = folder / "outside"
        (self.folder / "empty").mkdir(parents=True)
        self.file = self.folder / "file"
        self.file.write_text("kept")
        self.file.chmod(0o640)
        self.attributes = True
        try:
            os.setxattr(self.file, "user.kept", b"1")
        except OSError:  # not every file system has them
            self.attributes = False
        self.victim = subprocess.Popen(
            [PYTHON, "-I", "-S", "-c", "import time; print(flush=True); time.sleep(600)"],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.victim.stdout.readline()

    def facts(self):
        return {
            "victim": self.victim.pid,
            "nobody": 2**22 + 1,  # PID_MAX_LIMIT is 2**22
            "host": os.getpid(),
            "user": os.getuid(),
            "file": str(self.file),
            "folder": str(self.folder),
            "missing": str(self.folder / "missing"),
            "program": str(PYTHON),
            "library": json.__file__,
        }

    def processes(self):
        """Returns the state of the other process that an attack could change."""
        pid = self.victim.pid
        status = Path(f"/proc/{pid}/status").read_text()
        return {
            "ended": self.victim.poll(),
            "limits": Path(f"/proc/{pid}/limits").read_text(),
            "nice": os.getpriority(os.PRIO_PROCESS, pid),
            "own nice": os.getpriority(os.PRIO_PROCESS, 0),
            "processors": os.sched_getaffinity(pid),
            "policy": os.sched_getscheduler(pid),
            "group": os.getpgid(pid),
            "i/o priority": native.call("ioprio_get", 1, pid),
            "traced by": status.split("TracerPid:")[1].split()[0],
            "stopped": status.split("State:")[1].split()[0] in "Tt",
        }

    def files(self):
        """Returns the state of the files that an attack could change, except for access times."""

        def about(path):
            found = path.lstat()
            kept = os.listxattr(path, follow_symlinks=False) if self.attributes else []
            return (found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_nlink,
                    found.st_mtime_ns, found.st_ctime_ns, kept)  # fmt: skip

        return {str(path): about(path) for path in (self.folder, *self.folder.rglob("*"))}


@pytest.fixture
def outside(tmp_path):
    """The surroundings outside of the wall."""
    surroundings = Surroundings(tmp_path)
    yield surroundings
    surroundings.victim.kill()
    surroundings.victim.communicate()


@pytest.fixture
def attack(outside):
    """Runs a group of attempts in native code; returns each result, and the state of the process."""

    def attack(wall, group, *, sealed=True):
        facts = {**outside.facts(), "group": group, "walled": bool(wall.seccomp)}
        program = Path(native.__file__)
        command = [PYTHON, "-I", "-S", "-B", program, json.dumps(facts)]
        readable = [Path(os.__file__).parent, program]
        with run_confined(wall, PYTHON, readable) as launch:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                **launch.options,
            )
        try:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            if sealed:
                launch.seal()
            process.stdin.write("go\n")
            process.stdin.flush()
            said = process.stdout.readline()
            assert said, process.stderr.read()
            children = [
                child
                for path in Path(f"/proc/{process.pid}/task").glob("*/children")
                for child in path.read_text().split()
            ]
            session = os.getsid(process.pid)
        finally:
            launch.seal()
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert session == process.pid
        return json.loads(said), children

    return attack


@on_x86_64
class TestWithoutTheWall:
    """Without the wall the same attempts succeed, so they are valid."""

    def test_other_processes(self, attack, outside):
        """Without the wall another process is changed and killed."""
        before = outside.processes()
        attack(NO_WALL, "processes")
        outside.victim.wait(60)

        assert before["ended"] is None
        assert outside.victim.returncode == -9

    def test_what_is_found(self, attack):
        """Without the wall each call tells whether there is a process."""
        said, _ = attack(NO_WALL, "found")

        assert {name for name in native.FOUND if found(said, name)} == {*native.FOUND}

    def test_files(self, attack, outside):
        """Without the wall files are changed."""
        before = outside.files()
        attack(NO_WALL, "files")

        assert outside.files() != before

    def test_starts(self, attack):
        """Without the wall processes are started."""
        said, children = attack(NO_WALL, "starts")

        assert len(children) >= 2
        assert said["fork"] > 0

    def test_what_is_told(self, attack):
        """Without the wall the existence of a file is revealed."""
        said, _ = attack(NO_WALL, "told")

        assert {name for name in native.ASKED if differs(said, name)} == {*native.ASKED}


def found(said, name):
    """Returns whether the answer about a process differs from that about a number that none has."""
    return said[f"{name} of a process"] != said[f"{name} of nothing"]


def differs(said, name):
    """Returns whether the answer about a file differs from that about a missing file."""
    there, missing = said[f"{name} of a file"], said[f"{name} of nothing"]
    return there >= 0 or there != missing


@on_x86_64
@needs_seccomp
@FULL_AND_SECCOMP
class TestNativeCode:
    """Native code behind the whole wall, and behind the filter alone."""

    def test_other_processes(self, attack, outside, wall):
        """Another process is not signalled, changed, inspected or slowed."""
        before = outside.processes()
        said, _ = attack(wall, "processes")

        assert {name for name, result in said.items() if result >= 0} == set()
        assert outside.processes() == before

    def test_what_is_found(self, attack, wall):
        """No call tells whether there is another process."""
        said, _ = attack(wall, "found")

        assert {name: result for name, result in said.items() if result not in (-1, -38)} == {}
        assert {name for name in native.FOUND if found(said, name)} == set()

    def test_files(self, attack, outside, wall):
        """No file is created, changed or removed, and no metadata changes."""
        before = outside.files()
        said, _ = attack(wall, "files")

        assert {name for name, result in said.items() if result >= 0} == set()
        assert outside.files() == before
        assert outside.file.read_text() == "kept"

    def test_starts(self, attack, wall):
        """No process starts, not even the same program again, and the process stays in its group."""
        said, children = attack(wall, "starts")

        assert {name for name, result in said.items() if result >= 0} == set()
        assert children == []

    @needs_gate
    def test_what_is_told(self, attack, wall):
        """After sealing, the existence of a file is not revealed."""
        said, _ = attack(wall, "told")

        assert {name for name in native.ASKED if differs(said, name)} == set()

    @needs_gate
    def test_what_is_opened(self, attack, wall):
        """After sealing, nothing can be opened: no folder, no library, nothing in /proc."""
        said, _ = attack(wall, "listed")

        assert {name for name, result in said.items() if result >= 0} == set()

    def test_the_machine(self, attack, wall):
        """Nothing about the machine is revealed or changed, and no bypass works."""
        said, _ = attack(wall, "machine")

        assert {name: result for name, result in said.items() if result not in (-1, -38)} == {}


@on_x86_64
@needs_seccomp
def test_before_it_is_sealed(attack, outside):
    """Before sealing, libraries can be read; the rest is enforced from the first instruction."""
    before = outside.files()
    said, _ = attack(OFFERED, "listed", sealed=False)
    changed, _ = attack(OFFERED, "files", sealed=False)

    assert {name for name, result in said.items() if result >= 0} == {"a library"}
    assert not [name for name, result in changed.items() if result >= 0]
    assert outside.files() == before


# The attempts above that Landlock alone prevents.
CONTENT = {"truncate", "write", "append", "make a file", "make a file without a name", "creat", "mknod",
           "mknodat", "mkdir", "mkdirat", "link", "linkat", "symlink", "symlinkat", "rename", "renameat",
           "renameat2", "unlink", "unlinkat", "rmdir"}  # fmt: skip
SIGNALS = {"kill", "kill the group", "tkill", "tgkill", "rt_sigqueueinfo", "pidfd"}


@on_x86_64
@pytest.mark.skipif(OFFERED.landlock < 3, reason="this Landlock does not know of truncation")
def test_files_behind_landlock_alone(attack, outside):
    """Landlock alone protects content and names; metadata needs the filter."""
    said, _ = attack(LANDLOCK, "files")

    assert {name for name in CONTENT if said[name] >= 0} == set()
    assert outside.file.read_text() == "kept"
    assert {path.name for path in outside.folder.iterdir()} == {"file", "empty"}


@on_x86_64
@pytest.mark.skipif(OFFERED.landlock < 6, reason="this Landlock does not know of signals")
def test_signals_behind_landlock_alone(attack, outside):
    """Landlock alone blocks signals, and access to another process's memory."""
    said, _ = attack(LANDLOCK, "processes")

    assert {name for name in SIGNALS | {"memory"} if said[name] >= 0} == set()


@needs_seccomp
def test_a_call_of_32_bits_ends_the_process():
    """32-bit calls have other numbers, to which the filter's rules do not apply."""
    code = (
        "import ctypes, mmap\n"
        "page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)\n"
        # mov eax, 20 (getpid); int 0x80; ret
        "page.write(bytes.fromhex('b814000000cd80c3'))\n"
        "print('before', flush=True)\n"
        "address = ctypes.addressof(ctypes.c_char.from_buffer(page))\n"
        "print('after', ctypes.CFUNCTYPE(ctypes.c_int)(address)(), flush=True)\n"
    )
    if os.uname().machine != "x86_64":
        pytest.skip("the instructions are of this machine")
    done = run_python(SECCOMP, code)

    assert (done.returncode, done.stdout) == (-signal.SIGSYS, "before\n")


def run_python(wall, code):
    """Runs Python code behind a wall."""
    with run_confined(wall, PYTHON, [Path(os.__file__).parent]) as launch:
        return subprocess.run(
            [PYTHON, "-I", "-S", "-B", "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **launch.options,
        )


@needs_seccomp
def test_its_own_signals_and_threads():
    """A confined process may abort itself, and start threads."""
    done = run_python(
        OFFERED, "import threading as t; t.Thread(target=print, args=('in',)).start()"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "in\n", "")

    assert run_python(OFFERED, "import os; os.abort()").returncode == -signal.SIGABRT


# ---- Deno with all rights --------------------------------------------------------------------------


@needs_seccomp
def test_no_other_deno_outlives_it(attempted):
    """A Deno with all permissions cannot start another one, inside or outside of its group."""
    deno = json.dumps(str(executable.find_deno()))
    said = attempted(
        OFFERED,
        {
            "another": f"() => new Deno.Command({deno}, {{args: ['--version']}}).outputSync()",
            "detached": f"() => new Deno.Command({deno}, {{args: ['--version'], detached: true}}).spawn()",
            "chmod": "() => Deno.chmodSync(secret, 0o777)",
            "chown": "() => Deno.chownSync(secret, 12345, 12345)",
            "utime": "() => Deno.utimeSync(secret, 1000, 1000)",
        },
    )

    assert {name for name, outcome in said.items() if outcome == "done"} == set()


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="this system cannot look at a child's end")
@pytest.mark.parametrize("ends", ["is killed", "ends by itself"])
def test_what_is_left_of_a_group(ends):
    """Without a wall, the processes that it has started are killed with it."""
    code = (
        "import os, sys, time\n"
        "child = os.fork()\n"
        "if child == 0: time.sleep(600)\n"
        "print(child, flush=True)\n"
        "sys.stdin.readline()\n"
    )
    process = Process([str(PYTHON), "-I", "-S", "-c", code], {}, 2**32)
    space = bytearray(100)
    child = int(space[: process.read_into(memoryview(space))])
    if ends == "is killed":
        process.kill()
    else:
        process.write([b"\n"])
    process.wait(60)

    deadline = time.monotonic() + 60
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(child)
    process.release()


def alive(pid):
    """Returns whether a process runs; an ended one may still be unreaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


# ---- The start -------------------------------------------------------------------------------------


def test_nothing_of_this_process_is_bound():
    """Only the started process is confined, in its first instructions."""
    with run_confined(OFFERED, PYTHON, [Path(os.__file__).parent]) as launch:
        subprocess.run([PYTHON, "-I", "-S", "-c", ""], check=True, timeout=60, **launch.options)
    launch.seal()

    assert Path(__file__).read_text()
    socket.create_server(("127.0.0.1", 0)).close()
    subprocess.run([PYTHON, "-I", "-S", "-c", ""], check=True, timeout=60)
    assert not [thread for thread in threading.enumerate() if thread.name == "sandbox-gate"]


def descriptors():
    """Returns the open file descriptors of this process."""
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_no_descriptor_is_left():
    """No descriptor leaks, neither here nor in the started process."""
    before = descriptors()
    for _ in range(3):
        with run_confined(OFFERED, PYTHON, [Path(os.__file__).parent, Path("/proc")]) as launch:
            done = subprocess.run(
                [PYTHON, "-I", "-S", "-c", "import os; print(sorted(os.listdir('/proc/self/fd')))"],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
                **launch.options,
            )
        launch.seal()

    assert descriptors() == before
    assert done.stdout == "['0', '1', '2', '3']\n"  # 3 is the listing itself


def test_a_start_that_does_not_happen():
    """A start that is abandoned leaves neither a descriptor nor a thread."""
    before = descriptors()
    with run_confined(OFFERED, PYTHON) as launch:
        pass
    launch.seal()

    assert descriptors() == before
    assert not [thread for thread in threading.enumerate() if thread.name == "sandbox-gate"]


@needs_gate
def test_a_fork_of_the_host_keeps_no_gate_open():
    """A forked child holds no second listener, for which the sealed process would wait forever."""
    code = (
        "import sys\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "try: open('/')\n"
        "except OSError as error: print(error.errno, flush=True)\n"
    )
    with run_confined(OFFERED, PYTHON, [Path(os.__file__).parent]) as launch:
        process = subprocess.Popen(
            [PYTHON, "-I", "-S", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **launch.options,
        )
    assert process.stdout.readline() == "ready\n"
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    launch.seal()
    try:
        said, _ = process.communicate("go\n", timeout=60)
    finally:
        os.close(writing)
        os.waitpid(child, 0)
        process.kill()

    assert said == "38\n"


def test_what_goes_wrong_reaches_the_caller(tmp_path):
    """Errors of the start are raised as without a wall."""
    with pytest.raises(FileNotFoundError), run_confined(OFFERED, tmp_path / "none"):
        pass
    (tmp_path / "data").write_text("no program")
    with pytest.raises(PermissionError), run_confined(OFFERED, tmp_path / "data"):
        pass


def test_a_launcher_that_fails(tmp_path):
    """A failed launcher exits with its own code before the program runs."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\ntouch " + str(tmp_path / "ran"))
    program.chmod(0o755)
    with run_confined(OFFERED, program) as launch:
        done = subprocess.run([program], check=False, timeout=60, **launch.options)

    assert done.returncode >= launcher.FAILED
    assert not (tmp_path / "ran").exists()


# ---- Sessions --------------------------------------------------------------------------------------


def test_a_session_is_behind_it():
    """The kernel reports the session's process as confined."""
    with open_session(require_wall=OFFERED.complete) as session:
        status = Path(f"/proc/{session.pid}/status").read_text()

    assert "NoNewPrivs:\t1" in status
    assert f"Seccomp:\t{2 if OFFERED.seccomp else 0}" in status


@pytest.mark.sampled(2)
@pytest.mark.parametrize("wall", [OFFERED, SECCOMP, LANDLOCK, NO_WALL], ids=str)
def test_sessions_behind_each_part(wall):
    """Cells, time zones, checkpoints and V8's threads work behind any part of it."""
    if wall != OFFERED and str(wall) == "none" and wall:
        pytest.skip("this system does not offer it")
    engine = dataclasses.replace(ready_engine(), wall=wall)
    with Session(engine, Limits()) as session:
        result = session.run_cell(
            "import datetime, os, random\n"
            "print(len(os.urandom(8)), random.random() < 1, datetime.datetime.now().year > 2000)\n"
            "sum(bytearray(50_000_000))"
        )
        state = session.checkpoint()
    with Session(engine, Limits(), restore=state) as session:
        again = session.run_cell("os.getcwd()")

    assert result == Completed("8 True True\n0\n")
    assert isinstance(again, Completed)


class TestRequired:
    """With `require_wall`, nothing starts without the complete wall."""

    def test_there_is_one(self):
        """With a complete wall, the setting has no effect."""
        if not OFFERED.complete:
            pytest.skip("this system does not offer it")
        pool = Pool(1, require_wall=True)
        with pool.lend(limits=Limits()) as session:
            assert session.limits.require_wall
            assert session.run_cell("1") == Completed("1\n")
        pool.close()

    @pytest.mark.parametrize("wall", [NO_WALL, LANDLOCK, Wall(seccomp=True)], ids=str)
    def test_there_is_less(self, wall, deno_children):
        """With an incomplete wall, the error says so, and no process was started."""
        engine = dataclasses.replace(ready_engine(), wall=wall)
        before = deno_children()

        with pytest.raises(
            WallMissingError, match="require_wall asks for the whole wall"
        ) as caught:
            Session(engine, Limits(require_wall=True))

        assert deno_children() == before
        assert caught.value.shortcomings
        assert "python -m sandbox_runtime doctor" in str(caught.value)
