/**
 * Starts Pyodide from memory: its script, its WebAssembly, the boot image and the packages. On the way it takes
 * from the realm whatever only the start needs.
 *
 * @module
 */

import vm from "node:vm";
import type { Part } from "./frames.ts";
import type { FileImports, HostFile } from "./host_file.ts";
import { growTo, imageBytes, imageState, memoryOf, putPages } from "./image.ts";
import { free, type IncomingFiles } from "./incoming_files.ts";
import { loadLibraries, mountPackages, noteTable, watchLibraries } from "./packages.ts";
import type { Pyodide, Runtime } from "./pyodide_types.ts";
import { CHECK, signalCheck } from "./signal_check.ts";
import {
  KEPT_GLOBALS,
  lockIntrinsics,
  narrowCrypto,
  scrubGlobals,
  stopWorkElsewhere,
} from "./realm_scrub.ts";
import { repeatEverything } from "./reproducible.ts";

/** The base URL that Pyodide resolves its file names against. Nothing is ever read from it. */
const HOME = "https://sandbox.invalid/";

/** Pyodide requires an index of packages. This one is of its version, and empty. */
const PACKAGE_INFO = {
  abi_version: "2026_0",
  arch: "wasm32",
  platform: "emscripten_5_0_3",
  version: "314.0.7",
  python: "3.14.2",
};

const decoder = new TextDecoder();

/** The parts that an interpreter starts from. */
export interface Parts {
  /** The names of all files that will arrive. */
  names: string[];
  files: IncomingFiles;
  wasm: Promise<WebAssembly.Module>;
  hostFile: HostFile;
  /** The memory in which signals are sent. */
  signals: WebAssembly.Memory;
  pythonGlobals: () => object;
}

/** A started interpreter. */
export interface Started {
  pyodide: Pyodide;
  /** Its memory. */
  memory: WebAssembly.Memory;
  /** Pyodide's script, whose compiled form can be saved. */
  script: vm.Script;
  /** The head of the image it was started from; null if it was started from sources. */
  head: Part | null;
}

/** Starts the interpreter, with the guest's Python sources on its disk if there is no image. */
export async function startInterpreter(
  { names, files, wasm, hostFile, signals, pythonGlobals }: Parts,
): Promise<Started> {
  const script = await compileScript(names, files);
  const runtime = script.runInThisContext() as Runtime;
  const head = names.includes("boot.head") ? await files.take("boot.head") : null;
  const state = head && imageState(head);
  if (state === null) repeatEverything(); // an image is being built, and builds are reproducible
  narrowCrypto();
  watchLibraries();
  const stdlib = await files.take("python_stdlib.zip");
  const instance = serveFromMemory({ stdlib, wasm, head, hostFile, signals });
  const pyodide = await runtime.loadPyodide({
    indexURL: HOME,
    createPyodideModule: async (settings: object) => {
      const program = await runtime.createPyodideModule(settings);
      noteTable(program);
      if (names.includes("packages.bundle")) {
        mountPackages(program.FS, await files.take("packages.bundle"));
      }
      if (state !== null) {
        // Before the image is put into memory, which undoes whatever loading does to the memory.
        loadLibraries(program, state);
        const pages = await files.take("boot.pages");
        putPages(program, pages);
        free(pages);
      }
      return program;
    },
    lockFileContents: { info: PACKAGE_INFO, packages: {} },
    jsglobals: pythonGlobals(),
    stdin: () => null,
    stdout: () => {},
    stderr: () => {},
    checkAPIVersion: true,
    _makeSnapshot: true,
    ...(state !== null && { _loadSnapshot: state }),
  });
  free(stdlib); // its file system has a copy
  scrubGlobals(KEPT_GLOBALS);
  pyodide._api.config._loadSnapshot = null; // not needed again
  stopWorkElsewhere();
  lockIntrinsics();
  for (const name of names.filter((name) => name.endsWith(".py"))) {
    writeSource(pyodide, name, await files.take(name));
  }
  return { pyodide, memory: memoryOf(await instance), script, head };
}

/** Compiles Pyodide as a script, which V8 loads from its code cache ten times faster than a module. */
async function compileScript(names: string[], files: IncomingFiles): Promise<vm.Script> {
  const cachedData = names.includes("pyodide.cache") && await files.take("pyodide.cache");
  const source = decoder.decode(await files.take("pyodide.js"));
  const script = new vm.Script(source, {
    filename: "pyodide.js",
    ...(cachedData && { cachedData }),
  });
  if (cachedData) free(cachedData);
  return script;
}

/** Serves Pyodide's own requests for its files, which this realm could not fetch. Returns what becomes its instance. */
function serveFromMemory(
  { stdlib, wasm, head, hostFile, signals }: Pick<Parts, "wasm" | "hostFile" | "signals"> & {
    stdlib: Part;
    head: Part | null;
  },
): Promise<WebAssembly.Instance> {
  const started = Promise.withResolvers<WebAssembly.Instance>();
  WebAssembly.instantiateStreaming = async (_source, imports) => {
    const module = await wasm;
    imports!.env![CHECK] = signalCheck(signals);
    hostFile.addTo(imports!.wasi_snapshot_preview1 as unknown as FileImports);
    const instance = new WebAssembly.Instance(module, imports);
    if (head !== null) growTo(memoryOf(instance), imageBytes(head));
    started.resolve(instance);
    return { instance, module };
  };
  const file = { ok: true, arrayBuffer: () => Promise.resolve(stdlib.buffer) };
  globalThis.fetch = () => Promise.resolve(file as Response);
  return started.promise;
}

function writeSource(pyodide: Pyodide, name: string, bytes: Part): void {
  const path = `/lib/python3.14/site-packages/sandbox_runtime/guest/${name}`;
  pyodide.FS.mkdirTree(path.slice(0, path.lastIndexOf("/")));
  pyodide.FS.writeFile(path, bytes);
}
