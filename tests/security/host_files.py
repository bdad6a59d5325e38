"""Programs that look for files of the host: to read one, to write one, to list a folder."""

from __future__ import annotations

from .program import program

PROGRAMS = (
    program("open the file", 'reached()\nprint(open("@SECRET@").read())'),
    program(
        "os.open and os.read",
        'import os\nreached()\nprint(os.read(os.open("@SECRET@", os.O_RDONLY), 999))',
    ),
    program(
        "list the folder",
        'import os\nreached()\nprint(os.listdir("@FOLDER@"))\nprint(open(os.path.join("@FOLDER@", os.listdir("@FOLDER@")[0])).read())',
    ),
    program(
        "walk from the root",
        """
import os
for folder, _, files in os.walk("/"):
    for name in files:
        if name == "secret.txt":
            print(open(os.path.join(folder, name)).read())
reached()
""",
    ),
    program(
        "climb out of the working directory",
        'reached()\nprint(open("../" * 40 + "@SECRET@"[1:]).read())',
    ),
    program(
        "write into the folder",
        'reached()\nopen("@FOLDER@/planted", "w").write("x")\nprint("written")',
        ends=("completed", "failed"),
    ),
    program("overwrite the file", 'reached()\nopen("@SECRET@", "w").write("x")'),
    program("remove the file", 'import os\nreached()\nos.remove("@SECRET@")'),
    program(
        "make the folder and write there",
        """
import os
os.makedirs("@FOLDER@", exist_ok=True)
with open("@FOLDER@/planted", "w") as file:
    file.write("x")
    file.flush()
    os.fsync(file.fileno())
os.sync()
reached()
""",
    ),
    program("rename the file", 'import os\nreached()\nos.rename("@SECRET@", "@FOLDER@/other")'),
    program(
        "a link to the file",
        'import os\nos.symlink("@SECRET@", "/tmp/link")\nreached()\nprint(open("/tmp/link").read())',
    ),
    program(
        "the file by pathlib",
        'import pathlib\nreached()\nprint(pathlib.Path("@SECRET@").read_text())',
    ),
    program(
        "the file by a URL",
        'import urllib.request\nreached()\nprint(urllib.request.urlopen("file://@SECRET@").read())',
    ),
    program(
        "the file as a module",
        """
import importlib.machinery, importlib.util
loader = importlib.machinery.SourceFileLoader("planted", "@SECRET@")
spec = importlib.util.spec_from_file_location("planted", "@SECRET@", loader=loader)
module = importlib.util.module_from_spec(spec)
reached()
spec.loader.exec_module(module)
""",
    ),
    program(
        "the file by linecache",
        'import linecache\nreached()\nprint(linecache.getlines("@SECRET@"))',
    ),
    program(
        "the file by sqlite",
        'import sqlite3\nreached()\nprint(sqlite3.connect("@SECRET@").execute("select 1").fetchall())',
    ),
    program(
        "the file as a zip of modules",
        'import sys, zipfile\nsys.path.insert(0, "@SECRET@")\nreached()\nprint(zipfile.ZipFile("@SECRET@").namelist())',
    ),
    program(
        "the system's files",
        """
import pathlib
for path in ("/etc/passwd", "/etc/hostname", "/proc/version", "/proc/1/cmdline", "/etc/resolv.conf"):
    reached()
    try:
        found = pathlib.Path(path).read_bytes()
    except OSError as error:
        print(path, error)
        continue
    if found and path.startswith("/etc/passwd") and b"root" in found:
        print("ESC" + "APED", found[:60])
""",
    ),
    program(
        "the host's process",
        """
import pathlib
for path in ("environ", "cmdline", "cwd/pyproject.toml", "maps", "mem", "fd/0", "root@SECRET@"):
    reached()
    try:
        with open(f"/proc/@HOST@/{path}", "rb") as file:
            print(path, file.read(2000))
    except OSError as error:
        print(path, error)
""",
    ),
    program(
        "mount the host's disk through Emscripten",
        """
import ctypes, sys
found = []
for name in ("pyodide_js", "_pyodide_core", "js", "_pyodide", "pyodide.ffi"):
    for module in (sys.modules.get(name), getattr(sys.modules.get("pyodide"), name, None)):
        for attribute in ("FS", "_module", "Module", "mountNativeFS"):
            thing = getattr(module, attribute, None)
            if thing is None:
                continue
            found.append((name, attribute))
            fs = getattr(thing, "FS", thing)
            try:
                fs.mkdir("/host")
                fs.mount(fs.filesystems.NODEFS, {"root": "@FOLDER@"}, "/host")
                print(open("/host/secret.txt").read())
            except Exception as error:
                print(type(error), error)
libc = ctypes.CDLL(None)
for call in ("mount", "wasmfs_mount", "wasmfs_create_node_backend"):
    reached()
    try:
        print(call, getattr(libc, call)(b"@FOLDER@", b"/host", b"nodefs", 0, 0))
        print(open("/host/secret.txt").read())
    except Exception as error:
        print(call, type(error), error)
print(found)
""",
    ),
    program(
        "the devices",
        """
import os
for name in sorted(os.listdir("/dev")):
    print(name)
    if name in ("sda", "mem", "kmem", "vda"):
        print("ESC" + "APED", name)
reached()
""",
    ),
    program(
        "file descriptors that are open",
        """
import os
for number in range(3, 64):
    try:
        found = os.read(number, 4096)
    except OSError:
        continue
    print(number, found[:200])
reached()
""",
    ),
)
