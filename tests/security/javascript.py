"""Programs that break out of Python into JavaScript.

A program has escaped if it ran JavaScript that it wrote, or holds what JavaScript can do something with:
the realm's `Deno`, `process`, `fetch`, `postMessage`, storage, workers.
"""

from __future__ import annotations

from .program import program

# Searches a JavaScript object for useful properties.
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

# JavaScript constructors that are reachable from a value of the cell.
_REACH = """
from pyodide.ffi import JsException, create_proxy, to_js
array = to_js([1])
Array = array.constructor
Function = Array.constructor
Object = array.entries().next().constructor

def planted():
    if hasattr(to_js([1]).constructor, "planted"):
        print("ESC" + "APED", "a text was run")

"""

# JavaScript constructors that are reachable from anywhere.
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
    program("import js", _LOOK + "reached()\nimport js\nlook(js)\nprint(js.eval('1 + 1'))"),
    program(
        "import pyodide_js",
        _LOOK
        + "reached()\nimport pyodide_js\nlook(pyodide_js)\nlook(pyodide_js._api, '_api')\nlook(pyodide_js.globals)",
    ),
    program(
        "pyodide.code.run_js",
        "from pyodide.code import run_js\nreached()\nprint('ESC' + 'APED', run_js('globalThis'))",
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
reached()
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
reached()
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
reached()
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
reached()
""",
    ),
    program(
        "register js again",
        _LOOK
        + _REACH
        + """
import _pyodide._importhook as hook
for name, thing in (("js", Function), ("pyodide_js", Object), ("planted", array)):
    reached()
    try:
        hook.register_js_module(name, thing)
        module = __import__(name)
        look(module, name)
        look(hook.jsfinder.jsproxies, name)
    except Exception as error:
        print(name, type(error).__name__, error)
    finally:
        hook.jsfinder.jsproxies.pop(name, None)
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
reached()
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
proxies = [proxy for proxy in proxies if not isinstance(proxy, type)]
reached()
for proxy in proxies[:2000]:
    print(type(proxy), str(proxy)[:80])
    look(proxy)
    for name in ("constructor", "prototype", "__proto__"):
        step = getattr(proxy, name, None)
        if step is not None:
            maker = getattr(step, "constructor", None)
            if "Function" in str(maker):
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
reached()
run(function, "Function")
run(lambda text: function.new(text), "new Function")
""",
    ),
    program(
        "the constructor of an async function",
        _LOOK
        + _REACH
        + """
import sys
worker = getattr(getattr(sys.modules.get("sandbox_runtime.guest.entry"), "_host", None), "_worker", None)
functions = [Array.fromAsync, Array.prototype.concat, Object.getOwnPropertyNames]
functions += [getattr(worker, name) for name in ("callHost", "pause", "emit") if worker is not None]
for function in functions:
    reached()
    try:
        maker = Object.getPrototypeOf(function).constructor
    except JsException as error:
        print(function, error)
        continue
    run(maker, "of a function")
    run(maker.constructor, "of its maker")
    run(Object.getPrototypeOf(maker), "of what made it")
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
        reached()
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
    reached()
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
    program(
        "the stack of a JavaScript error",
        _LOOK
        + _REACH
        + """
try:
    Array.new(-1)
except JsException as error:
    RangeError = getattr(error, "js_error", error).constructor
look(RangeError, "RangeError")
run(RangeError.constructor, "RangeError.constructor")
Error = Object.getPrototypeOf(RangeError)
print(Error)
def prepare(problem, sites):
    for site in sites:
        for ask in ("getThis", "getFunction", "getEvalOrigin", "getScriptNameOrSourceURL"):
            try:
                found = getattr(site, ask)()
            except Exception as other:
                print(ask, type(other).__name__)
                continue
            look(found, ask)
            if "Scope" in str(found)[:100] or getattr(found, "exports", None) is not None:
                print("ESC" + "APED", ask, str(found)[:100])
    return "prepared"
for kind in (Error, RangeError):
    reached()
    try:
        kind.stackTraceLimit = 1000
        kind.prepareStackTrace = create_proxy(prepare)
    except Exception as refused:
        print(type(refused).__name__, refused)
    print(str(kind.new("x").stack)[:200])
    try:
        array.map(create_proxy(lambda *_: Array.new(-1)))
    except Exception as thrown:
        print(str(getattr(thrown, "stack", None))[:200])
    if kind.prepareStackTrace is not None:
        try:
            del kind.prepareStackTrace
        except Exception as refused:
            print(type(refused).__name__, refused)
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
        reached()
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
        _REACH
        + """
import asyncio, ctypes
libc = ctypes.CDLL(None)
reached()
libc.emscripten_async_run_script(b"Array.planted = 1", 0)
await asyncio.sleep(0.1)
planted()
""",
    ),
    program(
        "run_js of the C side",
        _REACH
        + """
import ctypes
libc = ctypes.CDLL(None)
text = b"Array.planted = 1"
for name in ("_run_js", "pyodide_js_run", "run_js", "hiwire_call", "eval_js", "emscripten_asm_const_int",
             "JsvFunction_CallBound", "JsvObject_CallMethod"):
    reached()
    try:
        print(name, getattr(libc, name)(text, text, text))
    except Exception as error:
        print(error)
    planted()
""",
        destroys=True,
    ),
    program(
        "a pointer to a JavaScript value made up",
        _LOOK
        + """
import ctypes
from pyodide.ffi import to_js
real = to_js([1])
size = type(real).__basicsize__ // 4
# Even numbers stand for constants of JavaScript, odd ones for values in use.
for number in (*range(2, 256, 2), *range(1, 256, 2)):
    fake = (ctypes.c_uint32 * size).from_buffer_copy(ctypes.string_at(id(real), size * 4))
    fake[0], fake[1] = 1000, id(type(real))
    for place in range(3, size):
        fake[place] = number
    if number == 2:
        reached()
    made = ctypes.cast(ctypes.addressof(fake), ctypes.py_object).value
    try:
        look(made, f"made up {number}")
        print(number, str(made)[:60])
    except Exception as error:
        print(number, type(error).__name__)
""",
        destroys=True,
    ),
    program(
        "the number inside of a JavaScript value",
        _LOOK
        + """
import ctypes
from pyodide.ffi import to_js
held = [to_js([1, 2]) for _ in range(4)]
size = type(held[0]).__basicsize__ // 4
views = [ctypes.cast(id(one), ctypes.POINTER(ctypes.c_uint32)) for one in held]
# Values of one kind differ in the number of the value; its upper bits count how often it was used.
place = next(place for place in range(2, size) if len({view[place] for view in views}) == len(views))
words, real = views[0], held[0]
honest = words[place]
print(place, hex(honest))
reached()
# Even numbers stand for constants of JavaScript, odd ones for values in use.
for number in (*range(2, 400, 2), *(honest & ~0x3FFFFFF | slot for slot in range(1, 400, 2))):
    words[place] = number
    try:
        look(real, f"value {number}")
    except Exception as error:
        print(number, type(error).__name__)
    finally:
        words[place] = honest
print("done")
""",
        destroys=True,
    ),
    program(
        "the driver's worker",
        _LOOK
        + _REACH
        + """
import sys
entry = sys.modules.get("sandbox_runtime.guest.entry")
host = getattr(entry, "_host", None)
worker = getattr(host, "_worker", None)
print(worker)
look(worker, "worker")
names = list(Object.getOwnPropertyNames(worker)) if worker is not None else []
print(names)
for thing in [getattr(worker, name) for name in names] or [getattr(echo, "__closure__", None)]:
    reached()
    look(thing)
    for step in ("constructor", "__proto__", "prototype", "call", "apply", "bind"):
        more = getattr(thing, step, None)
        if more is not None:
            look(more, step)
            run(getattr(more, "constructor", more), step)
    for step in ("caller", "arguments"):
        try:
            look(getattr(thing, step, None), step)
        except JsException as error:
            print(step, str(error)[:80])
""",
    ),
    program(
        "what a tool's function holds",
        _LOOK
        + """
import gc, types
for tool in (echo, lookup, SUBMIT):
    level, seen = [tool], set()
    for _ in range(6):
        level = [part for one in level for part in gc.get_referents(one) if id(part) not in seen]
        level = [part for part in level if not isinstance(part, (str, bytes, int, type, types.ModuleType))]
        seen.update(map(id, level))
        for thing in level:
            if "Js" in type(thing).__name__:
                print(tool, type(thing).__name__)
                look(thing, "held")
                for name in ("constructor", "call", "bind"):
                    if (step := getattr(thing, name, None)) is not None:
                        look(step, name)
                        run(getattr(step, "constructor", step), name)
    print(len(seen))
reached()
""",
    ),
    program(
        "a promise and its kin",
        _LOOK
        + """
import asyncio
loop = asyncio.get_event_loop()
for name, thing in vars(loop).items():
    look(thing, name)
import pyodide.webloop as webloop
for name in ("setTimeout", "run_sync", "scheduleCallback", "PyodideFuture", "to_js", "can_run_sync"):
    thing = getattr(webloop, name, None)
    look(thing, name)
    step = getattr(thing, "constructor", None)
    if step is not None:
        reached()
        run(step, name)
""",
    ),
    program(
        "setTimeout with a text",
        """
import pyodide.webloop, sys, asyncio
from pyodide.ffi import to_js
for name, module in list(sys.modules.items()):
    timer = getattr(module, "setTimeout", None)
    if timer is not None:
        try:
            reached()
            print(timer("Array.planted = 42", 0))
        except BaseException as error:
            print(type(error).__name__, str(error)[:80])
await asyncio.sleep(0.05)
if hasattr(to_js([1]).constructor, "planted"):
    print("ESC" + "APED", "a text was run")
""",
    ),
    program(
        "trigger a fatal error",
        "import _pyodide_core\nreached()\n_pyodide_core.trigger_fatal_error()",
        destroys=True,
    ),
    program(
        "raw_call of the core",
        _LOOK
        + _REACH
        + """
import _pyodide_core
made = Function.bind(None, "return globalThis")
for ask in (lambda: made(), lambda: made.new(), lambda: _pyodide_core.raw_call(made)):
    reached()
    try:
        look(ask(), "raw_call")
        print("ESC" + "APED", "a text was run")
    except BaseException as error:
        print(type(error).__name__, str(error)[:100])
""",
        destroys=True,
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
        reached()
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
        _REACH
        + """
base = Array.prototype
reached()
try:
    Object.prototype.toJSON = create_proxy(lambda *_: "FOR" + "GED")
    Object.prototype.then = create_proxy(lambda *_: 1 / 0)
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
        _REACH
        + """
# A promise that crosses over is a future; among JavaScript's own values it stays what it is.
promises = to_js([None]).map(Array.fromAsync.bind(Array, array))
kinds = promises.map(Object.getPrototypeOf)
print(kinds)
kinds.then = create_proxy(lambda *_: 1 / 0)
reached()
kinds.map(Object.assign)
print(array.constructor.fromAsync(array))
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
reached()
print("looked")
""",
        shows="looked",
    ),
    program(
        "wasm of its own",
        _LOOK
        + _REACH
        + """
def get(thing, name):
    try:
        return getattr(thing, name, None)
    except JsException:
        return None

found, level = {}, [array, Object, to_js(bytes([0, 97, 115, 109, 1, 0, 0, 0])), to_js({1}), to_js({"a": 1})]
while level and len(found) < 500:
    thing = level.pop()
    if getattr(thing, "js_id", None) is None or thing.js_id in found:
        continue
    found[thing.js_id] = thing
    for name in ("WebAssembly", "SharedArrayBuffer", "Worker", "Atomics", "globalThis"):
        if get(thing, name) is not None:
            print("ESC" + "APED", name)
    level += [get(thing, name) for name in ("constructor", "prototype", "buffer")]
    try:
        level.append(Object.getPrototypeOf(thing))
        names = list(Object.getOwnPropertyNames(thing))
    except JsException:
        continue
    level += [get(thing, name) for name in names[:200]]
print(len(found))
reached()
""",
    ),
)
