// Requests to the brain: the token, errors as sentences, and server-sent events over fetch
// (EventSource cannot send a token). Owns the token, which stays in this tab.

const KEY = "uservlm-token";

/** A request that was refused; `status` 0 when nobody answered. */
export class Refused extends Error {
  constructor(status, message, again) {
    super(message);
    this.status = status;
    this.again = again;
  }
}

/** Take a token from the address, once. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given === null) return;
  setToken(given);
  history.replaceState(null, "", location.pathname + location.search);
}

/** Use a token from now on. */
export function setToken(token) {
  sessionStorage.setItem(KEY, token);
}

/** Ask; gives the response, or throws Refused. */
export async function ask(method, path, body, signal) {
  const headers = {};
  const token = sessionStorage.getItem(KEY);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const sent = body === undefined ? undefined : JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, { method, headers, body: sent, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The brain does not answer.");
  }
  if (response.ok) return response;
  throw new Refused(response.status, await sentence(response), Number(response.headers.get("Retry-After")) || null);
}

/** Read server-sent events: their name and what JSON held. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const event = parsed(text.slice(0, end));
        text = text.slice(end + 2);
        if (event) yield event;
      }
    }
  } catch (error) {
    if (error.name !== "TypeError") throw error;
    throw new Refused(0, "The brain has gone away.");
  } finally {
    reader.cancel().catch(() => {}); // the connection may be gone already
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

async function sentence(response) {
  try {
    const { message } = (await response.json()).error;
    return message[0].toUpperCase() + message.slice(1) + ".";
  } catch {
    return `The server answered ${response.status}.`;
  }
}
