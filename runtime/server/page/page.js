// What an operator sees: wires the brain's events to the parts of the page, and its forms to the brain.

import { ask, events, setToken, takeToken } from "./api.js";
import { Conversation } from "./conversation.js";
import { at, keepFresh, note, setClock } from "./elements.js";
import { Feed } from "./feed.js";
import { People } from "./people.js";
import * as view from "./view.js";
import { showTimes } from "./waterfall.js";
import { ago, size } from "./words.js";

const STATES = { idle: "idle", thinking: "thinking", speaking: "speaking", draining: "being stopped" };

const people = new People();
const conversation = new Conversation(showTimes);
const feed = new Feed(heard, connected);

const hears = {
  state(state) {
    at("model").textContent = state.model;
    document.title = `${state.model} · User-VLM`;
    at("version").textContent = `uservlm ${state.version}`;
    setClock(state.now);
    keepFresh(at("started"), state.started, (time, now) => ago(time, now).replace(" ago", ""));
    showLoad(state);
    people.show(state.users);
    showView(state.view);
    conversation.replace(state.turns);
    at("silence").hidden = state.turns.length > 0;
  },
  turn: (turn) => conversation.put(turn),
  turns: (turns) => conversation.replace(turns),
  token: (piece) => conversation.piece(piece),
  view: showView,
  users: (users) => people.show(users),
  load: showLoad,
};

function heard(name, data) {
  hears[name]?.(data);
}

function showView(seen) {
  people.see(seen);
  view.show(seen);
}

function showLoad({ state, doors, queue, load, now }) {
  setClock(now);
  at("state").dataset.state = state;
  at("state-text").textContent = STATES[state];
  const share = load.cpu_percent / load.cores;
  at("cpu").value = share;
  at("cpu-text").textContent = `${Math.round(share)} % of ${load.cores} cores`;
  at("memory").value = (100 * load.memory_bytes) / load.memory_total_bytes;
  at("memory-text").textContent = `${size(load.memory_bytes)} of ${size(load.memory_total_bytes)}`;
  at("queue").max = queue.limit;
  at("queue").value = queue.running + queue.waiting;
  at("queue-text").textContent = queue.running ? `1 running, ${queue.waiting} waiting` : "empty";
  for (const name of ["http", "qi"]) {
    const door = doors[name];
    at(`door-${name}`).textContent = door.detail ? `${door.state}: ${door.detail}` : door.state;
    at(`door-${name}`).className = door.state === "open" ? "door-open" : door.state === "off" ? "" : "door-other";
  }
}

function connected(how, seconds) {
  const locked = how === "locked";
  at("token-form").hidden = !locked;
  at("main").hidden = locked;
  at("connection").textContent =
    how === "live" ? "live" : locked ? "the token is needed" : seconds ? `the brain is away; again in ${seconds} s` : "the brain is away; trying …";
  if (how === "live") return;
  at("state").dataset.state = "away";
  at("state-text").textContent = locked ? "locked" : "away";
  if (locked) {
    note("token-note", sessionStorage.length ? "That is not the token." : "", true);
    at("token").focus();
  }
}

at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(at("token").value.trim());
  at("token").value = "";
  feed.unlock();
});

at("file").addEventListener("change", async () => {
  const [file] = at("file").files;
  at("file").value = "";
  if (file && (await view.send(file))) {
    people.pickView();
    at("question").focus();
  }
});

at("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = at("question").value.trim();
  const user = people.chosen;
  if (!text || user === null) {
    note("ask-note", text ? "Show a picture first, or let the robot see somebody." : "Type a question.", true);
    return;
  }
  at("send").disabled = true;
  note("ask-note", "");
  try {
    await put(text, user);
    if (at("question").value.trim() === text) at("question").value = "";
  } catch (error) {
    if (error.status === undefined) throw error;
    note("ask-note", error.again ? `${error.message} Again in ${error.again} s.` : error.message, true);
  } finally {
    at("send").disabled = false;
  }
});

/** Put a question. The answer is shown from the feed, as everybody's is; a reader that goes would end the turn. */
async function put(text, user) {
  const body = { messages: [{ role: "user", content: text }], user, stream: true, uservlm: { door: "page" } };
  const response = await ask("POST", "v1/chat/completions", body);
  for await (const _ of events(response)); // eslint-disable-line no-unused-vars
}

takeToken();
feed.run();
