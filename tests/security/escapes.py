"""Programs for a sandbox that has been escaped from: JavaScript that wants something of the host.

Each is the body of an async function, which calls `reached()` where it makes its attempt. `shown` is what it returns; that it comes to its end is no breach,
what it reaches is: the secret, a file, the port, a tool, the next session.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Escape:
    """A JavaScript attack; the names between `@` are those of `Program`."""

    name: str
    source: str

    ends: bool = False
    """It may end the session: it breaks the way to the host, or blocks the worker."""

    heavy: bool = False
    """It works for seconds, and leaves a process that has used up much of its memory."""

    fresh: bool = False
    """It depends on being the first in its session."""

    @property
    def alone(self) -> bool:
        """True if it needs a session of its own.

        A worker takes half a gigabyte of `RLIMIT_DATA` for V8's code. After programs that have used much of
        it, a worker would end at that limit instead of at its own attempt.
        """
        return self.fresh or self.heavy or "Worker(" in self.source

    @property
    def cell(self) -> str:
        """Returns the cell that runs it. Its JavaScript calls `reached()` at its attempt."""
        return (
            "import js\n"
            "from pyodide.ffi import create_proxy\n"
            "def _reached():\n"
            "    reached()\n"
            f"_source = {self.source!r}\n"
            "try:\n"
            '    _run = js.eval("(async (reached) => {" + _source + "})")\n'
            '    print("shown", await _run(create_proxy(_reached)))\n'
            "except Exception as error:\n"
            '    print("refused", type(error).__name__, str(error)[:300])\n'
        )


# Frames as the worker writes them. The numbers of requests are guessed: small ones, and those of other protocols.
_FRAMES = """
const text = new TextEncoder();
const frame = (kind, id, arg, body, parts = []) => {
  const bytes = typeof body === 'string' ? text.encode(body + '\\n') : body;
  const head = new DataView(new ArrayBuffer(16 + 4 * parts.length));
  head.setUint8(0, 0xd1); head.setUint8(1, kind); head.setUint16(2, parts.length, true);
  head.setUint32(4, id, true); head.setInt32(8, arg, true); head.setUint32(12, bytes.length, true);
  parts.forEach((part, at) => head.setUint32(16 + 4 * at, part.length, true));
  return Uint8Array.from([...new Uint8Array(head.buffer), ...bytes, ...parts.flatMap((p) => [...p])]);
};
const end = {outcome: 'submitted', output: '', errorType: '', message: '', traceback: '', noted: 0};
const value = text.encode(JSON.stringify({answer: 'FORGED', count: 1}));
const frames = [];
for (let id = 0; id < 12; id++) frames.push(frame(2, id, 0, JSON.stringify(end), [value]));
const call = (tool, request = 1) => frame(1, 9999, request, '0' + tool + '\\x000\\0[["FORGED"],{}]');
const write = (bytes) => { for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at)); };
"""

# Imports, in a worker: code that Python evaluates is not a module, and V8 has no module loader for its imports.
_IMPORT = """
const load = (...words) => new Promise((done) => {
  const told = words.map((word) => JSON.stringify(word)).join();
  const source = `try {
    const found = await import(${told});
    postMessage('imported ' + Object.keys(found).join() + found.default);
  } catch (error) { postMessage(String(error)) }`;
  const url = 'data:application/javascript,' + encodeURIComponent(source);
  const worker = new Worker(url, {type: 'module'});
  worker.onmessage = (event) => { worker.terminate(); done(event.data) };
  worker.onerror = (event) => { event.preventDefault(); worker.terminate(); done(event.message) };
});
"""

FILES = (
    Escape("Deno reads", "reached(); return Deno.readTextFileSync('@SECRET@')"),
    Escape("Deno reads later", "reached(); return await Deno.readTextFile('@SECRET@')"),
    Escape(
        "Deno opens", "reached(); return (await Deno.open('@SECRET@')).readSync(new Uint8Array(9))"
    ),
    Escape(
        "Deno lists",
        "reached(); return [...Deno.readDirSync('@FOLDER@')].map((e) => e.name).join()",
    ),
    Escape("Deno writes", "reached(); return Deno.writeTextFileSync('@FOLDER@/made', 'x')"),
    Escape("Deno removes", "reached(); return Deno.removeSync('@SECRET@')"),
    Escape("Deno renames", "reached(); return Deno.renameSync('@SECRET@', '@FOLDER@/other')"),
    Escape("Deno links", "reached(); return Deno.symlinkSync('@SECRET@', '@FOLDER@/link')"),
    Escape(
        "Deno makes a temporary file", "reached(); return Deno.makeTempFileSync({dir: '@FOLDER@'})"
    ),
    Escape("Deno changes the rights", "reached(); return Deno.chmodSync('@SECRET@', 0o777)"),
    Escape(
        "Deno looks",
        "reached(); return JSON.stringify(Deno.statSync('@SECRET@')) + Deno.realPathSync('/proc/self')",
    ),
    Escape("fetch of a file", "reached(); return await (await fetch('file://@SECRET@')).text()"),
    Escape(
        "import of a file as text",
        f"{_IMPORT} reached(); return await load('file://@SECRET@', {{with: {{type: 'text'}}}})",
    ),
    Escape(
        "import of a file as JSON",
        f"{_IMPORT} reached(); return await load('file://@SECRET@', {{with: {{type: 'json'}}}})",
    ),
    Escape(
        "import of a file as a module",
        f"{_IMPORT} reached(); return await load('file://@SECRET@')",
    ),
    Escape(
        "node:fs",
        "const fs = process.getBuiltinModule('fs'); reached(); return fs.readFileSync('@SECRET@', 'utf8')",
    ),
    Escape(
        "node:fs writes",
        "const fs = process.getBuiltinModule('fs'); reached(); return fs.writeFileSync('@FOLDER@/made', 'x')",
    ),
    Escape(
        "node:fs by descriptors",
        "const fs = process.getBuiltinModule('fs'); reached(); for (let n = 3; n < 64; n++) { try { const b = new Uint8Array(999); fs.readSync(n, b); if (new TextDecoder().decode(b).includes('file-')) return new TextDecoder().decode(b) } catch {} } return 'none'",
    ),
    Escape(
        "node:module",
        "const m = process.getBuiltinModule('module'); reached(); return m.createRequire('file:///')('@SECRET@')",
    ),
    Escape(
        "process.getBuiltinModule",
        "reached(); return process.getBuiltinModule('fs').readFileSync('@SECRET@', 'utf8')",
    ),
    Escape(
        "process.binding",
        "reached(); const {TCP} = process.binding('tcp_wrap'); const {Pipe} = process.binding('pipe_wrap'); const said = []; for (const ask of [() => new TCP(0).connect({}, '127.0.0.1', @PORT@), () => new TCP(0).bind('127.0.0.1', 0), () => new Pipe(0).connect({}, '/var/run/docker.sock'), () => new Pipe(0).bind('@FOLDER@/made'), () => new Pipe(0).open(0)]) { try { said.push(ask()) } catch (e) { said.push(String(e)) } } await new Promise((r) => setTimeout(r, 200)); return said.join()",
        ends=True,
    ),
    Escape(
        "the host's process in /proc",
        "reached(); let last; for (const n of ['environ', 'cmdline', 'maps', 'cwd/x', 'fd/0']) { try { return Deno.readTextFileSync('/proc/@HOST@/' + n) } catch (e) { last = e } } throw last",
    ),
    Escape(
        "node:sqlite",
        "const s = process.getBuiltinModule('sqlite'); reached(); const d = new s.DatabaseSync('@FOLDER@/made'); d.exec('create table a(b)'); return 'made'",
    ),
    Escape(
        "node:wasi",
        "const w = process.getBuiltinModule('wasi'); reached(); return new w.WASI({version: 'preview1', preopens: {'/': '@FOLDER@'}}).wasiImport.path_open !== undefined",
    ),
    Escape(
        "node:vm and node:inspector",
        "const i = process.getBuiltinModule('inspector'); reached(); i.open(0, '127.0.0.1'); return i.url()",
    ),
    Escape(
        "a heap snapshot",
        "const v8 = process.getBuiltinModule('v8'); reached(); return v8.writeHeapSnapshot('@FOLDER@/made')",
        heavy=True,
    ),
)

NETWORK = (
    Escape("fetch", "reached(); return await (await fetch('http://127.0.0.1:@PORT@/')).text()"),
    Escape(
        "a WebSocket",
        "reached(); const s = new WebSocket('ws://127.0.0.1:@PORT@/'); await new Promise((done) => { s.onopen = s.onerror = s.onclose = done }); return s.readyState",
    ),
    Escape(
        "an EventSource",
        "reached(); const s = new EventSource('http://127.0.0.1:@PORT@/'); await new Promise((done) => { s.onopen = s.onerror = done }); return s.readyState",
    ),
    Escape("Deno.connect", "reached(); return await Deno.connect({port: @PORT@})"),
    Escape(
        "Deno.connect by a unix socket",
        "reached(); return await Deno.connect({transport: 'unix', path: '/var/run/docker.sock'})",
    ),
    Escape(
        "Deno.listen",
        "reached(); const l = Deno.listen({port: 0}); return 'listens at ' + l.addr.port",
    ),
    Escape(
        "Deno.serve",
        "reached(); return 'serves at ' + Deno.serve({port: 0}, () => new Response('x')).addr.port",
    ),
    Escape("Deno.resolveDns", "reached(); return await Deno.resolveDns('leak.invalid', 'A')"),
    Escape(
        "node:net",
        "const net = process.getBuiltinModule('net'); reached(); await new Promise((done, fail) => net.connect(@PORT@, '127.0.0.1', done).on('error', fail)); return 'connected'",
    ),
    Escape(
        "node:http",
        "reached(); const http = process.getBuiltinModule('http'); await new Promise((done, fail) => http.get('http://127.0.0.1:@PORT@/', done).on('error', fail)); return 'got'",
    ),
    Escape(
        "node:dgram",
        "const d = process.getBuiltinModule('dgram'); reached(); await new Promise((done, fail) => { const s = d.createSocket('udp4'); s.on('error', fail); s.send('x', @PORT@, '127.0.0.1', (e) => e ? fail(e) : done()) }); return 'sent'",
        ends=True,
    ),
    Escape(
        "import over HTTP",
        f"{_IMPORT} reached(); return await load('http://127.0.0.1:@PORT@/x.js')",
    ),
    Escape(
        "import over HTTPS",
        f"{_IMPORT} reached(); return await load('https://deno.land/std/version.ts')",
    ),
    Escape("import from npm", f"{_IMPORT} reached(); return await load('npm:is-odd')"),
    Escape("import from JSR", f"{_IMPORT} reached(); return await load('jsr:@std/path')"),
)

PROCESSES = (
    Escape(
        "Deno.Command",
        "reached(); return new TextDecoder().decode(new Deno.Command('/bin/cat', {args: ['@SECRET@']}).outputSync().stdout)",
    ),
    Escape(
        "Deno.Command of itself",
        "reached(); return new Deno.Command(Deno.execPath(), {args: ['eval', 'Deno.writeTextFileSync(\"@FOLDER@/made\", \"x\")']}).outputSync().code",
        ends=True,  # Deno cannot be asked for its own path once the process is sealed
    ),
    Escape(
        "Deno.dlopen",
        "reached(); return Deno.dlopen('libc.so.6', {system: {parameters: ['buffer'], result: 'i32'}}).symbols.system(new TextEncoder().encode('touch @FOLDER@/made\\0'))",
    ),
    Escape(
        "node:child_process",
        "const c = process.getBuiltinModule('child_process'); reached(); return c.execSync('cat @SECRET@', {env: {}}).toString()",
    ),
    Escape(
        "node:child_process forks",
        "const c = process.getBuiltinModule('child_process'); reached(); return c.fork('data:text/javascript,1', {env: {}}).pid",
        ends=True,  # Deno cannot be asked for its own path once the process is sealed
    ),
    Escape(
        "process.dlopen",
        "reached(); const m = {exports: {}}; process.dlopen(m, 'libc.so.6'); return Object.keys(m.exports).join()",
    ),
    Escape("a signal to the host", "reached(); return Deno.kill(@HOST@, 'SIGUSR1')"),
    Escape("a signal to the parent", "reached(); return Deno.kill(Deno.ppid, 'SIGUSR1')"),
    Escape("a signal by process.kill", "reached(); return process.kill(@HOST@, 'SIGUSR1')"),
    Escape("Deno.env", "reached(); return JSON.stringify(Deno.env.toObject())"),
    Escape(
        "process.env", "reached(); return JSON.stringify(process.env) + process.env['@VARIABLE@']"
    ),
    Escape(
        "Deno's facts about the system",
        "reached(); const said = []; for (const n of ['hostname', 'osRelease', 'networkInterfaces', 'systemMemoryInfo', 'uid', 'loadavg']) { try { said.push(n, JSON.stringify(Deno[n]())) } catch (e) { said.push(n, e.name) } } return said.join()",
    ),
    Escape(
        "node:os",
        "const os = process.getBuiltinModule('os'); reached(); return os.hostname() + JSON.stringify(os.userInfo())",
    ),
)

RIGHTS = (
    Escape(
        "rights are asked for",
        "reached(); const said = []; for (const name of ['read', 'write', 'net', 'env', 'run', 'ffi', 'sys', 'import']) said.push((await Deno.permissions.request({name})).state); if (said.includes('granted')) return 'ESCAPED ' + said; return Deno.readTextFileSync('@SECRET@')",
    ),
    Escape(
        "rights are queried by another spelling",
        "reached(); const said = []; for (const path of ['@SECRET@', 'file://@SECRET@', '/proc/self/root@SECRET@', '/proc/self/cwd@SECRET@', '/dev/fd/0/../../..@SECRET@']) { try { said.push(Deno.readTextFileSync(path)) } catch (e) { said.push(e.name) } } return said.join()",
    ),
    Escape(
        "a worker with inherited rights",
        "reached(); const w = new Worker('data:application/javascript,' + encodeURIComponent(`try { postMessage(Deno.readTextFileSync('@SECRET@')) } catch (e) { postMessage(String(e)) }`), {type: 'module', deno: {permissions: 'inherit'}}); const got = await new Promise((done) => { w.onmessage = (e) => done(e.data); w.onerror = (e) => { e.preventDefault(); done(e.message) } }); w.terminate(); return got",
    ),
    Escape(
        "a worker with more rights",
        "reached(); const w = new Worker('data:application/javascript,postMessage(1)', {type: 'module', deno: {permissions: {read: true, net: true, run: true}}}); const got = await new Promise((done) => { w.onmessage = (e) => done('ESCAPED'); w.onerror = (e) => { e.preventDefault(); done(e.message) } }); return got",
    ),
    Escape(
        "node:worker_threads",
        "const t = process.getBuiltinModule('worker_threads'); reached(); const w = new t.Worker('const fs = require(\"fs\"); fs.writeFileSync(\"@FOLDER@/made\", \"x\")', {eval: true}); return await new Promise((done) => { w.on('error', (e) => done(String(e))); w.on('exit', done) })",
    ),
    Escape(
        "a module from a text",
        f"{_IMPORT} reached(); return await load('data:application/javascript,' + encodeURIComponent(`let got; try {{ got = Deno.readTextFileSync('@SECRET@') }} catch (e) {{ got = String(e) }} export default got`))",
    ),
    Escape(
        "node:vm",
        "const vm = process.getBuiltinModule('vm'); reached(); return vm.runInNewContext(`this.constructor.constructor('return process')()`).getBuiltinModule('fs').readFileSync('@SECRET@', 'utf8')",
    ),
    Escape(
        "flags of V8",
        "const v8 = process.getBuiltinModule('v8'); reached(); v8.setFlagsFromString('--allow-natives-syntax'); v8.setFlagsFromString('--expose-gc'); return eval('%GetOptimizationStatus(() => 1)')",
    ),
    Escape(
        "Deno's insides",
        "reached(); const {core, ...inside} = Deno[Deno.internal]; const said = [JSON.stringify(core.resources())]; for (let rid = 3; rid < 20; rid++) { try { const b = new Uint8Array(999); core.readSync(rid, b); said.push(new TextDecoder().decode(b)) } catch (e) { said.push(e.name) } } for (const one of [...Object.values(core.ops), inside.getIpcPipeRid, inside.getExtraPipeRids]) { try { said.push(String(one('@SECRET@', '@SECRET@', () => 1))) } catch (e) { said.push(e.name) } } return said.join()",
        ends=True,
        fresh=True,
    ),
    Escape(
        "prototypes of the realm",
        "reached(); const includes = Array.prototype.includes; Object.prototype.read = true; Array.prototype.includes = () => true; Object.prototype.state = 'granted'; try { return Deno.readTextFileSync('@SECRET@') } finally { Array.prototype.includes = includes; delete Object.prototype.read; delete Object.prototype.state }",
    ),
)

_POSTED = "await new Promise((r) => setTimeout(r, 300)); return 'posted'"

MESSAGES = (
    Escape(
        "the main thread is to read the pipe",
        f"reached(); for (let n = 0; n < 3; n++) postMessage({{op: 'read'}}); {_POSTED}",
        ends=True,
    ),
    Escape(
        "the main thread is to pass the pipe back",
        f"reached(); for (let n = 0; n < 3; n++) postMessage({{op: 'release'}}); {_POSTED}",
        ends=True,
    ),
    Escape(
        "the pipe is said to be closed",
        f"reached(); postMessage({{op: 'closed'}}); {_POSTED}",
        ends=True,
    ),
    Escape(
        "a fault of the worker, with words of its own",
        f"reached(); postMessage({{op: 'broken', message: 'FORGED '.repeat(100_000)}}); {_POSTED}",
        ends=True,
    ),
    Escape(
        "messages of the protocol before",
        f"reached(); for (const id of [0, 1, 2]) postMessage({{op: 'done', id, text: '{{}}', parts: []}}); {_POSTED}",
        ends=True,
    ),
    Escape(
        "messages that are none",
        f"reached(); for (const m of [null, 5, 'x', [], {{}}, {{op: 'x'}}, {{op: {{}}}}]) postMessage(m); {_POSTED}",
        ends=True,
    ),
    Escape(
        "a flood of messages",
        f"reached(); for (let n = 0; n < 100000; n++) postMessage({{op: 'release', text: 'FORGED '.repeat(10)}}); {_POSTED}",
        ends=True,
    ),
    Escape("the worker closes", "reached(); self.close(); return 'closed'", ends=True),
    Escape("the worker ends the process", "reached(); Deno.exit(0)", ends=True),
    Escape(
        "process.exit and abort", "reached(); process.reallyExit?.(0); process.abort()", ends=True
    ),
    Escape(
        "an error that nobody catches",
        "reached(); setTimeout(() => { throw new Error('planted') }, 0); await new Promise((r) => setTimeout(r, 200)); return 'thrown'",
        ends=True,
    ),
    Escape(
        "a rejection that nobody catches",
        "reached(); Promise.reject(new Error('planted')); await new Promise((r) => setTimeout(r, 200)); return 'rejected'",
        ends=True,
    ),
)

PIPES = (
    Escape(
        "forged ends of requests",
        f"{_FRAMES} reached(); for (const one of frames) write(one); return 'written'",
        ends=True,
    ),
    Escape(
        "a forged end of a later cell, by a listener",
        f"{_FRAMES} reached(); self.addEventListener('message', () => {{ for (const one of frames) write(one) }}); return 'listens'",
        ends=True,
    ),
    Escape(
        "a forged end of a later cell, by a promise that waits for it",
        f"{_FRAMES} reached(); (async () => {{ for (;;) {{ await new Promise((r) => {{ const c = new MessageChannel(); c.port1.onmessage = r; c.port2.postMessage(0) }}); write(frames[1]) }} }})(); return 'waits'",
        ends=True,
    ),
    Escape(
        "thousands of guesses at the number of the request",
        f"{_FRAMES} reached(); const many = []; for (let n = 0; n < 20000; n++) many.push(...frame(2, Math.floor(Math.random() * 2 ** 31), 0, JSON.stringify(end), [value])); write(Uint8Array.from(many)); return 'written'",
        ends=True,
    ),
    Escape(
        "a forged end by node:fs",
        f"{_FRAMES} const fs = process.getBuiltinModule('fs'); reached(); for (const one of frames) fs.writeSync(1, one); return 'written'",
        ends=True,
    ),
    Escape(
        "a forged end by the console",
        f"{_FRAMES} reached(); for (const one of frames) realConsole.log(new TextDecoder('latin1').decode(one)); return 'written'",
        ends=True,
    ),
    Escape(
        "a forged call",
        f"{_FRAMES} reached(); for (let n = 0; n < 12; n++) write(call('echo', n)); return 'written'",
        ends=True,
    ),
    Escape(
        "a forged call of a tool of old",
        f"{_FRAMES} reached(); write(call('launch')); return 'written'",
        ends=True,
    ),
    Escape(
        "a forged frame by /dev/stdout",
        f"{_FRAMES} reached(); Deno.openSync('/dev/stdout', {{write: true}}).writeSync(frames[3]); return 'written'",
        ends=True,
    ),
    Escape(
        "half of a frame",
        f"{_FRAMES} reached(); write(frames[1].subarray(0, 30)); return 'written'",
        ends=True,
    ),
    Escape(
        "the header of a frame as large as may be",
        f"{_FRAMES} const huge = frame(2, 1, 0, '', [value]); new DataView(huge.buffer).setUint32(16, 200_000_000, true); reached(); write(huge.subarray(0, 20)); return 'written'",
        ends=True,
    ),
    Escape(
        "the header of a frame of all the memory there is",
        f"{_FRAMES} const huge = new Uint8Array(16 + 4 * 16384).fill(255); huge.set([0xd1, 2, 0, 64]); reached(); write(huge); return 'written'",
        ends=True,
    ),
    Escape(
        "bytes that are no frame",
        "reached(); Deno.stdout.writeSync(new TextEncoder().encode('Content-Length: 100000000\\r\\n\\r\\n')); return 'written'",
        ends=True,
    ),
    Escape(
        "a flood of output",
        f"{_FRAMES} const many = new Uint8Array(17 * 100_000); for (let n = 0; n < 100_000; n++) many.set(frame(4, 0, n, ''), n * 17); reached(); write(many); return 'written'",
        ends=True,
    ),
    Escape(
        "a flood of calls",
        f"{_FRAMES} reached(); const one = frame(1, 7, 7, '1echo\\x000\\0[[\"FORGED\"],{{}}]'); const many = new Uint8Array(one.length * 20_000); for (let n = 0; n < 20_000; n++) many.set(one, n * one.length); write(many); return 'written'",
        ends=True,
    ),
    Escape(
        "exit codes of the main thread",
        "reached(); for (const code of [70, 71, 72, 73, 74]) { try { Deno.exitCode = code; process.exitCode = code } catch {} } Deno.exit(72)",
        ends=True,
    ),
    Escape(
        "signals to the main thread",
        "reached(); const said = []; for (const signal of ['SIGUSR1', 'SIGUSR2', 'SIGINT']) { for (const send of [() => Deno.kill(Deno.pid, signal), () => process.kill(process.pid, signal), () => Deno.addSignalListener(signal, () => {})]) { try { said.push(String(send())) } catch (e) { said.push(e.name) } } } await new Promise((r) => setTimeout(r, 100)); return said.join()",
        ends=True,
    ),
    Escape(
        "the host's frames are read",
        "reached(); const b = new Uint8Array(1e6); const n = Deno.stdin.readSync(b); return new TextDecoder().decode(b.subarray(0, n))",
        ends=True,
    ),
    Escape(
        "stderr is filled",
        "reached(); const b = new Uint8Array(65536).fill(65); for (let n = 0; n < 500; n++) Deno.stderr.writeSync(b); return 'written'",
        ends=True,
    ),
    Escape("stdin is closed", "reached(); Deno.stdin.close(); return 'closed'", ends=True),
    Escape("stdout is closed", "reached(); Deno.stdout.close(); return 'closed'", ends=True),
)

MEMORY = (
    Escape(
        "memory that is shared",
        "reached(); const b = new Int32Array(new SharedArrayBuffer(64)); Atomics.add(b, 0, 1); return Atomics.wait(b, 0, 1, 100)",
    ),
    Escape(
        "the shared window",
        "reached(); const seen = []; for (const name of Object.getOwnPropertyNames(globalThis)) { try { const v = globalThis[name]; if (v?.buffer instanceof SharedArrayBuffer) { v.fill(255); seen.push(name) } } catch {} } return seen.join()",
    ),
    Escape(
        "memory of JavaScript",
        "reached(); const held = []; for (;;) held.push(new Array(1e6).fill(1.5 + held.length))",
        ends=True,
    ),
    Escape(
        "buffers of JavaScript",
        "reached(); const held = []; for (;;) held.push(new Uint8Array(1e7).fill(1))",
        ends=True,
    ),
    Escape("an endless loop", "reached(); for (;;);", ends=True),
    Escape(
        "memory of wasm",
        "reached(); const held = []; for (let n = 0; n < 100; n++) { const m = new WebAssembly.Memory({initial: 1, maximum: 65536}); try { m.grow(60000) } catch {} held.push(m) } return held.length",
        ends=True,
    ),
    Escape(
        "very many workers",
        "reached(); const held = []; for (let n = 0; n < 60; n++) held.push(new Worker('data:application/javascript,for(;;);', {type: 'module'})); await new Promise((r) => setTimeout(r, 300)); return held.length",
        ends=True,
    ),
)

SINGLE = {
    "files": FILES,
    "network": NETWORK,
    "processes": PROCESSES,
    "rights": RIGHTS,
    "messages": MESSAGES,
    "pipes": PIPES,
    "memory": MEMORY,
}

# One session stores something and the next one looks for it; the second returns ESCAPED if it finds it.
PAIRS = {
    "caches": (
        "reached(); const c = await caches.open('planted'); await c.put('http://planted.invalid/', new Response('x')); return 'kept'",
        "reached(); const c = await caches.open('planted'); return await c.match('http://planted.invalid/') ? 'ESCAPED' : 'none'",
    ),
    "localStorage": (
        "reached(); localStorage.setItem('planted', 'x'); return 'kept'",
        "reached(); return localStorage.getItem('planted') ? 'ESCAPED' : 'none'",
    ),
    "sessionStorage": (
        "reached(); sessionStorage.setItem('planted', 'x'); return 'kept'",
        "reached(); return sessionStorage.getItem('planted') ? 'ESCAPED' : 'none'",
    ),
    "indexedDB": (
        "reached(); const r = indexedDB.open('planted', 1); await new Promise((done, fail) => { r.onsuccess = done; r.onerror = fail }); return 'kept'",
        "reached(); return (await indexedDB.databases()).length ? 'ESCAPED' : 'none'",
    ),
    "Deno.openKv": (
        "reached(); const kv = await Deno.openKv(); await kv.set(['planted'], 1); return 'kept'",
        "reached(); const kv = await Deno.openKv(); return (await kv.get(['planted'])).value ? 'ESCAPED' : 'none'",
    ),
    "a BroadcastChannel": (
        "reached(); globalThis.held = new BroadcastChannel('planted'); held.postMessage('x'); return 'kept'",
        "reached(); const c = new BroadcastChannel('planted'); const got = await Promise.race([new Promise((done) => { c.onmessage = () => done('ESCAPED') }), new Promise((done) => setTimeout(done, 200, 'none'))]); return got",
    ),
    "globals": (
        "reached(); globalThis.planted = 1; Object.prototype.planted = 1; return 'kept'",
        "reached(); return globalThis.planted || ({}).planted ? 'ESCAPED' : 'none'",
    ),
}
