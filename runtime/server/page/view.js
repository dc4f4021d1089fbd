// Who is in view: the picture, who it is believed to show, and showing one from a file.

import { ask } from "./api.js";
import { at, keepFresh, note } from "./elements.js";
import { ago } from "./words.js";

const LARGE = 4_000_000;
const LONGEST = 1600;

let version = null;
let address = null;

/** Show a view, or nobody. */
export async function show(view) {
  keepFresh(at("view-age"), view?.seen ?? null, ago);
  [at("who").textContent, at("sure").textContent] = belief(view);
  if (view === null) {
    version = null;
    place(null);
    return;
  }
  if (view.version === version) return;
  version = view.version;
  try {
    const picture = await (await ask("GET", "v1/view/picture")).blob();
    if (version === view.version) place(picture, at("who").textContent);
  } catch (error) {
    if (error.status === undefined) throw error;
    if (version === view.version) place(null); // it has gone out of view meanwhile
  }
}

/** Send a picture from a file to the brain. */
export async function send(file) {
  note("file-note", "Looking …");
  try {
    const user = await (await ask("POST", "v1/users/encode", { image: await dataUrl(file) })).json();
    note("file-note", `Kept in memory as ${user.id}.`);
    return user.id;
  } catch (error) {
    if (error.status === undefined) throw error;
    note("file-note", error.again ? `${error.message} Again in ${error.again} s.` : error.message, true);
    return null;
  }
}

function belief(view) {
  if (view === null) return ["", ""];
  const sure = view.similarity === null ? "" : `similarity ${view.similarity.toFixed(2)}`;
  return {
    known: [view.name, sure],
    new: ["Somebody new", sure],
    unsure: ["Not sure who", sure],
    told: [view.name, "as the caller says"],
    unasked: [view.user ?? "Somebody", "not identified"],
  }[view.kind];
}

function place(picture, who) {
  if (address) URL.revokeObjectURL(address);
  address = picture ? URL.createObjectURL(picture) : null;
  at("picture").hidden = !picture;
  at("nobody").hidden = !!picture;
  if (picture) {
    at("picture").src = address;
    at("picture").alt = `The camera’s picture: ${who}`;
  } else {
    at("picture").removeAttribute("src");
  }
}

/** A file as it is, or scaled down when it is larger than a camera's picture need be. */
async function dataUrl(file) {
  if (file.size <= LARGE) return read(file);
  const whole = await createImageBitmap(file);
  const scale = Math.min(1, LONGEST / Math.max(whole.width, whole.height));
  const canvas = new OffscreenCanvas(Math.round(scale * whole.width), Math.round(scale * whole.height));
  canvas.getContext("2d").drawImage(whole, 0, 0, canvas.width, canvas.height);
  return read(await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 }));
}

function read(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
