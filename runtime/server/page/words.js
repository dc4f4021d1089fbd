// How figures, times and errors are said. Owns the units; knows nothing of the page.

const SIZES = ["bytes", "kB", "MB", "GB", "TB"];

/** Bytes, in powers of 1000, to three digits. */
export function size(bytes) {
  let unit = 0;
  while (bytes >= 999.5 && unit < SIZES.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || bytes >= 99.5 ? 0 : bytes >= 9.95 ? 1 : 2;
  return `${bytes.toFixed(digits)}\u00a0${SIZES[unit]}`;
}

/** Seconds that something took. */
export function took(seconds) {
  if (seconds < 0.00005) return "0\u00a0ms";
  if (seconds < 0.00995) return `${(1000 * seconds).toFixed(1)}\u00a0ms`;
  if (seconds < 0.9995) return `${Math.round(1000 * seconds)}\u00a0ms`;
  return `${seconds < 99.95 ? seconds.toFixed(seconds < 9.995 ? 2 : 1) : Math.round(seconds)}\u00a0s`;
}

/** How long a time lies back, in one unit. */
export function since(time, now) {
  return span(Math.max(0, Math.round((now - Date.parse(time)) / 1000)));
}

/** How long ago. */
export function ago(time, now) {
  const seconds = Math.round((now - Date.parse(time)) / 1000);
  return seconds < 2 ? "now" : `${span(seconds)} ago`;
}

/** How long from now. */
export function ahead(time, now) {
  return `in ${span(Math.max(0, Math.round((Date.parse(time) - now) / 1000)))}`;
}

function span(seconds) {
  const [count, unit] =
    seconds < 60 ? [seconds, "s"]
    : seconds < 3600 ? [Math.floor(seconds / 60), "min"]
    : seconds < 86400 ? [Math.floor(seconds / 3600), "h"]
    : [Math.floor(seconds / 86400), seconds < 172800 ? "day" : "days"];
  return `${count}\u00a0${unit}`;
}

/** A time of day, in the viewer's way. */
export function clock(time) {
  return new Date(time).toLocaleTimeString();
}

/** A day, in the viewer's way. */
export function day(time) {
  return new Date(time).toLocaleDateString(undefined, { dateStyle: "medium" });
}

/** An error's words as a sentence. */
export function sentence(words) {
  return `${words[0].toUpperCase()}${words.slice(1)}${words.endsWith(".") ? "" : "."}`;
}
