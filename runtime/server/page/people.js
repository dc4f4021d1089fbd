// Who is kept, in which tier, until when; and forgetting them. Owns the table and the list of whom to ask about.

import { ask } from "./api.js";
import { at, keepFresh, make, note, refused, write } from "./elements.js";
import { ago, ahead, day, size } from "./words.js";

const KEEPS = { profile: "their name", embedding: "their embedding", state: "their embedding and cache" };
const DAY = 86_400_000;
const IN_VIEW = "view";
const GONE = "gone";

export class People {
  constructor() {
    this.rows = new Map();
    this.users = [];
    this.inView = null;
  }

  /** Show these people and no others. A row stays the same element, with its focus and its open question. */
  show(users) {
    this.users = users;
    at("people").hidden = users.length === 0;
    at("strangers").hidden = users.length > 0;
    const before = this.rows;
    this.rows = new Map(users.map((user) => [user.id, before.get(user.id) ?? this.row(user.id)]));
    for (const [id, row] of before) if (this.rows.get(id) !== row) row.remove();
    const body = at("people").tBodies[0];
    users.forEach((user, place) => {
      const row = this.rows.get(user.id);
      if (body.rows[place] !== row) body.insertBefore(row, body.rows[place] ?? null);
      this.write(user, row);
    });
    this.choices();
  }

  /** Note the id of whom is in view, if they have one. */
  see(view) {
    this.inView = view?.user ?? null;
    this.choices();
  }

  /** Whom is in view comes first and is always there: a choice never slips to somebody else by itself. */
  choices() {
    const select = at("user");
    const here = this.users.some((user) => user.id === this.inView) ? this.inView : "nobody who is kept";
    const wanted = [[IN_VIEW, `who is in view (${here})`], ...this.users.map(({ id }) => [`user:${id}`, id])];
    const stays = select.length === 0 || wanted.some(([value]) => value === select.value);
    const chosen = stays ? select.value || IN_VIEW : GONE;
    if (!stays) wanted.push([GONE, "somebody who was forgotten"]);
    if (wanted.length === select.length && wanted.every(([value, text], place) => select[place].value === value && select[place].text === text)) return;
    select.replaceChildren(...wanted.map(([value, text]) => make("option", { value }, text)));
    select.value = chosen;
  }

  /** The id of whom the form asks about, or null. */
  get chosen() {
    const { value } = at("user");
    const id = value === IN_VIEW ? this.inView : value.slice(5);
    return this.users.some((user) => user.id === id) ? id : null;
  }

  row(id) {
    const cell = (label, name) => make("td", { role: "cell", "data-label": label }, make(name, {}));
    const row = make(
      "tr",
      { role: "row", "data-user": id },
      make("th", { role: "rowheader", scope: "row" }, id),
      cell("Kept", "span"),
      cell("Since", "time"),
      cell("Seen", "time"),
      cell("Consent", "span"),
      cell("Until", "time"),
      make("td", { role: "cell" }),
    );
    row.cells[1].firstChild.className = "tags";
    this.offer(id, row);
    return row;
  }

  write(user, row) {
    const [, kept, since, seen, consent, until] = [...row.cells].map((cell) => cell.firstChild);
    const tiers = tags(user);
    if (kept.textContent !== tiers.map((tag) => tag.textContent).join("")) kept.replaceChildren(...tiers);
    keepFresh(since, user.since, ago, "–");
    keepFresh(seen, user.seen, ago, "–");
    write(consent, user.consent ? `“${user.consent.how}”, keeps ${KEEPS[user.consent.keeps]}` : "none: in memory only");
    keepFresh(until, user.expires, ends, "until forgotten");
  }

  /** Offer to forget them, once more after a "no". */
  offer(id, row) {
    const button = make("button", { type: "button", "aria-label": `Forget ${id}`, onclick: () => this.askSure(id, row) }, "Forget");
    row.lastElementChild.replaceChildren(button);
    return button;
  }

  askSure(id, row) {
    const keep = () => this.offer(id, row).focus();
    const sure = make("button", { type: "button", class: "sure", "aria-label": `Erase everything of ${id}`, onclick: () => this.forget(id, row) }, "Erase");
    const choice = make("span", { class: "sure-row" }, sure, make("button", { type: "button", onclick: keep }, "Keep"));
    choice.addEventListener("keydown", (event) => {
      if (event.key === "Escape") keep();
    });
    row.lastElementChild.replaceChildren(choice);
    sure.focus();
  }

  async forget(id, row) {
    row.lastElementChild.replaceChildren(make("span", { class: "muted" }, "erasing …"));
    note("people-note", "");
    try {
      await ask("DELETE", `v1/users/${encodeURIComponent(id).replace(/^\.+$/, (dots) => "%2E".repeat(dots.length))}`);
      note("people-note", `${id} is forgotten: nothing of them is left here.`);
    } catch (error) {
      if (!refused("people-note", error)) throw error;
      this.offer(id, row);
    }
    // The button with the focus is gone: go on from here, not from the top of the page.
    if (document.activeElement === document.body) at("people-title").focus();
  }
}

/** A near end by the clock, a far one by its day. */
function ends(time, now) {
  return Date.parse(time) - now < DAY ? ahead(time, now) : day(time);
}

function tags(user) {
  const tag = (name, bytes, kind = "") => make("span", { class: `tag ${kind}` }, make("b", {}, name), bytes ? ` ${size(bytes)}` : "");
  const tiers = [];
  if (user.resident) tiers.push(tag("resident", user.bytes.cells, "resident"));
  if (user.in_memory) tiers.push(tag("memory", user.bytes.embedding));
  if (user.bytes.disk) tiers.push(tag("disk", user.bytes.disk));
  return tiers;
}
