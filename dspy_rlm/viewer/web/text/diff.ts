/**
 * The difference of two texts, line by line: Myers' algorithm (1986), with a bound on its work.
 */

export type LineChange = "same" | "added" | "removed";

/** A line of the new text, or one that was removed from the old. */
export interface DiffLine {
  readonly change: LineChange;
  readonly text: string;
  /** The number of the line in its own text, from 1: the new one unless it was removed. */
  readonly number: number;
}

/** Edits above this are not searched for: the middle counts as replaced. Memory grows with the square of it. */
const MOST_EDITS = 1000;

/** Returns the lines of both texts in the order in which a person reads them. */
export function diffLines(before: string, after: string): DiffLine[] {
  const old = before === "" ? [] : before.split("\n");
  const now = after === "" ? [] : after.split("\n");
  let start = 0;
  while (start < old.length && start < now.length && old[start] === now[start]) {
    start += 1;
  }
  let end = 0;
  while (
    end < old.length - start && end < now.length - start &&
    old[old.length - 1 - end] === now[now.length - 1 - end]
  ) {
    end += 1;
  }
  const lines: DiffLine[] = [];
  for (let index = 0; index < start; index++) {
    lines.push({ change: "same", text: now[index] ?? "", number: index + 1 });
  }
  const oldMiddle = old.slice(start, old.length - end);
  const newMiddle = now.slice(start, now.length - end);
  for (const line of middle(oldMiddle, newMiddle)) {
    lines.push({ ...line, number: line.number + start });
  }
  for (let index = now.length - end; index < now.length; index++) {
    lines.push({ change: "same", text: now[index] ?? "", number: index + 1 });
  }
  return lines;
}

function middle(old: readonly string[], now: readonly string[]): DiffLine[] {
  const lines = old.length > 0 && now.length > 0 ? shortestEdit(old, now) : null;
  return lines ?? [
    ...old.map((text, index): DiffLine => ({ change: "removed", text, number: index + 1 })),
    ...now.map((text, index): DiffLine => ({ change: "added", text, number: index + 1 })),
  ];
}

/** Returns the lines of the shortest edit; null if it takes too many edits. */
function shortestEdit(old: readonly string[], now: readonly string[]): DiffLine[] | null {
  const most = Math.min(old.length + now.length, MOST_EDITS);
  const reach = new Int32Array(2 * most + 3);
  const offset = most + 1;
  // How far each diagonal reached before the edits of each round; a round looks only at its neighbours.
  const history: Int32Array[] = [];
  for (let edits = 0; edits <= most; edits++) {
    history.push(reach.slice(offset - edits - 1, offset + edits + 2));
    for (let diagonal = -edits; diagonal <= edits; diagonal += 2) {
      let x = goesDown(reach, offset + diagonal, diagonal, edits)
        ? reach[offset + diagonal + 1] ?? 0
        : (reach[offset + diagonal - 1] ?? 0) + 1;
      while (x < old.length && x - diagonal < now.length && old[x] === now[x - diagonal]) {
        x += 1;
      }
      reach[offset + diagonal] = x;
      if (x >= old.length && x - diagonal >= now.length) {
        return backtrack(history, old, now);
      }
    }
  }
  return null;
}

/** True if the path to a diagonal adds a line; false if it removes one. */
function goesDown(reach: Int32Array, index: number, diagonal: number, edits: number): boolean {
  return diagonal === -edits ||
    (diagonal !== edits && (reach[index - 1] ?? 0) < (reach[index + 1] ?? 0));
}

function backtrack(
  history: readonly Int32Array[],
  old: readonly string[],
  now: readonly string[],
): DiffLine[] {
  const lines: DiffLine[] = [];
  let [x, y] = [old.length, now.length];
  const same = (untilX: number, untilY: number): void => {
    while (x > untilX && y > untilY) {
      y -= 1;
      x -= 1;
      lines.push({ change: "same", text: now[y] ?? "", number: y + 1 });
    }
  };
  for (let edits = history.length - 1; edits > 0; edits--) {
    const reach = history[edits] ?? new Int32Array();
    const diagonal = x - y;
    const middle = diagonal + edits + 1;
    const down = goesDown(reach, middle, diagonal, edits);
    const fromX = reach[down ? middle + 1 : middle - 1] ?? 0;
    const fromY = fromX - (down ? diagonal + 1 : diagonal - 1);
    same(down ? fromX : fromX + 1, down ? fromY + 1 : fromY);
    if (down) {
      y -= 1;
      lines.push({ change: "added", text: now[y] ?? "", number: y + 1 });
    } else {
      x -= 1;
      lines.push({ change: "removed", text: old[x] ?? "", number: x + 1 });
    }
  }
  same(0, 0);
  return lines.reverse();
}

/** Returns the numbers of added and removed lines. */
export function countChanges(lines: readonly DiffLine[]): { added: number; removed: number } {
  const added = lines.filter((line) => line.change === "added").length;
  const removed = lines.filter((line) => line.change === "removed").length;
  return { added, removed };
}
