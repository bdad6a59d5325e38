"""Programs that look for files of the host: to read one, to write one, to list a folder."""

from __future__ import annotations

from .program import program

PROGRAMS = (
    program("open the file", 'print(open("@SECRET@").read())'),
    program(
        "os.open and os.read", 'import os\nprint(os.read(os.open("@SECRET@", os.O_RDONLY), 999))'
    ),
    program(
        "list the folder",
        'import os\nprint(os.listdir("@FOLDER@"))\nprint(open(os.path.join("@FOLDER@", os.listdir("@FOLDER@")[0])).read())',
    ),
    program(
        "walk from the root",
        """
import os
for folder, _, files in os.walk("/"):
    for name in files:
        if name == "secret.txt":
            print(open(os.path.join(folder, name)).read())
""",
    ),
    program(
        "climb out of the working directory", 'print(open("../" * 40 + "@SECRET@"[1:]).read())'
    ),
    program(
        "write into the folder",
        'open("@FOLDER@/planted", "w").write("x")\nprint("written")',
        ends=("completed", "failed"),
    ),
    program("overwrite the file", 'open("@SECRET@", "w").write("x")'),
    program("remove the file", 'import os\nos.remove("@SECRET@")'),
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
""",
    ),
    program("rename the file", 'import os\nos.rename("@SECRET@", "@FOLDER@/other")'),
    program(
        "a link to the file",
        'import os\nos.symlink("@SECRET@", "/tmp/link")\nprint(open("/tmp/link").read())',
    ),
    program("the file by pathlib", 'import pathlib\nprint(pathlib.Path("@SECRET@").read_text())'),
    program(
        "the file by a URL",
        'import urllib.request\nprint(urllib.request.urlopen("file://@SECRET@").read())',
    ),
    program(
        "the file as a module",
        """
import importlib.util
spec = importlib.util.spec_from_file_location("planted", "@SECRET@")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
""",
    ),
    program("the file by linecache", 'import linecache\nprint(linecache.getlines("@SECRET@"))'),
    program(
        "the file by sqlite",
        'import sqlite3\nprint(sqlite3.connect("@SECRET@").execute("select 1").fetchall())',
    ),
    program(
        "the file as a zip of modules",
        'import sys, zipfile\nsys.path.insert(0, "@SECRET@")\nprint(zipfile.ZipFile("@SECRET@").namelist())',
    ),
    program(
        "the system's files",
        """
import pathlib
for path in ("/etc/passwd", "/etc/hostname", "/proc/version", "/proc/1/cmdline", "/etc/resolv.conf"):
    try:
        found = pathlib.Path(path).read_bytes()
    except OSError:
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
import sys
found = []
for name in ("pyodide_js", "_pyodide_core", "js"):
    module = sys.modules.get(name)
    for attribute in ("FS", "_module", "mountNativeFS"):
        thing = getattr(module, attribute, None)
        if thing is not None:
            found.append((name, attribute))
            fs = getattr(thing, "FS", thing)
            try:
                fs.mkdir("/host")
                fs.mount(fs.filesystems.NODEFS, {"root": "@FOLDER@"}, "/host")
                print(open("/host/secret.txt").read())
            except Exception as error:
                print(type(error), error)
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
""",
    ),
)
