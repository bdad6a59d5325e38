"""Programs that start other programs, or send signals to them."""

from __future__ import annotations

from .program import program

PROGRAMS = (
    program("os.system", 'import os\nprint(os.system("touch @FOLDER@/made"))'),
    program(
        "subprocess",
        'import subprocess\nprint(subprocess.run(["cat", "@SECRET@"], capture_output=True).stdout)',
    ),
    program(
        "subprocess with a shell",
        'import subprocess\nprint(subprocess.check_output("cat @SECRET@", shell=True))',
    ),
    program("os.popen", 'import os\nprint(os.popen("cat @SECRET@").read())'),
    program(
        "os.fork",
        """
import os
child = os.fork()
if child == 0:
    open("@FOLDER@/made", "w").write("x")
    os._exit(0)
""",
    ),
    program("os.execv", 'import os\nos.execv("/bin/cat", ["cat", "@SECRET@"])'),
    program(
        "os.posix_spawn",
        'import os\nprint(os.posix_spawn("/bin/touch", ["touch", "@FOLDER@/made"], {}))',
    ),
    program("pty.spawn", 'import pty\npty.spawn(["cat", "@SECRET@"])'),
    program(
        "multiprocessing",
        """
import multiprocessing
one = multiprocessing.Process(target=print, args=("x",))
one.start()
one.join(3)
""",
    ),
    program(
        "asyncio.create_subprocess_exec",
        'import asyncio\nprint(await asyncio.create_subprocess_exec("touch", "@FOLDER@/made"))',
    ),
    program(
        "system() of the C library",
        'import ctypes\nprint(ctypes.CDLL(None).system(b"touch @FOLDER@/made"))',
    ),
    program("a signal to the host", "import os, signal\nos.kill(@HOST@, signal.SIGUSR1)"),
    program("a signal to the process group", "import os, signal\nos.killpg(0, signal.SIGUSR1)"),
    program("kill() of the C library", "import ctypes\nprint(ctypes.CDLL(None).kill(@HOST@, 10))"),
    program("a system call by its number", "import ctypes\nprint(ctypes.CDLL(None).syscall(39))"),
    program(
        "an extension module of its own",
        """
import ctypes, os
with open("/tmp/own.so", "wb") as file:
    file.write(b"\\0asm\\1\\0\\0\\0" + os.urandom(64))
print(ctypes.CDLL("/tmp/own.so"))
""",
    ),
    program(
        "a library of the host",
        'import ctypes\nprint(ctypes.CDLL("libc.so.6").system(b"touch @FOLDER@/made"))',
    ),
)
