// The brain's events, for as long as the page is open. Owns reconnecting; knows nothing of what is told.

import { ask, events } from "./api.js";

const FIRST_S = 0.5;
const LONGEST_S = 8;
/** The brain tells how it fares every second: after so long without a word the line is dead, and nobody says so. */
const SILENT_S = 12;

export class Feed {
  /** `heard` gets each event, `said` how the connection is: live, locked, or away (with seconds and a reason). */
  constructor(heard, said) {
    this.heard = heard;
    this.said = said;
    this.wake = () => {};
  }

  /** Follow, and come back whenever the brain has been away. */
  async run() {
    let pause = FIRST_S;
    for (;;) {
      let why = null;
      try {
        for await (const { name, data } of this.follow()) {
          if (name === "state") {
            pause = FIRST_S;
            this.said("live");
          }
          this.heard(name, data);
        }
      } catch (error) {
        if (error.status === undefined) throw error; // a mistake of ours
        why = error;
      }
      if (why?.status === 401) {
        this.said("locked");
        await this.sleep(Infinity);
        pause = FIRST_S;
      } else {
        await this.count(Math.max(pause, why?.again ?? 0), why?.status ? why.message : "The brain is away");
        pause = Math.min(2 * pause, LONGEST_S);
      }
    }
  }

  /** Try again now: there is a token, or the network is back. */
  again() {
    this.wake();
  }

  async *follow() {
    const line = new AbortController();
    let silent = setTimeout(() => line.abort(), 1000 * SILENT_S);
    try {
      for await (const event of events(await ask("GET", "v1/events", undefined, line.signal))) {
        clearTimeout(silent);
        silent = setTimeout(() => line.abort(), 1000 * SILENT_S);
        yield event;
      }
    } finally {
      clearTimeout(silent);
      line.abort();
    }
  }

  async count(seconds, why) {
    for (let left = seconds; left > 0; left -= 1) {
      this.said("away", Math.ceil(left), why);
      if (await this.sleep(Math.min(left, 1))) break;
    }
    this.said("away", 0, why);
  }

  /** Wait; gives whether somebody woke us. */
  sleep(seconds) {
    return new Promise((resolve) => {
      const timer = seconds === Infinity ? null : setTimeout(() => resolve(false), 1000 * seconds);
      this.wake = () => {
        clearTimeout(timer);
        resolve(true);
      };
    });
  }
}
