/**
 * Measures the sandbox's own work in a cell.
 *
 * @module
 */

/** Stands still while the host works for the cell. */
export class CellClock {
  #spent = 0;
  #since: number | null = null;

  get running(): boolean {
    return this.#since !== null;
  }

  get milliseconds(): number {
    return this.#spent + (this.#since === null ? 0 : performance.now() - this.#since);
  }

  start(): void {
    this.#since ??= performance.now();
  }

  pause(): void {
    this.#spent = this.milliseconds;
    this.#since = null;
  }

  /** Takes back the time since the last look: the cell spent it waiting for the host. */
  excuse(milliseconds: number): void {
    this.#spent -= Math.min(milliseconds, this.milliseconds);
  }
}
