/**
 * The value that a cell has submitted, held outside of Python until the cell has ended.
 *
 * @module
 */

import type { Part } from "./frames.ts";
import { plainJson } from "./plain_json.ts";

export class Submission {
  #json: Part | null = null;

  /**
   * Holds plain data in Python's marshal format, as JSON of at most `most` bytes, in place of what was held. Returns
   * whether it does: what is not plain, or longer, is left to Python.
   */
  hold(packed: Part, most: number): boolean {
    const json = plainJson(packed, most);
    if (json === null) return false;
    this.#json = json;
    return true;
  }

  /** Returns the end of a cell with what is held in place of a single empty part, and holds nothing any more. */
  complete(parts: Part[]): Part[] {
    const json = this.#json;
    this.#json = null;
    return json !== null && parts.length === 1 && parts[0]!.length === 0 ? [json] : parts;
  }
}
