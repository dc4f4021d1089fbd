// Who is in view: the picture, who it is believed to show, and showing one from a file.

import { ask, bytes, Refused } from "./api.js";
import { at, keepFresh, note, refused, write } from "./elements.js";
import { ago } from "./words.js";

const LARGE = 4_000_000;
const LONGEST = 1600;

let shown = null;
let address = null;

/** Show a view, or nobody. */
export async function show(view) {
  keepFresh(at("view-age"), view?.seen ?? null, ago);
  const [who, sure] = belief(view);
  write(at("who"), who);
  write(at("sure"), sure);
  const wanted = view && `${view.seen} ${view.version}`; // a brain that was started again counts from one
  if (wanted === shown) return;
  shown = wanted;
  // The picture of one person never stands above the name of another, not for a moment.
  place(null);
  if (view === null) return;
  try {
    const picture = await bytes(await ask("GET", "v1/view/picture"));
    if (wanted === shown) place(picture, who);
  } catch (error) {
    if (error.status === undefined) throw error; // else it has gone out of view, or the brain has
  }
}

/** Send a picture from a file to the brain; gives the user's id, or null. */
export async function send(file) {
  note("file-note", "Looking …");
  try {
    const user = await (await ask("POST", "v1/users/encode", { image: await dataUrl(file) })).json();
    note("file-note", `Kept in memory as ${user.id}.`);
    return user.id;
  } catch (error) {
    if (!refused("file-note", error)) throw error;
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
  at("nobody").hidden = shown !== null;
  if (picture) {
    at("picture").src = address;
    at("picture").alt = `The camera’s picture: ${who}`;
  } else {
    at("picture").removeAttribute("src");
    at("picture").alt = "";
  }
}

/** A file as it is, or scaled down when it is larger than a camera's picture need be. */
async function dataUrl(file) {
  try {
    return await read(file.size <= LARGE ? file : await smaller(file));
  } catch {
    throw new Refused(400, "This browser cannot read that picture.");
  }
}

async function smaller(file) {
  const whole = await createImageBitmap(file);
  const scale = Math.min(1, LONGEST / Math.max(whole.width, whole.height));
  const canvas = new OffscreenCanvas(Math.round(scale * whole.width), Math.round(scale * whole.height));
  canvas.getContext("2d").drawImage(whole, 0, 0, canvas.width, canvas.height);
  whole.close();
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
}

function read(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
