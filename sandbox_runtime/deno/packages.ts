/**
 * Extra packages: their files, mounted read-only, and their compiled modules, which an image's memory
 * alone does not hold.
 *
 * @module
 */

import type { Part } from "./link.ts";

/** What Emscripten shows of the program: its files, and what it knows of compiled modules. */
export interface Program {
  FS: Files;
  LDSO: {
    loadedLibsByName: Record<string, { exports: WebAssembly.Exports; global: boolean }>;
    loadedLibsByHandle: Record<string, object>;
  };
  wasmTable: WebAssembly.Table;
  loadDynamicLibrary(name: string, flags: object, scope: object): void;
  /** Where the next compiled module's data goes; see `RUNTIME_PATCHES` in `assets.py`. */
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

/** The part of Pyodide that makes the head of an image. */
interface Imaging {
  _api: { serializeHiwireState(serializer: unknown): object };
  _module: Program;
}

/** A compiled module of a package that an image was taken with: where its data and functions lie. */
interface Library {
  name: string;
  memory: number;
  table: number;
  global: boolean;
  handles: string[];
}

/** Every compiled module of a package so far, in the order of loading. */
const libraries: { instance: WebAssembly.Instance; memory: number; table: number }[] = [];

const decoder = new TextDecoder();

/**
 * Writes the packages' files, which are views of the bundle, and takes from them whatever could
 * change them.
 */
export function mountPackages(files: Files, bundle: Part): void {
  const view = new DataView(bundle.buffer, bundle.byteOffset);
  let at = 4 + view.getUint32(0, true);
  const index: [string, number][] = JSON.parse(decoder.decode(bundle.subarray(4, at)));
  files.mkdirTree("/packages");
  // A file system of its own, so that the folder itself cannot be moved away either.
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

/** Remembers where Emscripten puts compiled modules; it does not remember all of it. */
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

/** Puts the compiled modules into the head of each image that is taken from now on. */
export function noteLibraries({ _api: api, _module: program }: Imaging): void {
  const serialize = api.serializeHiwireState.bind(api);
  api.serializeHiwireState = (serializer) => ({
    ...serialize(serializer),
    libraries: libraries.flatMap(({ instance, memory, table }) => {
      const known = Object.entries(program.LDSO.loadedLibsByName).find(([, { exports }]) =>
        Object.entries(instance.exports).some(([symbol, item]) =>
          typeof item === "function" && exports[symbol] === item
        )
      );
      if (known === undefined) return []; // its loading has failed
      const handles = Object.entries(program.LDSO.loadedLibsByHandle)
        .filter(([, other]) => other === known[1]).map(([handle]) => handle);
      return { name: known[0], memory, table, global: known[1].global, handles };
    }),
    table: program.wasmTable.length,
  });
}

/** Loads the compiled modules that an image was taken with, each to the place where it was. */
export function loadLibraries(program: Program, state: Part): void {
  const [, , length] = new Uint32Array(state.buffer, state.byteOffset, 3);
  const head = JSON.parse(decoder.decode(state.subarray(48, 48 + length!)));
  const saved: Library[] = head.libraries ?? [];
  for (const { name, memory, table, global, handles } of saved) {
    if (table > 0) growTable(program.wasmTable, table);
    program.libraryPlace = memory;
    program.loadDynamicLibrary(name, { global, nodelete: true }, {});
    for (const handle of handles) {
      program.LDSO.loadedLibsByHandle[handle] = program.LDSO.loadedLibsByName[name]!;
    }
  }
  delete program.libraryPlace;
  if (saved.length > 0) growTable(program.wasmTable, head.table);
}

/** The functions of an image have numbers, so each module's must begin at the same one again. */
function growTable(table: WebAssembly.Table, length: number): void {
  if (table.length > length) throw new Error("the image's modules do not fit into the table");
  table.grow(length - table.length);
}
