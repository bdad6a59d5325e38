/**
 * The interpreter's disk. It is not part of the memory, so the files that cells wrote are saved beside the memory
 * image, with the open files and the working directory.
 *
 * @module
 */

import type { Part } from "./frames.ts";

/** The parts of Emscripten's file system that this uses. */
export interface Disk {
  root: Node;
  streams: (Stream | null | undefined)[];
  cwd(): string;
  chdir(path: string): void;
  mkdir(path: string, mode: number): void;
  chmod(path: string, mode: number): void;
  symlink(target: string, path: string): void;
  unlink(path: string): void;
  rmdir(path: string): void;
  open(path: string, flags: number, mode?: number): Stream;
  utime(path: string, accessed: number, changed: number): void;
  writeFile(path: string, data: Uint8Array): void;
  isDir(mode: number): boolean;
  isFile(mode: number): boolean;
  isLink(mode: number): boolean;
}

interface Node {
  name: string;
  mode: number;
  mtime: number;
  /** Depending on `mode`: the children by name, the bytes of a file, or nothing. */
  contents?: Record<string, Node> | Uint8Array | null;
  usedBytes?: number;
  link?: string;
}

interface Stream {
  fd: number;
  path: string;
  flags: number;
  position: number;
  node: Node;
}

/** The fingerprint of each path on a fresh disk. Whatever differs later was changed by a cell. */
export type Baseline = Map<string, string>;

interface Entry {
  path: string;
  mode: number;
  mtime: number;
  bytes: number;
  target: string;
}

interface OpenFile {
  fd: number;
  path: string;
  flags: number;
  position: number;
  /** The length of a file that no longer has a name, which is saved here; -1 for all others. */
  bytes: number;
}

interface Index {
  cwd: string;
  removed: string[];
  entries: Entry[];
  open: OpenFile[];
}

/** Devices, and views of the process. Cells keep no files there. */
const SKIPPED = new Set(["/dev", "/proc"]);

/** The flags of `open` that are kept: the access mode, and whether to append. */
const KEPT_FLAGS = 0o3 | 0o2000;
const READ_AND_WRITE = 0o2;

/** Records the current state of the disk. */
export function baselineOf(disk: Disk): Baseline {
  return new Map(Array.from(walk(disk), ([path, node]) => [path, fingerprint(node)]));
}

/** Saves everything that differs from the baseline. */
export function saveDisk(disk: Disk, baseline: Baseline): Part {
  const parts: Uint8Array[] = [];
  const gone = new Set(baseline.keys());
  const entries: Entry[] = [];
  const named = new Set<Node>();
  for (const [path, node] of walk(disk)) {
    named.add(node);
    gone.delete(path);
    if (baseline.get(path) === fingerprint(node)) continue;
    const bytes = disk.isFile(node.mode) ? bytesOf(node) : new Uint8Array();
    parts.push(bytes);
    const { mode, mtime } = node;
    entries.push({
      path,
      mode,
      mtime: Number(mtime),
      bytes: bytes.length,
      target: node.link ?? "",
    });
  }
  const open = disk.streams.filter((stream) => isOpenFile(disk, stream)).map((stream) => {
    const { fd, path, flags, position, node } = stream!;
    if (named.has(node)) return { fd, path, flags, position, bytes: -1 };
    const bytes = bytesOf(node);
    parts.push(bytes);
    return { fd, path, flags, position, bytes: bytes.length };
  });
  return pack({ cwd: disk.cwd(), removed: [...gone].reverse(), entries, open }, parts);
}

/** Restores a saved disk onto a fresh one. */
export function restoreDisk(disk: Disk, saved: Part): void {
  const { index, data } = unpack(saved);
  disk.chdir("/"); // otherwise the initial working directory could not be removed
  for (const path of index.removed) removePath(disk, path);
  let at = 0;
  const next = (bytes: number): Part => data.slice(at, at += bytes);
  for (const entry of index.entries) putEntry(disk, entry, next(entry.bytes));
  for (const file of index.open) reopen(disk, file, file.bytes < 0 ? null : next(file.bytes));
  // In reverse order: creating a file changes the date of its folder.
  for (const { path, mode, mtime } of index.entries.toReversed()) {
    if (disk.isLink(mode)) continue;
    disk.chmod(path, mode);
    disk.utime(path, mtime, mtime);
  }
  disk.chdir(index.cwd);
}

function* walk(disk: Disk, folder: Node = disk.root, prefix = ""): Generator<[string, Node]> {
  for (const [name, node] of Object.entries(folder.contents as Record<string, Node>)) {
    const path = `${prefix}/${name}`;
    if (SKIPPED.has(path)) continue;
    const isFolder = disk.isDir(node.mode);
    if (!isFolder && !disk.isFile(node.mode) && !disk.isLink(node.mode)) continue;
    yield [path, node];
    if (isFolder) yield* walk(disk, node, path);
  }
}

/**
 * Returns a text that changes with a file. It has no date for a folder, which changes with the folder's files:
 * these are compared themselves.
 */
function fingerprint({ mode, mtime, usedBytes, link = "" }: Node): string {
  return usedBytes === undefined ? `${mode} ${link}` : `${mode} ${Number(mtime)} ${usedBytes}`;
}

/** Returns a file's bytes. Emscripten sometimes stores them as a signed array. */
function bytesOf({ contents, usedBytes = 0 }: Node): Uint8Array {
  if (!ArrayBuffer.isView(contents)) return new Uint8Array();
  return new Uint8Array(contents.buffer, contents.byteOffset, usedBytes);
}

function isOpenFile(disk: Disk, stream: Stream | null | undefined): boolean {
  return !!stream && stream.fd > 2 && !!stream.node && disk.isFile(stream.node.mode) &&
    !stream.path.startsWith("/dev/");
}

function removePath(disk: Disk, path: string): void {
  try {
    disk.unlink(path);
  } catch {
    try {
      disk.rmdir(path);
    } catch {
      // Already removed with something else.
    }
  }
}

function putEntry(disk: Disk, { path, mode, target }: Entry, bytes: Part): void {
  if (disk.isDir(mode)) {
    try {
      disk.mkdir(path, 0o777);
    } catch {
      // It exists, with another mode.
    }
    return;
  }
  removePath(disk, path);
  if (disk.isLink(mode)) disk.symlink(target, path);
  else disk.writeFile(path, bytes);
}

/** Reopens a file under its old number. One without a name gets its bytes back, and again no name. */
function reopen(disk: Disk, file: OpenFile, bytes: Part | null): void {
  const path = bytes === null ? file.path : `/tmp/unnamed-${file.fd}`;
  try {
    if (bytes !== null) disk.writeFile(path, bytes);
    const stream = disk.open(path, bytes === null ? file.flags & KEPT_FLAGS : READ_AND_WRITE);
    disk.streams[stream.fd] = null;
    stream.fd = file.fd;
    stream.position = file.position;
    stream.flags = file.flags;
    disk.streams[file.fd] = stream;
    if (bytes !== null) disk.unlink(path);
  } catch {
    // The cell finds this file closed, as after a disk crash; its other files are there.
  }
}

function pack(index: Index, parts: Uint8Array[]): Part {
  const head = new TextEncoder().encode(JSON.stringify(index));
  const packed = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 8 + head.length));
  new Float64Array(packed.buffer, 0, 1)[0] = head.length;
  packed.set(head, 8);
  let at = 8 + head.length;
  for (const part of parts) {
    packed.set(part, at);
    at += part.length;
  }
  return packed;
}

function unpack(packed: Part): { index: Index; data: Part } {
  const length = new Float64Array(packed.buffer, packed.byteOffset, 1)[0]!;
  const index = JSON.parse(new TextDecoder().decode(packed.subarray(8, 8 + length))) as Index;
  return { index, data: packed.subarray(8 + length) };
}
