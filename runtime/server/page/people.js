// Who is kept, in which tier, until when; and forgetting them. Owns the table and the list of whom to ask about.

import { ask } from "./api.js";
import { at, keepFresh, make, note } from "./elements.js";
import { ago, day, size } from "./words.js";

const KEEPS = { profile: "their name", embedding: "their embedding", state: "their cache too" };

export class People {
  constructor() {
    this.rows = new Map();
    this.users = [];
    this.inView = null;
    this.picked = false; // once somebody was picked by hand, they stay
    at("user").addEventListener("change", () => (this.picked = at("user").value !== "view"));
  }

  /** Show these people and no others; a row that asks "sure?" stays as it is. */
  show(users) {
    this.users = users;
    at("people").hidden = users.length === 0;
    at("strangers").hidden = users.length > 0;
    const before = this.rows;
    this.rows = new Map(users.map((user) => [user.id, this.row(user, before.get(user.id))]));
    const body = at("people").tBodies[0];
    for (const [id, row] of before) if (this.rows.get(id) !== row) row.remove();
    [...this.rows.values()].forEach((row, place) => {
      if (body.rows[place] !== row) body.insertBefore(row, body.rows[place] ?? null);
    });
    this.choices();
  }

  /** Note the id of whom is in view, if they have one. */
  see(view) {
    this.inView = view?.user ?? null;
    this.choices();
  }

  choices() {
    const select = at("user");
    const chosen = select.value;
    const here = this.users.some((user) => user.id === this.inView);
    const options = this.users.map((user) => make("option", { value: `user:${user.id}` }, user.id));
    if (here) options.unshift(make("option", { value: "view" }, `whom is in view (${this.inView})`));
    if (options.length === 0) options.push(make("option", { value: "" }, "nobody yet: show a picture"));
    const same = [...select.options].map((one) => one.value + one.text).join("\n") === options.map((one) => one.value + one.text).join("\n");
    if (same) return;
    select.replaceChildren(...options);
    if (this.picked && options.some((one) => one.value === chosen)) select.value = chosen;
    else this.picked = false; // whom is in view comes first
  }

  /** Ask about whom is in view from now on. */
  pickView() {
    this.picked = false;
    at("user").selectedIndex = 0;
  }

  /** The id of whom the form asks about, or null. */
  get chosen() {
    const { value } = at("user");
    return value === "view" ? this.inView : value.startsWith("user:") ? value.slice(5) : null;
  }

  row(user, before) {
    const row = before ?? make("tr", { "data-user": user.id });
    const last = before?.lastElementChild ?? make("td", {}, this.forgetButton(user.id, row));
    const cell = (label, ...children) => make("td", { "data-label": label }, ...children);
    const time = (label, value) => {
      const made = cell(label, value ? keepFresh(make("time"), value, ago) : "–");
      made.className = "when";
      return made;
    };
    const whole = user.bytes.embedding + user.bytes.cells + user.bytes.disk;
    const sizes = cell("Size", size(whole));
    sizes.className = "figure";
    sizes.title = `embedding ${size(user.bytes.embedding)}, KV cells ${size(user.bytes.cells)}, disk ${size(user.bytes.disk)}`;
    const consent = user.consent ? `“${user.consent.how}”: ${KEEPS[user.consent.keeps]}` : "none: in memory only";
    const until = user.expires === null ? "until forgotten" : user.consent ? day(user.expires) : time("Until", user.expires).firstChild;
    while (row.firstChild && row.firstChild !== last) row.firstChild.remove(); // the last keeps its focus
    if (row.firstChild !== last) row.append(last);
    row.prepend(
      make("th", { scope: "row" }, user.id),
      cell("Kept", tags(user)),
      sizes,
      time("Since", user.since),
      time("Seen", user.seen),
      cell("Consent", consent),
      cell("Until", until),
    );
    return row;
  }

  forgetButton(id, row) {
    const button = make("button", { type: "button", onclick: () => this.askSure(id, row) }, "Forget");
    button.setAttribute("aria-label", `Forget ${id}`);
    return button;
  }

  askSure(id, row) {
    const sure = make("button", { type: "button", class: "sure", onclick: () => this.forget(id, row) }, "Erase");
    sure.setAttribute("aria-label", `Erase everything of ${id}`);
    const keep = make("button", { type: "button", onclick: () => this.unask(id, row) }, "Keep");
    row.lastElementChild.replaceChildren(make("span", { class: "sure-row" }, sure, keep));
    sure.focus();
  }

  unask(id, row) {
    const button = this.forgetButton(id, row);
    row.lastElementChild.replaceChildren(button);
    button.focus();
  }

  async forget(id, row) {
    for (const button of row.querySelectorAll("button")) button.disabled = true;
    note("people-note", `Forgetting ${id} …`);
    try {
      await ask("DELETE", `v1/users/${encodeURIComponent(id)}`);
      note("people-note", `${id} is forgotten: nothing of them is left here.`);
    } catch (error) {
      if (error.status === undefined) throw error;
      note("people-note", error.message, true);
      this.unask(id, row);
    }
  }
}

function tags(user) {
  const tag = (name, kind = "") => make("span", { class: `tag ${kind}` }, name);
  const tiers = [];
  if (user.resident) tiers.push(tag("resident", "resident"));
  if (user.in_memory) tiers.push(tag("memory"));
  if (user.bytes.disk) tiers.push(tag("disk"));
  return make("span", { class: "tags" }, ...tiers);
}
