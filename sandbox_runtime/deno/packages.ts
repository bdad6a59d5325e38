/**
 * Extra packages: their files, mounted read-only, and their compiled modules, which are not part of an image's
 * memory.
 *
 * @module
 */

import type { Part } from "./frames.ts";
import { addAgain, type Added, addedSince, growTable, type Tabled } from "./function_table.ts";

/** The parts of Emscripten that this uses: files, and the table of compiled modules. */
export interface Program extends Tabled {
  FS: Files;
  LDSO: {
    loadedLibsByName: Record<string, { exports: WebAssembly.Exports; global: boolean }>;
    loadedLibsByHandle: Record<string, object>;
  };
  loadDynamicLibrary(name: string, flags: object, scope: object): void;
  /** The address for the next compiled module's data; see `RUNTIME_PATCHES` in `assets.py`. */
  libraryPlace?: number;
}

interface Files {
  mkdirTree(path: string): void;
  writeFile(path: string, data: Uint8Array, options?: { canOwn: boolean }): void;
  lookupPath(path: string): { node: FileNode };
  filesystems: { MEMFS: object };
  mount(type: object, options: object, path: string): void;
}

interface FileNode {
  mode: number;
  node_ops: Record<string, unknown>;
  stream_ops: Record<string, unknown>;
  contents: Record<string, FileNode>;
}

/** The part of Pyodide that creates the head of an image. */
interface Imaging {
  _api: { serializeHiwireState(serializer: unknown): object };
  _module: Program;
}

/** A compiled module in an image: the places of its data and functions. */
interface Library {
  name: string;
  memory: number;
  table: number;
  global: boolean;
  handles: string[];
}

/** All compiled modules of packages, in the order of loading. */
const libraries: { instance: WebAssembly.Instance; memory: number; table: number }[] = [];

/** The length of the table before anything of Python ran. */
let tableStart = 0;

const decoder = new TextDecoder();

/** Mounts the packages' files, which are views of the bundle, without any operation that could change them. */
export function mountPackages(files: Files, bundle: Part): void {
  const view = new DataView(bundle.buffer, bundle.byteOffset);
  let at = 4 + view.getUint32(0, true);
  const index: [string, number][] = JSON.parse(decoder.decode(bundle.subarray(4, at)));
  files.mkdirTree("/packages");
  // A file system of its own, so that the folder itself cannot be renamed either.
  files.mount(files.filesystems.MEMFS, {}, "/packages");
  let folder = "";
  for (const [path, size] of index) {
    const parent = path.slice(0, path.lastIndexOf("/"));
    if (parent !== folder) files.mkdirTree(folder = parent);
    files.writeFile(path, bundle.subarray(at, at + size), { canOwn: true });
    at += size;
  }
  makeReadOnly(files.lookupPath("/packages").node);
}

function makeReadOnly(node: FileNode): void {
  const { getattr, lookup, readdir } = node.node_ops;
  const { llseek, read, mmap } = node.stream_ops;
  const isFolder = lookup !== undefined;
  node.mode &= ~0o222;
  node.node_ops = isFolder ? { getattr, lookup, readdir } : { getattr };
  node.stream_ops = isFolder ? { llseek } : { llseek, read, mmap };
  if (isFolder) { for (const inner of Object.values(node.contents)) makeReadOnly(inner); }
}

/** Records where Emscripten places compiled modules, which it does not record completely itself. */
export function watchLibraries(): void {
  WebAssembly.Instance = new Proxy(WebAssembly.Instance, {
    construct(target, [module, imports]) {
      const instance: WebAssembly.Instance = new target(module, imports);
      const { __memory_base: memory, __table_base: table } = imports?.env ?? {};
      if (imports?.["GOT.mem"] !== undefined && typeof memory === "number") {
        libraries.push({ instance, memory, table });
      }
      return instance;
    },
  });
}

/** Adds the compiled modules, and the functions that were looked up, to the head of every later image. */
export function noteLibraries({ _api: api, _module: program }: Imaging): void {
  const serialize = api.serializeHiwireState.bind(api);
  api.serializeHiwireState = (serializer) => ({
    ...serialize(serializer),
    libraries: libraries.flatMap(({ instance, memory, table }) => {
      const loaded = Object.entries(program.LDSO.loadedLibsByName).find(([, { exports }]) =>
        Object.entries(instance.exports).some(([symbol, item]) =>
          typeof item === "function" && exports[symbol] === item
        )
      );
      if (loaded === undefined) return []; // it failed to load
      const handles = Object.entries(program.LDSO.loadedLibsByHandle)
        .filter(([, other]) => other === loaded[1]).map(([handle]) => handle);
      return { name: loaded[0], memory, table, global: loaded[1].global, handles };
    }),
    functions: addedSince(program, tableStart),
    table: program.wasmTable.length,
  });
}

/** Notes the present length of the table: what Pyodide has put there by now is the same at every start. */
export function noteTable(program: Program): void {
  tableStart = program.wasmTable.length;
}

/** Loads the compiled modules of an image, and the functions that were looked up, each at its old place. */
export function loadLibraries(program: Program, state: Part): void {
  const [, , length] = new Uint32Array(state.buffer, state.byteOffset, 3);
  const head = JSON.parse(decoder.decode(state.subarray(48, 48 + length!)));
  const saved: Library[] = head.libraries ?? [];
  const functions: Added[] = head.functions ?? [];
  for (const { name, memory, table, global, handles } of saved) {
    if (table > 0) {
      addAgain(program, functions, table);
      growTable(program.wasmTable, table);
    }
    program.libraryPlace = memory;
    program.loadDynamicLibrary(name, { global, nodelete: true }, {});
    for (const handle of handles) {
      program.LDSO.loadedLibsByHandle[handle] = program.LDSO.loadedLibsByName[name]!;
    }
  }
  delete program.libraryPlace;
  addAgain(program, functions, Infinity);
  if (saved.length > 0) growTable(program.wasmTable, head.table);
}
