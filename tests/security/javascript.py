"""Programs that break out of Python into JavaScript.

A program has escaped if it ran JavaScript that it wrote, or holds what JavaScript can do something with:
the realm's `Deno`, `process`, `fetch`, `postMessage`, storage, workers.
"""

from __future__ import annotations

from .program import program

# Looks at an object of JavaScript for what would be of use.
_LOOK = """
def look(thing, path="it"):
    for name in ("Deno", "process", "fetch", "postMessage", "Worker", "caches", "localStorage",
                 "WebSocket", "XMLHttpRequest", "importScripts", "eval"):
        try:
            found = getattr(thing, name, None)
        except Exception:
            continue
        if found is not None:
            print("ESC" + "APED", path, name)
            return True
    return False

def run(function, path):
    try:
        made = function("return globalThis")
        made = made() if callable(made) else made
    except BaseException as error:
        print(path, type(error).__name__, str(error)[:100])
        return
    # Other functions than that of functions make other things of a text.
    if getattr(made, "WebAssembly", None) is not None or look(made, path):
        print("ESC" + "APED", path, made)

"""

# Constructors of JavaScript that anybody can reach.
_REALM = """
import asyncio
from pyodide.ffi import JsException, create_proxy, to_js
Object, Array = to_js({"a": 1}).constructor, to_js([1]).constructor
def TypeError_of():
    try:
        to_js([1]).map(1)
    except JsException as error:
        return error.js_error.constructor
def Promise_of():
    return to_js([[1]]).map(Array.fromAsync)[0].constructor
"""

PROGRAMS = (
    program("import js", _LOOK + "import js\nlook(js)\nprint(js.eval('1 + 1'))"),
    program(
        "import pyodide_js",
        _LOOK
        + "import pyodide_js\nlook(pyodide_js)\nlook(pyodide_js._api, '_api')\nlook(pyodide_js.globals)",
    ),
    program(
        "pyodide.code.run_js",
        "from pyodide.code import run_js\nprint('ESC' + 'APED', run_js('globalThis'))",
    ),
    program(
        "the modules that once imported js",
        _LOOK
        + """
import sys
for name, module in list(sys.modules.items()):
    for attribute, value in list(getattr(module, "__dict__", {}).items()):
        if type(value).__name__ in ("JsProxy", "module") and getattr(value, "__name__", "") in ("js", "pyodide_js"):
            look(value, f"{name}.{attribute}")
        elif "Js" in type(value).__name__:
            look(value, f"{name}.{attribute}")
""",
    ),
    program(
        "a copy of sys.modules",
        _LOOK
        + """
import gc
for thing in gc.get_objects():
    if type(thing) is dict and ("js" in thing or "pyodide_js" in thing):
        for key in ("js", "pyodide_js"):
            value = thing.get(key)
            if value is not None:
                print(key, type(value))
                look(value, key)
""",
    ),
    program(
        "import js by every finder",
        _LOOK
        + """
import importlib, sys
for name in ("js", "pyodide_js", "_pyodide_core", "_pyodide._base", "pyodide._state", "pyodide._core"):
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, None, None)
            if spec is not None:
                look(importlib.util.module_from_spec(spec), name)
        except Exception as error:
            print(name, finder, type(error).__name__)
    try:
        look(importlib.import_module(name), name)
    except Exception as error:
        print(name, type(error).__name__)
""",
    ),
    program(
        "the finder for JavaScript modules",
        _LOOK
        + """
import _pyodide._importhook as hook
finder = hook.jsfinder
print(list(finder.jsproxies))
for name, value in list(finder.jsproxies.items()):
    look(value, name)
import sys
for name in dir(hook):
    look(getattr(hook, name), name)
""",
    ),
    program(
        "register js again",
        _LOOK
        + """
import _pyodide._importhook as hook
for name in ("js", "pyodide_js", "planted"):
    try:
        hook.register_js_module(name, hook.jsfinder)
        module = __import__(name)
        look(module, name)
    except Exception as error:
        print(name, type(error).__name__, error)
""",
    ),
    program(
        "classes of all objects",
        _LOOK
        + """
def below(kind, seen=set()):
    for one in type.__subclasses__(kind):
        if one not in seen:
            seen.add(one)
            yield one
            yield from below(one)
for kind in below(object):
    if "Js" in kind.__name__ or "js" in getattr(kind, "__module__", ""):
        print(kind)
        for name in ("new", "constructor", "js_id"):
            look(getattr(kind, name, None), f"{kind.__name__}.{name}")
""",
    ),
    program(
        "every object of the collector",
        _LOOK
        + """
import gc
proxies = [thing for thing in gc.get_objects() if "JsProxy" in type(thing).__name__ or "JsCallable" in type(thing).__name__]
for thing in list(gc.get_objects()):
    proxies += [part for part in gc.get_referents(thing) if hasattr(type(part), "js_id")]
for proxy in proxies[:2000]:
    look(proxy)
    for name in ("constructor", "prototype", "__proto__"):
        step = getattr(proxy, name, None)
        if step is not None:
            maker = getattr(step, "constructor", None)
            if maker is not None:
                run(maker, name)
print(len(proxies))
""",
        destroys=True,
    ),
    program(
        "the constructor of an array",
        _LOOK
        + """
from pyodide.ffi import to_js
array = to_js([1, 2, 3])
function = array.constructor.constructor
run(function, "Function")
run(lambda text: function.new(text), "new Function")
""",
    ),
    program(
        "the constructor of an async function",
        _LOOK
        + """
from pyodide.ffi import to_js
array = to_js([1])
get = array.constructor.constructor.getPrototypeOf if hasattr(array.constructor.constructor, "getPrototypeOf") else None
Object = to_js({}, dict_converter=None).constructor if False else array.constructor.constructor.prototype
print(get, Object)
run(Object.constructor, "prototype.constructor")
""",
    ),
    program(
        "the globals by way of a map",
        _LOOK
        + """
from pyodide.ffi import to_js
one = to_js({"a": 1})
kind = one.constructor
look(kind, "Map")
function = kind.constructor
look(function, "Function")
for name in ("call", "apply", "bind"):
    try:
        thing = getattr(function, name)
        look(thing(None), name)
    except Exception as error:
        print(name, type(error).__name__, str(error)[:80])
""",
    ),
    program(
        "a function without a receiver",
        _LOOK
        + """
from pyodide.ffi import to_js
array = to_js([1])
value_of = array.constructor.prototype.concat
try:
    thing = value_of.call(None)
    look(thing)
except Exception as error:
    print(type(error).__name__, str(error)[:80])
try:
    made = array.constructor.constructor.prototype.call.call(array.constructor.constructor.prototype.valueOf)
    look(made, "valueOf")
except Exception as error:
    print(type(error).__name__, str(error)[:80])
""",
    ),
    *(
        program(
            f"the stack of a JavaScript error, {how}",
            _LOOK
            + _REALM
            + """
try:
    Array.new(-1)
except JsException as error:
    RangeError = error.js_error.constructor
Error = Object.getPrototypeOf(RangeError)
assert Error.name == "Error"
def prepare(problem, sites):
    print("ESC" + "APED: the callers are shown")
    for site in sites:
        for ask in ("getThis", "getFunction"):
            look(getattr(site, ask)(), ask)
    return "x"
planted = create_proxy(prepare)
reached()
for kind in (Error, RangeError, Object.prototype, Error.prototype, Object.getPrototypeOf(Error)):
    try:
"""
            + f"        {statement}\n"
            + """
    except Exception as error:
        print(type(error).__name__, str(error)[:80])
for kind in (Error, RangeError):
    print(len(kind.new("x").stack or ""))
holder = to_js({"a": 1})
Error.captureStackTrace(holder)
print(len(str(holder.stack)))
""",
        )
        for how, statement in (
            ("set", "kind.prepareStackTrace = planted"),
            (
                "defined",
                "Object.defineProperty(kind, 'prepareStackTrace', to_js({'value': planted}))",
            ),
            ("assigned", "Object.assign(kind, to_js({'prepareStackTrace': planted}))"),
            (
                "inherited",
                "Object.setPrototypeOf(kind, to_js({'prepareStackTrace': planted}))",
            ),
        )
    ),
    program(
        "functions of the language that are ours",
        _REALM
        + """
def planted(*args):
    SUBMIT(answer="FOR" + "GED", count=1)
proxy = create_proxy(planted)
Uint8Array = to_js(b"x").constructor
Error = Object.getPrototypeOf(TypeError_of())
kinds = [Object, Array, Array.constructor, Uint8Array, Object.getPrototypeOf(Uint8Array), Error,
         Promise_of()]
kinds += [kind.prototype for kind in kinds]
kinds.append(Object.getPrototypeOf(to_js([1]).values()))
kinds.append(Object.getPrototypeOf(kinds[-1]))
reached()
changed = 0
for kind in kinds:
    for name in [*Object.getOwnPropertyNames(kind), "toJSON", "get", "value"]:
        try:
            Object.defineProperty(kind, name, to_js({"value": proxy}))
            changed += 1
            print(kind.name, name)
        except Exception:
            pass
    try:
        Object.setPrototypeOf(kind, to_js({"get": proxy}))
        changed += 1
    except Exception:
        pass
print(changed, "changed")
""",
        "import asyncio\nawait asyncio.sleep(0.01)\nprint(echo([1, 'a' * 100_000])[:9], len(kept))",
        shows="echo: [1,",
        ends=("completed",),
    ),
    program(
        "what works in other threads",
        _LOOK
        + _REALM
        + """
reached()
for name in ("crypto", "SubtleCrypto", "WebAssembly", "Atomics", "SharedArrayBuffer", "structuredClone",
             "CompressionStream", "ReadableStream", "BroadcastChannel", "MessageChannel"):
    for start in (Object, Array, Array.constructor, Promise_of()):
        for holder in (start, start.prototype, start.constructor):
            if getattr(holder, name, None) is not None:
                print("ESC" + "APED", name)
print("looked")
""",
        shows="looked",
    ),
    program(
        "emscripten_run_script",
        """
import ctypes
libc = ctypes.CDLL(None)
for name in ("emscripten_run_script", "emscripten_run_script_int", "emscripten_run_script_string"):
    try:
        function = getattr(libc, name)
        function.restype = ctypes.c_char_p if name.endswith("string") else ctypes.c_int
        got = function(b"40 + 2")
        print(name, got)
        if got in (42, b"42"):
            print("ESC" + "APED", name)
    except BaseException as error:
        print(name, type(error).__name__, str(error)[:100])
""",
    ),
    program(
        "emscripten_async_run_script",
        """
import asyncio, ctypes
libc = ctypes.CDLL(None)
libc.emscripten_async_run_script(b"globalThis.planted = 1; console.log('x')", 0)
await asyncio.sleep(0.1)
""",
    ),
    program(
        "run_js of the C side",
        """
import ctypes
libc = ctypes.CDLL(None)
for name in ("_run_js", "pyodide_js_run", "run_js", "JsvObject_CallMethod", "hiwire_call", "eval_js"):
    try:
        print(name, getattr(libc, name))
    except AttributeError as error:
        print(error)
""",
    ),
    program(
        "a pointer to a JavaScript value made up",
        """
import ctypes
class Fake(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ssize_t), ("type", ctypes.c_void_p), ("js", ctypes.c_uint32 * 8)]
from pyodide.ffi import to_js
real = to_js([1])
for number in range(0, 64):
    fake = Fake(1000, id(type(real)), (ctypes.c_uint32 * 8)(*[number] * 8))
    print(number, ctypes.addressof(fake) > 0)
""",
        destroys=True,
    ),
    program(
        "the number inside of a JavaScript value",
        _LOOK
        + """
import ctypes
from pyodide.ffi import to_js
real = to_js([1, 2])
words = ctypes.cast(id(real), ctypes.POINTER(ctypes.c_uint32))
kept_words = [words[i] for i in range(3, 9)]
for place in range(3, 9):
    old = words[place]
    if not 0 < old < 10_000:
        continue
    for number in range(1, 60):
        words[place] = number
        try:
            if look(real, f"value {number}"):
                break
        except BaseException as error:
            pass
        finally:
            words[place] = old
print("done")
""",
        destroys=True,
    ),
    program(
        "the driver's worker",
        _LOOK
        + """
import sys
guest = sys.modules.get("sandbox_runtime.deno.guest")
host = getattr(guest, "_host", None)
worker = getattr(host, "_worker", None)
print(worker)
look(worker, "worker")
for name in dir(worker):
    thing = getattr(worker, name, None)
    look(thing, name)
    for step in ("constructor", "__proto__", "prototype"):
        more = getattr(thing, step, None)
        if more is not None:
            run(getattr(more, "constructor", more), f"{name}.{step}")
""",
    ),
    program(
        "what a tool's function holds",
        _LOOK
        + """
for tool in (echo, lookup, SUBMIT):
    for cell in (tool.__closure__ or ()):
        thing = cell.cell_contents
        print(type(thing))
        look(thing, tool.__name__)
    for name in ("_js_tool_call",):
        if name in tool.__globals__:
            run(tool.__globals__[name].constructor, name)
""",
    ),
    program(
        "a promise and its kin",
        _LOOK
        + """
import asyncio
from pyodide.ffi import to_js, create_proxy
loop = asyncio.get_event_loop()
for name, thing in vars(loop).items():
    look(thing, name)
import pyodide.webloop as webloop
for name in ("setTimeout", "run_sync", "scheduleCallback", "PyodideFuture", "to_js", "can_run_sync"):
    thing = getattr(webloop, name, None)
    look(thing, name)
    step = getattr(thing, "constructor", None)
    if step is not None:
        run(step, name)
""",
    ),
    program(
        "setTimeout with a text",
        """
import pyodide.webloop, sys, asyncio
for name, module in list(sys.modules.items()):
    timer = getattr(module, "setTimeout", None)
    if timer is not None:
        try:
            print(timer("globalThis.planted = 42", 0))
        except BaseException as error:
            print(type(error).__name__, str(error)[:80])
await asyncio.sleep(0.05)
""",
    ),
    program(
        "trigger a fatal error",
        "import _pyodide_core\n_pyodide_core.trigger_fatal_error()",
        destroys=True,
    ),
    program(
        "raw_call of the core",
        _LOOK
        + """
import _pyodide_core
from pyodide.ffi import to_js
one = to_js([1])
try:
    look(_pyodide_core.raw_call(one.constructor.constructor, "return globalThis"), "raw_call")
except BaseException as error:
    print(type(error).__name__, str(error)[:100])
""",
    ),
    program(
        "destructors and iterators of the border",
        _LOOK
        + """
from pyodide.ffi import create_proxy, to_js
class Trap:
    def __getattr__(self, name):
        look(name)
        raise AttributeError(name)
    def __call__(self, *args, **kwargs):
        for arg in args:
            look(arg, "argument")
            maker = getattr(arg, "constructor", None)
            if maker is not None:
                run(getattr(maker, "constructor", maker), "argument's maker")
        return 1
array = to_js([3, 1, 2])
array.sort(create_proxy(Trap()))
array.forEach(create_proxy(Trap()))
print(array.map(create_proxy(Trap())))
""",
    ),
    program(
        "Object.prototype is rewritten",
        """
from pyodide.ffi import create_proxy, to_js
array = to_js([1])
base = array.constructor.prototype
try:
    base.toJSON = create_proxy(lambda *_: "FOR" + "GED")
    base.push = create_proxy(lambda *_: 1 / 0)
    base.map = create_proxy(lambda *_: 1 / 0)
except BaseException as error:
    print(type(error).__name__, error)
""",
        "print(echo([1]), len(kept))",
        destroys=True,
    ),
    program(
        "Promise.prototype.then is replaced",
        """
from pyodide.ffi import create_proxy
import asyncio
loop = asyncio.get_event_loop()
try:
    from _pyodide_core import create_promise_converter as make
    from pyodide.ffi import create_once_callable, to_js
    async def nothing():
        return 1
    promise = to_js([asyncio.ensure_future(nothing())])
    print(promise)
    kind = promise.constructor
    kind.prototype["then"] = create_proxy(lambda *_: 1 / 0)
except BaseException as error:
    print(type(error).__name__, error)
""",
        destroys=True,
    ),
    program(
        "__builtins__ of a far function",
        """
for kind in object.__subclasses__():
    try:
        names = kind.__init__.__globals__
    except AttributeError:
        continue
    for name in ("js", "pyodide_js"):
        if name in names:
            print("ESC" + "APED", kind, name)
    names["__builtins__"]
print("looked")
""",
        shows="looked",
    ),
    program(
        "wasm of its own",
        """
import ctypes, sys
from pyodide.ffi import to_js
data = to_js(bytes([0, 97, 115, 109, 1, 0, 0, 0]))
buffer = getattr(data, "buffer", None)
kind = getattr(buffer, "constructor", None)
print(kind)
for name in ("WebAssembly", "SharedArrayBuffer", "Worker", "globalThis"):
    if getattr(kind, name, None) is not None:
        print("ESC" + "APED", name)
""",
    ),
)
