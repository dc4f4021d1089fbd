// The turns as they happen, the latest first. Owns their elements; told of turns and pieces of text.

import { ask } from "./api.js";
import { at, make } from "./elements.js";
import { clock } from "./words.js";

const DOORS = { http: "over HTTP", qi: "on the robot", page: "from this page" };
const STATES = { waiting: "waiting", thinking: "thinking …", speaking: "speaking …", answered: "", failed: "failed", cancelled: "stopped" };
const RUNNING = ["waiting", "thinking", "speaking"];
const MOST = 50;

export class Conversation {
  /** `chosen` is told which turn's times are wanted. */
  constructor(chosen) {
    this.chosen = chosen;
    this.turns = new Map();
    this.shown = null;
  }

  /** Show these turns, oldest first, and no others. */
  replace(turns) {
    this.turns.clear();
    at("turns").replaceChildren();
    for (const turn of turns) this.put(turn);
    const ended = turns.filter((turn) => turn.usage);
    this.choose(ended.at(-1)?.id ?? null);
  }

  /** Take in what is known of a turn. */
  put(turn) {
    const before = this.turns.get(turn.id);
    const row = before?.row ?? this.row(turn);
    this.turns.set(turn.id, { turn, row });
    this.write(turn, row);
    at("silence").hidden = true;
    for (const [id, old] of this.turns) {
      if (this.turns.size <= MOST) break;
      old.row.remove();
      this.turns.delete(id);
    }
    if (turn.usage && before && !before.turn.usage) this.choose(turn.id);
    if (before && before.turn.state !== turn.state && !RUNNING.includes(turn.state)) {
      at("heard").textContent = turn.error ? turn.error.message : turn.text;
    }
  }

  /** Take in a piece of an answer, at the place where it belongs. */
  piece({ turn: id, at: place, text }) {
    const known = this.turns.get(id);
    if (!known) return;
    const letters = Array.from(known.turn.text);
    known.turn.text = letters.slice(0, place).join("") + text;
    known.row.querySelector(".answer").textContent = known.turn.text;
  }

  /** Show one turn's times. */
  choose(id) {
    this.shown = id;
    for (const [key, { row }] of this.turns) {
      if (key === id) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    this.chosen(this.turns.get(id)?.turn ?? null);
  }

  row(turn) {
    const stop = make("button", { type: "button", class: "stop", onclick: () => this.stop(turn.id, stop) }, "Stop");
    const times = make("button", { type: "button", class: "times", onclick: () => this.choose(turn.id) }, "Times");
    times.setAttribute("aria-label", `Times of the turn at ${clock(turn.begun)}`);
    const row = make(
      "li",
      { class: "turn", "data-turn": turn.id },
      make("header", {}, make("span", { class: "asked" }), make("span", { class: "where" }), make("time", {}), make("span", { class: "how" }), make("span", { class: "ways" }, stop, times)),
      make("p", { class: "put" }),
      make("p", { class: "answer" }),
      make("p", { class: "error", hidden: "" }),
    );
    at("turns").prepend(row);
    return row;
  }

  write(turn, row) {
    const put = (name, text) => (row.querySelector(name).textContent = text);
    put(".asked", turn.user ?? "Somebody");
    put(".where", DOORS[turn.door]);
    put("time", clock(turn.begun));
    put(".how", STATES[turn.state]);
    put(".put", turn.question);
    put(".answer", turn.text);
    put(".error", turn.error && turn.state === "failed" ? turn.error.message : "");
    row.querySelector(".error").hidden = turn.state !== "failed";
    row.querySelector(".stop").hidden = !RUNNING.includes(turn.state);
    row.querySelector(".times").hidden = !turn.usage;
    row.classList.toggle("speaking", turn.state === "speaking");
  }

  async stop(id, button) {
    button.disabled = true;
    try {
      await ask("POST", `v1/cancel/${encodeURIComponent(id)}`);
    } catch (error) {
      if (error.status === undefined) throw error;
      button.disabled = error.status === 404; // it has ended by itself
    }
  }
}
