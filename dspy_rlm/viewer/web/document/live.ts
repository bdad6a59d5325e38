/**
 * Follows a journal that is still written: asks the page's own server for changes once a second.
 */

import type { LiveAnswer } from "./format.ts";
import type { Store } from "./store.ts";

const EVERY_MILLISECONDS = 1000;

/** Failures in a row after which it gives up. */
const MOST_FAILURES = 5;

export type LiveState = "live" | "retrying" | "lost" | "ended";

/** Polls until the run has ended or the server is gone. `changed` is called after each new document. */
export function follow(
  store: Store,
  changed: () => void,
  show: (state: LiveState) => void,
): void {
  let version = 0;
  let failures = 0;

  const poll = async (): Promise<void> => {
    try {
      const chunks = store.texts.chunkCount;
      const response = await fetch(`changes?version=${version}&chunks=${chunks}`, {
        cache: "no-store",
      });
      if (response.status === 410) {
        show("lost");
        return;
      }
      if (response.status === 200) {
        const answer = await response.json() as LiveAnswer;
        version = answer.version;
        store.update(answer);
        changed();
      } else if (response.status !== 204) {
        throw new Error(`The server answered ${response.status}.`);
      }
      failures = 0;
      show("live");
    } catch {
      failures += 1;
      if (failures >= MOST_FAILURES) {
        show("lost");
        return;
      }
      show("retrying");
    }
    if (store.journal(0).status === "running") {
      setTimeout(poll, EVERY_MILLISECONDS);
    } else {
      show("ended");
    }
  };

  setTimeout(poll, EVERY_MILLISECONDS);
}
