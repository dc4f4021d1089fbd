// The brain's events, for as long as the page is open. Owns reconnecting; knows nothing of what is told.

import { ask, events } from "./api.js";

const FIRST_S = 0.5;
const LONGEST_S = 8;

export class Feed {
  /** `heard` gets each event, `said` how the connection is: live, away (with seconds), locked. */
  constructor(heard, said) {
    this.heard = heard;
    this.said = said;
    this.wake = null;
  }

  /** Follow, and come back whenever the brain has been away. */
  async run() {
    let pause = FIRST_S;
    for (;;) {
      let locked = false;
      try {
        const response = await ask("GET", "v1/events");
        for await (const { name, data } of events(response)) {
          if (name === "state") {
            pause = FIRST_S;
            this.said("live");
          }
          this.heard(name, data);
        }
      } catch (error) {
        if (error.status === undefined) throw error; // a mistake of ours
        locked = error.status === 401;
        if (error.again) pause = Math.max(pause, error.again);
      }
      if (locked) {
        this.said("locked");
        await new Promise((resolve) => (this.wake = resolve));
        pause = FIRST_S;
      } else {
        await this.count(pause);
        pause = Math.min(2 * pause, LONGEST_S);
      }
    }
  }

  /** Try again now: there is a token. */
  unlock() {
    this.wake?.();
  }

  async count(seconds) {
    for (let left = seconds; left > 0; left -= 1) {
      this.said("away", Math.ceil(left));
      await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(left, 1)));
    }
    this.said("away", 0);
  }
}
