// Where the time of one turn went. Owns the bars and their scale; a turn's stages come laid out by the server.

import { at, make, write } from "./elements.js";
import { clock, took } from "./words.js";

const KINDS = { hear: "outside", wait: "outside", "last word": "after" };

/** Show a turn's stages, or none; `following` says that it is the latest. */
export function showTimes(turn, following) {
  const none = turn === null;
  at("waterfall").hidden = none;
  at("follow").hidden = none || following;
  write(at("time-of"), none ? "The last answer will be taken apart here." : `${turn.user ?? "Somebody"}, ${clock(turn.begun)}`);
  write(at("first-word"), none ? "" : took(turn.usage.ttft_s));
  at("first-word-said").hidden = none;
  at("reused").replaceChildren(...(none ? [] : reused(turn.usage).map((said) => make("li", {}, said))));
  if (none) return;
  const { start_s, seconds } = turn.stages.at(-1);
  const total = start_s + seconds;
  const step = nice(total / 4);
  at("waterfall").style.setProperty("--step", total > 0 ? `${(100 * step) / total}%` : "100%");
  at("waterfall").tBodies[0].replaceChildren(...turn.stages.map((stage) => bar(stage, total)));
  at("scale").replaceChildren(...ticks(total, step));
  write(at("total"), took(total));
}

function bar(stage, total) {
  const fill = make("span", { class: `fill ${KINDS[stage.name] ?? "before"}` });
  fill.style.left = share(stage.start_s, total);
  fill.style.width = share(stage.seconds, total);
  fill.hidden = stage.seconds === 0;
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, stage.name),
    make("td", { "aria-hidden": "true" }, make("span", { class: "track" }, fill)),
    make("td", {}, stage.seconds === 0 ? "–" : took(stage.seconds)),
  );
}

function ticks(total, step) {
  const marks = [];
  for (let place = 1; total > 0 && place * step < 0.9 * total; place += 1) {
    const mark = make("span", {}, took(place * step).replace(/\.0(?=\u00a0)/, ""));
    mark.style.left = share(place * step, total);
    marks.push(mark);
  }
  return marks;
}

function share(seconds, total) {
  return `${total > 0 ? (100 * seconds) / total : 0}%`;
}

/** The least of 1, 2 and 5 times a power of ten that is not below. */
function nice(least) {
  if (least <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(least));
  return power * ([1, 2, 5].find((digit) => digit * power >= least * 0.999) ?? 10);
}

function reused(usage) {
  const { prefix_reused: kept, prefix_computed: computed } = usage;
  const said = [usage.vision_runs ? "The picture was new and had to be looked at." : "The face was known: no vision was needed."];
  said.push(
    kept
      ? `${kept} of ${kept + computed} positions were in the cache; only ${computed} were computed.`
      : `Nothing was in the cache: all ${computed} positions were computed (${usage.attention}).`,
  );
  if (usage.resident === "restored") said.push("Their block of the cache was read from disk.");
  if (usage.resident === "built") said.push("Their block of the cache was built first; the next question finds it.");
  const tokens = `${usage.answer_tokens} ${usage.answer_tokens === 1 ? "token" : "tokens"}`;
  said.push(usage.tokens_per_s ? `${tokens} of answer, ${Math.round(usage.tokens_per_s)} a second.` : `${tokens} of answer.`);
  return said;
}
