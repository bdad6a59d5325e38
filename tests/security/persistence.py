"""Programs that leave something behind for the next session, in pairs: one plants, the other looks for it.

The mark is the token of the variable in the host's environment only in name: what a second session finds
of the first one is said as `ESCAPED`.
"""

from __future__ import annotations

import dataclasses

from .program import JAVASCRIPT, Program, program


@dataclasses.dataclass(frozen=True)
class Pair:
    """A program for one session, and one for a fresh session after it."""

    plant: Program
    look: Program


def _pair(name: str, plant: str, look: str, *, destroys: bool = False) -> Pair:
    return Pair(
        program(f"plant {name}", plant, destroys=destroys),
        program(f"look for {name}", look),
    )


PAIRS = (
    _pair(
        "a variable",
        "planted = 42\nglobals()['also'] = 1\nreached()",
        "for name in ('planted', 'also'):\n    if name in globals():\n        print('ESC' + 'APED', name)\nreached()",
    ),
    _pair(
        "a file",
        """
import os
for folder in ("/", "/tmp", "/home", "/home/pyodide", "/lib", "/lib/python3.14/site-packages", os.getcwd()):
    try:
        with open(os.path.join(folder, "planted.txt"), "w") as file:
            file.write("x")
    except OSError:
        pass
reached()
""",
        """
import os
for folder, _, files in os.walk("/"):
    if "planted.txt" in files:
        print("ESC" + "APED", folder)
reached()
""",
    ),
    _pair(
        "a module",
        """
import os, site, sys
for folder in {*sys.path, *site.getsitepackages(), "/tmp", os.getcwd()}:
    for name in ("sitecustomize.py", "usercustomize.py", "planted.py", "colorsys.py"):
        try:
            with open(os.path.join(folder, name), "w") as file:
                file.write("planted = 1\\nprint('ESC' + 'APED')")
        except OSError:
            pass
reached()
""",
        "import colorsys\nif hasattr(colorsys, 'planted'):\n    print('ESC' + 'APED')\ntry:\n    import planted\n    print('ESC' + 'APED')\nexcept ImportError:\n    reached()",
    ),
    _pair(
        "an attribute of a module",
        "import json, math, sys\njson.planted = math.planted = sys.planted = 1\nreached()",
        "import json, math, sys\nfor module in (json, math, sys):\n    if hasattr(module, 'planted'):\n        print('ESC' + 'APED', module)\nreached()",
    ),
    _pair(
        "code of ours",
        """
import os
root = "/lib/python3.14/site-packages/sandbox_runtime/guest"
for name in os.listdir(root) if os.path.isdir(root) else ():
    with open(os.path.join(root, name), "a") as file:
        file.write("\\nimport builtins\\nbuiltins.planted = 1\\n")
reached()
""",
        "import builtins\nif hasattr(builtins, 'planted'):\n    print('ESC' + 'APED')\nreached()",
    ),
    _pair(
        "a cache of the browser's kind",
        JAVASCRIPT
        + """
store = await js.caches.open("planted")
await store.put("http://planted.invalid/", js.Response.new("x"))
""",
        JAVASCRIPT
        + """
store = await js.caches.open("planted")
if await store.match("http://planted.invalid/"):
    print("ESC" + "APED")
await js.caches.delete("planted")
""",
    ),
    _pair(
        "local storage",
        JAVASCRIPT + "js.localStorage.setItem('planted', 'x')",
        JAVASCRIPT
        + "if js.localStorage.getItem('planted'):\n    print('ESC' + 'APED')\njs.localStorage.removeItem('planted')",
    ),
    _pair(
        "a property of the realm",
        JAVASCRIPT + "js.globalThis.planted = 42\njs.Object.prototype.planted = 42",
        JAVASCRIPT + "if getattr(js.globalThis, 'planted', None):\n    print('ESC' + 'APED')",
    ),
    _pair(
        "a type",
        "import gc\ngc.get_referents(int.__dict__)[0]['planted'] = 1\nreached()",
        "if hasattr(int, 'planted'):\n    print('ESC' + 'APED')\nreached()",
        destroys=True,
    ),
    _pair(
        "random numbers",
        "import random\nrandom.seed(7)\nreached()",
        "import random\nif random.random() == random.Random(7).random():\n    print('ESC' + 'APED')\nreached()",
    ),
    _pair(
        "a process that was destroyed",
        "import os\nopen('/tmp/planted.txt', 'w').close()\nreached()\nos.abort()",
        "import os\nif os.path.exists('/tmp/planted.txt'):\n    print('ESC' + 'APED')\nreached()",
        destroys=True,
    ),
)
