// How figures and times are said. Owns the units; knows nothing of the page.

const SIZES = ["bytes", "kB", "MB", "GB", "TB"];

/** Bytes, in powers of 1000, to three digits. */
export function size(bytes) {
  let unit = 0;
  while (bytes >= 999.5 && unit < SIZES.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || bytes >= 99.5 ? 0 : bytes >= 9.95 ? 1 : 2;
  return `${bytes.toFixed(digits)} ${SIZES[unit]}`;
}

/** Seconds that something took. */
export function took(seconds) {
  if (seconds < 0.0005) return "0 ms";
  if (seconds < 0.00995) return `${(1000 * seconds).toFixed(1)} ms`;
  if (seconds < 0.9995) return `${Math.round(1000 * seconds)} ms`;
  return seconds < 99.95 ? `${seconds.toFixed(seconds < 9.995 ? 2 : 1)} s` : `${Math.round(seconds)} s`;
}

/** How long ago, or how long from now, in one unit. */
export function ago(time, now) {
  const seconds = Math.round((now - Date.parse(time)) / 1000);
  const amount = Math.abs(seconds);
  const [count, unit] =
    amount < 60 ? [amount, "s"]
    : amount < 3600 ? [Math.floor(amount / 60), "min"]
    : amount < 86400 ? [Math.floor(amount / 3600), "h"]
    : [Math.floor(amount / 86400), amount < 172800 ? "day" : "days"];
  if (amount < 2) return "now";
  return seconds > 0 ? `${count} ${unit} ago` : `in ${count} ${unit}`;
}

/** A time of day, in the viewer's way. */
export function clock(time) {
  return new Date(time).toLocaleTimeString();
}

/** A day, in the viewer's way. */
export function day(time) {
  return new Date(time).toLocaleDateString(undefined, { dateStyle: "medium" });
}
