// Requests to the brain: the token, errors as sentences, and server-sent events over fetch
// (EventSource cannot send a token). Owns the token, which stays in this tab.

import { sentence } from "./words.js";

const KEY = "uservlm-token";

/** A request that was refused; `status` 0 when nobody answered, `again` in s or null. */
export class Refused extends Error {
  constructor(status, message, again = null) {
    super(message);
    this.status = status;
    this.again = again;
  }
}

/** Take a token from the address, once; gives whether there was one. */
export function takeToken() {
  const given = /^#token=(.*)$/s.exec(location.hash);
  if (given === null) return false;
  history.replaceState(null, "", location.pathname + location.search);
  setToken(decoded(given[1]));
  return true;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // it held a percent sign of its own
  }
}

/** Use a token from now on. */
export function setToken(token) {
  sessionStorage.setItem(KEY, token);
}

/** Whether there is a token, right or wrong. */
export function hasToken() {
  return Boolean(sessionStorage.getItem(KEY));
}

/** Ask; gives the response, or throws Refused. */
export async function ask(method, path, body, signal) {
  const headers = {};
  const token = sessionStorage.getItem(KEY);
  if (token && !/^[\x21-\x7e]+$/.test(token)) throw new Refused(401, "That is not a token."); // no header can carry it
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const sent = body === undefined ? undefined : JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, { method, headers, body: sent, signal, cache: "no-store" });
  } catch {
    throw new Refused(0, "The brain does not answer.");
  }
  if (response.ok) return response;
  throw new Refused(response.status, await told(response), Number(response.headers.get("Retry-After")) || null);
}

/** The bytes of a response; throws Refused when they end too early. */
export async function bytes(response) {
  try {
    return await response.blob();
  } catch {
    throw new Refused(0, "The brain has gone away.");
  }
}

/** Read server-sent events: their name and what JSON held. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await next(reader);
      if (done) return;
      text += value;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const event = parsed(text.slice(0, end));
        text = text.slice(end + 2);
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // the connection may be gone already
  }
}

async function next(reader) {
  try {
    return await reader.read();
  } catch {
    throw new Refused(0, "The brain has gone away.");
  }
}

function parsed(block) {
  let name = "message";
  let data = null;
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data = line.slice(6);
  }
  return data === null || data === "[DONE]" ? null : { name, data: JSON.parse(data) };
}

async function told(response) {
  try {
    return sentence((await response.json()).error.message);
  } catch {
    return `The server answered ${response.status}.`;
  }
}
