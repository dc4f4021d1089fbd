// Where the time of one turn went. Owns the bars; a turn's stages come laid out by the server.

import { at, make } from "./elements.js";
import { clock, took } from "./words.js";

const NOTHING_S = 0.00005;

/** Show a turn's stages, or none. */
export function showTimes(turn) {
  at("waterfall").hidden = turn === null;
  at("reused").textContent = "";
  if (turn === null) {
    at("time-of").textContent = "The last answer will be taken apart here.";
    return;
  }
  const last = turn.stages.at(-1);
  const total = last.start_s + last.seconds;
  const { usage } = turn;
  at("time-of").textContent = `${turn.user ?? "Somebody"}, ${clock(turn.begun)}: first word after ${took(usage.ttft_s)}`;
  at("waterfall").tBodies[0].replaceChildren(...turn.stages.map((stage) => bar(stage, total)));
  at("total").textContent = took(total);
  at("reused").textContent = reused(usage);
}

function bar(stage, total) {
  const barre = make("span", { class: `barre ${stage.name.split(" ")[0]}` });
  const share = (seconds) => `${total > 0 ? (100 * seconds) / total : 0}%`;
  barre.style.marginLeft = share(stage.start_s);
  barre.style.width = share(stage.seconds);
  const nothing = stage.seconds < NOTHING_S;
  barre.hidden = nothing;
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, stage.name),
    make("td", {}, make("span", { class: "track" }, barre)),
    make("td", {}, nothing ? "–" : took(stage.seconds)),
  );
}

function reused(usage) {
  const said = [usage.vision_runs ? "The picture was new." : "The face was known: no vision."];
  const all = usage.prefix_reused + usage.prefix_computed;
  said.push(
    usage.prefix_reused
      ? `${usage.prefix_reused} of ${all} positions were in the cache.`
      : `All ${all} positions were computed (${usage.attention}).`,
  );
  if (usage.tokens_per_s) said.push(`${usage.answer_tokens} tokens, ${Math.round(usage.tokens_per_s)} a second.`);
  return said.join(" ");
}
