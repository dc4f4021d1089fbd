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

/** Say something beside a form; `bad` for what went wrong. */
export function note(id, text, bad = false) {
  at(id).textContent = text;
  at(id).classList.toggle("bad", bad);
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

/** Keep a <time> fresh: `say` gives its text from its time and the server's. */
export function keepFresh(element, time, say) {
  if (time === null) {
    times.delete(element);
    element.textContent = "";
    return element;
  }
  element.dateTime = time;
  element.title = new Date(time).toLocaleString();
  element.say = () => {
    const text = say(time, now());
    if (element.textContent !== text) element.textContent = text;
  };
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
