"""Programs that look for the host's environment, or for anything that identifies the host."""

from __future__ import annotations

from .program import program

PROGRAMS = (
    program(
        "os.environ",
        'import os\nprint(dict(os.environ))\nreached()\nprint(os.environ["@VARIABLE@"])',
    ),
    program(
        "os.getenv",
        'import os\nreached()\nprint(os.getenv("@VARIABLE@"), os.getenvb(b"@VARIABLE@"))',
    ),
    program("the environment by posix", "import posix\nprint(posix.environ)\nreached()"),
    program("/proc/self/environ", 'reached()\nprint(open("/proc/self/environ", "rb").read())'),
    program(
        "the environment by ctypes",
        """
import ctypes
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
print(libc.getenv(b"@VARIABLE@"))
reached()
""",
    ),
    program(
        "every text in memory",
        """
import gc
found = set()
for thing in gc.get_objects():
    for part in gc.get_referents(thing):
        if type(part) is str and ("-" in part) and part.startswith(("variable-", "file-")) and len(part) > 30:
            found.add(part)
print(found)
reached()
""",
    ),
    program(
        "all of the interpreter's memory",
        """
import ctypes, re
found = set()
for start in range(1024, 30_000_000, 1 << 20):
    chunk = ctypes.string_at(start, 1 << 20)
    found |= set(re.findall(rb"(?:variable|file)-[0-9a-f]{24}", chunk))
print(found)
reached()
""",
    ),
    program(
        "who and where",
        """
import getpass, os, platform, socket
for ask in (os.getlogin, getpass.getuser, socket.gethostname, platform.node, os.getcwd, os.uname):
    try:
        print(ask.__name__, ask())
    except Exception as error:
        print(ask.__name__, error)
reached()
""",
    ),
)
