// What an operator sees: wires the brain's events to the parts of the page, and its forms to the brain.

import { ask, events, hasToken, setToken, takeToken } from "./api.js";
import { Conversation } from "./conversation.js";
import { at, keepFresh, note, refused, setClock, write } from "./elements.js";
import { Feed } from "./feed.js";
import { People } from "./people.js";
import * as view from "./view.js";
import { showTimes } from "./waterfall.js";
import { since, size } from "./words.js";

const STATES = { idle: "idle", thinking: "thinking", speaking: "speaking", draining: "being stopped" };

const people = new People();
const conversation = new Conversation(showTimes);
const feed = new Feed(heard, connected);
let how = null;

const hears = {
  state(state) {
    setClock(state.now);
    write(at("model"), state.model);
    document.title = `${state.model} · User-VLM`;
    write(at("version"), `uservlm ${state.version}`);
    keepFresh(at("started"), state.started, since);
    showLoad(state);
    people.show(state.users);
    showView(state.view);
    conversation.replace(state.turns);
  },
  turn: (turn) => conversation.put(turn),
  turns: (turns) => {
    conversation.replace(turns); // somebody was forgotten: nothing that was said of them stays
    at("heard").textContent = "";
    note("file-note", "");
  },
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
  write(at("state-text"), STATES[state]);
  const share = load.cpu_percent / load.cores;
  at("cpu").value = share;
  write(at("cpu-text"), `${Math.round(share)}\u00a0% of ${load.cores}\u00a0${load.cores === 1 ? "core" : "cores"}`);
  at("memory").value = (100 * load.memory_bytes) / load.memory_total_bytes;
  write(at("memory-text"), `${size(load.memory_bytes)} of ${size(load.memory_total_bytes)}`);
  at("queue").max = queue.limit;
  at("queue").value = queue.running + queue.waiting;
  write(at("queue-text"), queue.running ? `${queue.running} running, ${queue.waiting} waiting` : "empty");
  for (const name of ["http", "qi"]) {
    const door = doors[name];
    write(at(`door-${name}`), door.state);
    write(at(`door-${name}-detail`), door.detail);
    at(`door-${name}`).dataset.door = door.state;
  }
}

/** Say how the connection is; aloud only when it changes, not each second. */
function connected(now, seconds = 0, why = "") {
  const locked = now === "locked";
  const said = { live: "live", locked: "the token is needed", away: seconds ? `${why}, again in ${seconds}\u00a0s` : `${why}, trying …` }[now];
  write(at("connection"), said);
  if (now !== "live") {
    at("state").dataset.state = "away";
    write(at("state-text"), locked ? "locked" : "away");
  }
  if (locked) {
    note("token-note", hasToken() ? "That is not the token." : "", true);
  }
  if (now === how) return;
  how = now;
  document.body.dataset.connection = now;
  write(at("announced"), { live: "The page is connected.", locked: "The token is needed.", away: `${why}.` }[now]);
  at("token-form").hidden = !locked;
  at("main").hidden = locked;
  if (locked) at("token").focus();
}

at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(at("token").value.trim());
  at("token").value = "";
  feed.again();
});

at("follow").addEventListener("click", () => conversation.pin(null));

at("file").addEventListener("change", async () => {
  const [file] = at("file").files;
  at("file").value = "";
  if (!file || !(await view.send(file))) return;
  at("user").value = "view";
  if (document.activeElement === at("file") || document.activeElement === document.body) at("question").focus();
});

let asking = false;

at("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = at("question").value.trim();
  const user = people.chosen;
  if (!text || user === null) {
    note("ask-note", text ? "Show a picture first, or let the robot see somebody." : "Type a question.", true);
    return;
  }
  if (asking) return; // Enter twice
  asking = true;
  note("ask-note", "");
  try {
    const answer = await put(text, user);
    if (at("question").value.trim() === text) at("question").value = ""; // it is being answered
    drain(answer);
  } catch (error) {
    if (!refused("ask-note", error)) throw error;
  } finally {
    asking = false;
  }
});

/** Put a question; gives the response when the first word is there. */
function put(text, user) {
  const body = { messages: [{ role: "user", content: text }], user, stream: true, uservlm: { door: "page" } };
  return ask("POST", "v1/chat/completions", body);
}

/** Read an answer to its end, for a reader that goes away ends the turn. It is shown from the feed, as everybody's is. */
async function drain(answer) {
  try {
    for await (const _ of events(answer)); // eslint-disable-line no-unused-vars
  } catch (error) {
    if (error.status === undefined) throw error; // else the brain is away, which the feed says
  }
}

addEventListener("online", () => feed.again());
addEventListener("hashchange", () => takeToken() && feed.again());
takeToken();
feed.run();
