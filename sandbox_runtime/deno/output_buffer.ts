/**
 * The output of a cell on its way to the host: joined, and bounded by what may be shown of a cell.
 *
 * @module
 */

/** What a cell has printed and the host has not received. */
export class UnsentOutput {
  #room: number;
  #pieces: string[] = [];

  /** Accepts at most `room` characters in total. */
  constructor(room: number) {
    this.#room = room;
  }

  /** Adds text. What exceeds the limit arrives with the end of the cell, abridged. */
  add(text: string): void {
    const piece = text.slice(0, this.#room);
    if (piece === "") return;
    this.#room -= piece.length;
    this.#pieces.push(piece);
  }

  /** Returns everything since the last call, as one text. */
  take(): string {
    if (this.#pieces.length === 0) return "";
    const text = this.#pieces.join("");
    this.#pieces = [];
    return text;
  }
}
