"""Programs that start other programs, or send signals to them."""

from __future__ import annotations

from .program import program

PROGRAMS = (
    program("os.system", 'import os\nprint(os.system("touch @FOLDER@/made"))\nreached()'),
    program(
        "subprocess",
        'import subprocess\nreached()\nprint(subprocess.run(["cat", "@SECRET@"], capture_output=True).stdout)',
    ),
    program(
        "subprocess with a shell",
        'import subprocess\nreached()\nprint(subprocess.check_output("cat @SECRET@", shell=True))',
    ),
    program("os.popen", 'import os\nreached()\nprint(os.popen("cat @SECRET@").read())'),
    program(
        "os.fork",
        """
import os
reached()
child = os.fork()
if child == 0:
    open("@FOLDER@/made", "w").write("x")
    os._exit(0)
""",
    ),
    program("os.execv", 'import os\nreached()\nos.execv("/bin/cat", ["cat", "@SECRET@"])'),
    program(
        "os.posix_spawn",
        """
import ctypes, os
words = (ctypes.c_char_p * 3)(b"touch", b"@FOLDER@/made", None)
child = ctypes.c_int()
libc = ctypes.CDLL(None)
for ask in (
    lambda: os.posix_spawn("/bin/touch", ["touch", "@FOLDER@/made"], {}),
    lambda: libc.posix_spawn(ctypes.byref(child), b"/bin/touch", None, None, words, None),
    lambda: libc.execve(b"/bin/touch", words, None),
):
    reached()
    try:
        print(ask())
    except (AttributeError, OSError) as error:
        print(error)
""",
    ),
    program("pty.spawn", 'import pty\nreached()\npty.spawn(["cat", "@SECRET@"])'),
    program(
        "multiprocessing",
        """
import multiprocessing
one = multiprocessing.Process(target=print, args=("x",))
reached()
one.start()
one.join(3)
""",
    ),
    program(
        "asyncio.create_subprocess_exec",
        'import asyncio\nreached()\nprint(await asyncio.create_subprocess_exec("touch", "@FOLDER@/made"))',
    ),
    program(
        "system() of the C library",
        'import ctypes\nprint(ctypes.CDLL(None).system(b"touch @FOLDER@/made"))\nreached()',
    ),
    program(
        "a signal to the host", "import os, signal\nreached()\nos.kill(@HOST@, signal.SIGUSR1)"
    ),
    program(
        "a signal to the process group",
        "import os, signal\nreached()\nos.killpg(0, signal.SIGUSR1)",
    ),
    program(
        "kill() of the C library",
        "import ctypes\nprint(ctypes.CDLL(None).kill(@HOST@, 10))\nreached()",
    ),
    program(
        "a system call by its number",
        """
import ctypes
libc = ctypes.CDLL(None)
path = b"@FOLDER@/made"
for name, *words in (
    ("syscall", 85, path, 0o644),
    ("__syscall_openat", -100, path, 0o101, 0o644),
    ("__syscall_mkdirat", -100, path, 0o755),
    ("kill", @HOST@, 10),
):
    reached()
    try:
        print(name, getattr(libc, name)(*words))
    except (AttributeError, OSError) as error:
        print(error)
""",
    ),
    program(
        "an extension module of its own",
        """
import ctypes
def part(kind, *content):
    return bytes([kind, len(content), *content])
def text(name):
    return len(name), *name.encode()
# (import "env" "system" (func (param i32) (result i32))), exported again by a function of its own.
own = b"\\0asm\\1\\0\\0\\0" + b"".join((
    part(0, *text("dylink.0"), 1, 4, 0, 0, 0, 0),
    part(1, 1, 0x60, 1, 0x7F, 1, 0x7F),
    part(2, 1, *text("env"), *text("system"), 0, 0),
    part(3, 1, 0),
    part(7, 1, *text("run"), 0, 1),
    part(10, 1, 6, 0, 0x20, 0, 0x10, 0, 0x0B),
))
with open("/tmp/own.so", "wb") as file:
    file.write(own)
reached()
library = ctypes.CDLL("/tmp/own.so")
print("loaded", library.run(b"touch @FOLDER@/made"))
""",
    ),
    program(
        "a library of the host",
        'import ctypes\nreached()\nprint(ctypes.CDLL("libc.so.6").system(b"touch @FOLDER@/made"))',
    ),
)
