// Making and finding elements. What comes from the server goes in as text and never as markup.

/** The element of an id. */
export function at(id) {
  return document.getElementById(id);
}

/** A new element: its name, attributes ("class", "data-x", or a property such as onclick) and what is in it. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** Put text in, if it is not there already: what does not change keeps its selection. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const counting = new Map();

/** Say something beside a form; `bad` for what went wrong, `again` for when it may be tried again, in s. */
export function note(id, text, bad = false, again = null) {
  clearInterval(counting.get(id));
  at(id).textContent = text;
  at(id).classList.toggle("bad", bad);
  if (again === null) return;
  // Counted for the eye only: read aloud, each second would be one announcement.
  const left = make("span", { "aria-hidden": "true" });
  const until = Date.now() + 1000 * again;
  const tell = () => {
    const seconds = Math.ceil((until - Date.now()) / 1000);
    left.textContent = seconds > 0 ? ` Again in ${seconds} s.` : " Ask again.";
    if (seconds <= 0) clearInterval(counting.get(id));
  };
  at(id).append(left);
  counting.set(id, setInterval(tell, 250));
  tell();
}

/** Say beside a form what was refused; gives false for a mistake of ours. */
export function refused(id, error) {
  if (error.status === undefined) return false;
  if (error.status === 429) note(id, "Busy.", true, error.again ?? 1);
  else note(id, error.message, true, error.again);
  return true;
}

const times = new Set();
let ahead = 0;

/** How far the server's clock is ahead of ours, in ms. */
export function setClock(now) {
  ahead = Date.parse(now) - Date.now();
}

/** The server's time. */
export function now() {
  return Date.now() + ahead;
}

/** Keep a <time> fresh: `say` gives its text from its time and the server's; `none` stands where there is no time. */
export function keepFresh(element, time, say, none = "") {
  if (time === null) {
    times.delete(element);
    element.removeAttribute("datetime");
    element.removeAttribute("title");
    write(element, none);
    return element;
  }
  element.dateTime = time;
  element.title = new Date(time).toLocaleString();
  element.say = () => write(element, say(time, now()));
  element.say();
  times.add(element);
  return element;
}

setInterval(() => {
  for (const element of times) {
    if (element.isConnected) element.say();
    else times.delete(element);
  }
}, 1000);
