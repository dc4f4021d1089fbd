// The turns as they happen, the latest first. Owns their elements, and which turn's times are shown.

import { ask } from "./api.js";
import { at, make, write } from "./elements.js";
import { clock, sentence, took } from "./words.js";

const DOORS = { http: "over HTTP", qi: "on the robot", page: "from this page" };
const STATES = { waiting: "waiting …", thinking: "thinking …", speaking: "speaking …", answered: "", failed: "failed", cancelled: "stopped" };
const RUNNING = ["waiting", "thinking", "speaking"];
const MOST = 50;

export class Conversation {
  /** `chosen` is told whose times are wanted, and whether that is the latest answer. */
  constructor(chosen) {
    this.chosen = chosen;
    this.turns = new Map();
    this.pinned = null;
    this.shown = undefined;
  }

  /** Show these turns, oldest first, and no others. */
  replace(turns) {
    const stay = new Set(turns.map((turn) => turn.id));
    for (const id of [...this.turns.keys()]) if (!stay.has(id)) this.drop(id);
    for (const turn of turns) this.put(turn);
    this.settle();
  }

  /** Take in what is known of a turn. */
  put(turn) {
    if (this.turns.has(turn.id) && this.turns.get(turn.id).turn.begun !== turn.begun) this.drop(turn.id); // its asker uses an id again
    const before = this.turns.get(turn.id);
    const row = before?.row ?? this.row(turn);
    this.turns.set(turn.id, { turn, row });
    this.write(turn, row);
    if (before && before.turn.state !== turn.state && !RUNNING.includes(turn.state)) {
      at("heard").textContent = turn.error ? sentence(turn.error.message) : turn.text;
    }
    while (this.turns.size > MOST) this.drop(this.turns.keys().next().value);
    this.settle();
  }

  /** Take in a piece of an answer, at the place where it belongs. */
  piece({ turn: id, at: place, text }) {
    const known = this.turns.get(id);
    if (!known) return;
    const letters = Array.from(known.turn.text);
    known.turn.text = letters.slice(0, place).join("") + text;
    known.row.querySelector(".answer").textContent = known.turn.text;
  }

  /** Show one turn's times until told otherwise; null follows the latest again. */
  pin(id) {
    this.pinned = id === this.latest ? null : id;
    this.settle();
  }

  /** The id of the latest turn that has an answer. */
  get latest() {
    return [...this.turns.values()].findLast(({ turn }) => turn.usage)?.turn.id ?? null;
  }

  settle() {
    if (!this.turns.has(this.pinned)) this.pinned = null;
    at("silence").hidden = this.turns.size > 0;
    const id = this.pinned ?? this.latest;
    const turn = this.turns.get(id)?.turn ?? null;
    if (this.shown === turn && this.followed === (this.pinned === null)) return;
    this.shown = turn;
    this.followed = this.pinned === null;
    for (const [key, { row }] of this.turns) {
      row.classList.toggle("shown", key === id);
      row.querySelector(".times").setAttribute("aria-pressed", String(key === id));
    }
    this.chosen(turn, this.followed);
  }

  drop(id) {
    this.turns.get(id).row.remove();
    this.turns.delete(id);
  }

  row(turn) {
    const stop = make("button", { type: "button", class: "stop", onclick: () => this.stop(turn.id, stop) }, "Stop");
    const times = make("button", { type: "button", class: "times", onclick: () => this.pin(turn.id) });
    const row = make(
      "li",
      { class: "turn", "data-turn": turn.id },
      make(
        "div",
        { class: "about-turn" },
        make("span", { class: "asked" }),
        make("span", { class: "where" }),
        make("time", { datetime: turn.begun }),
        make("span", { class: "how" }),
        make("span", { class: "ways" }, stop, times),
      ),
      make("p", { class: "put" }),
      make("p", { class: "answer" }),
      make("p", { class: "error", hidden: "" }),
    );
    at("turns").prepend(row);
    return row;
  }

  write(turn, row) {
    const put = (name, text) => write(row.querySelector(name), text);
    row.dataset.state = turn.state;
    const running = RUNNING.includes(turn.state);
    put(".asked", turn.user ?? "Somebody");
    put(".where", DOORS[turn.door]);
    put("time", clock(turn.begun));
    put(".how", STATES[turn.state]);
    put(".put", turn.question);
    put(".answer", turn.text);
    put(".error", turn.error && turn.state === "failed" ? sentence(turn.error.message) : "");
    row.querySelector(".error").hidden = turn.state !== "failed";
    row.querySelector(".stop").hidden = !running;
    row.querySelector(".times").hidden = !turn.usage;
    if (!turn.usage) return;
    put(".times", `after ${took(turn.usage.ttft_s)}`);
    row.querySelector(".times").setAttribute("aria-label", `Times of this turn: first word after ${took(turn.usage.ttft_s)}`);
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
