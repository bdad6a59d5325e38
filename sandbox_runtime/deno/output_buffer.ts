/**
 * What a cell has printed and the host has not heard: joined, and no more of it than is shown of a cell.
 *
 * @module
 */

export class Heard {
  #room: number;
  #pieces: string[] = [];

  /** Takes `room` characters in all. */
  constructor(room: number) {
    this.#room = room;
  }

  /** Adds text; what is beyond the limit comes with the end of the cell, abridged. */
  add(text: string): void {
    const piece = text.slice(0, this.#room);
    if (piece === "") return;
    this.#room -= piece.length;
    this.#pieces.push(piece);
  }

  /** All since the last time, in one piece. */
  take(): string {
    if (this.#pieces.length === 0) return "";
    const text = this.#pieces.join("");
    this.#pieces = [];
    return text;
  }
}
