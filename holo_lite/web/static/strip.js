/* One shot on the film strip: chosen by a click, reordered by a drag or by key, and a place for a picture. */

import { attribute, h, say, show, swap } from "./dom.js";
import { addShot, moveShot, removeShot, splitShot } from "./edits.js";
import { firstFrame, frameCount } from "./frames.js";
import { length } from "./format.js";
import { takesPictures } from "./pictures.js";
import { choose, goToCaption } from "./selection.js";
import { estimateOf, stillOf } from "./stills.js";

/** @typedef {import("./timeline.js").Timeline} Timeline */
/** @typedef {{places: number[], share: (latent: number) => string, fps: number, chosen: string | null}} View */

const FAR_ENOUGH = 6; // pixels; less is a click with an unsteady hand

/** @param {Timeline} timeline @param {string} id */
export function stripShot(timeline, id) {
  const element = h("button", { type: "button", class: "shot" },
    h("img", { alt: "", draggable: "false", hidden: true }),
    h("span", { class: "unseen", text: "Shot" }), h("span", { class: "shot-number" }), h("span", { class: "shot-words" }),
    h("span", { class: "shot-time" }, h("b"), h("span")), h("span", { class: "shot-coming", text: "so far", hidden: true }));
  let from = /** @type {number | null} */ (null);
  let dragged = false;
  element.addEventListener("pointerdown", (event) => { if (event.button === 0) [from, dragged] = [event.clientX, false]; });
  element.addEventListener("pointermove", (event) => {
    if (from === null || (!dragged && Math.abs(event.clientX - from) < FAR_ENOUGH)) return;
    if (!dragged) element.setPointerCapture(event.pointerId);
    dragged = true;
    element.classList.add("dragged");
    timeline.showPlace(id, event.clientX);
  });
  const end = () => {
    from = null;
    element.classList.remove("dragged");
    timeline.showPlace(id, null);
  };
  element.addEventListener("pointerup", (event) => { if (dragged) void timeline.moveTo(id, event.clientX); end(); });
  element.addEventListener("pointercancel", end);
  element.addEventListener("click", () => { if (!dragged) goToCaption(id); dragged = false; });
  element.addEventListener("focus", () => choose(id));
  element.addEventListener("keydown", (event) => key(id, event));
  takesPictures(element, (upload) => ({ op: "picture", shot: id, upload }));
  return element;
}

/** @param {string} id @param {KeyboardEvent} event */
function key(id, event) {
  if (event.ctrlKey || event.metaKey) return;
  const does = {
    ArrowLeft: event.altKey ? () => moveShot(id, -1) : null, ArrowRight: event.altKey ? () => moveShot(id, 1) : null,
    s: () => splitShot(id), S: () => splitShot(id), Insert: () => addShot(id), Delete: () => removeShot(id),
  }[event.key];
  if (!does) return;
  event.preventDefault();
  void does();
}

/** @param {HTMLElement} element @param {Shot} shot @param {number} index @param {View} view */
export function updateStripShot(element, shot, index, view) {
  const [start, end] = [view.places[index] ?? 0, view.places[index + 1] ?? 0];
  const frames = frameCount(end) - firstFrame(start);
  element.style.left = view.share(start);
  element.style.right = `calc(100% - ${view.share(end)})`;
  attribute(element, "aria-pressed", shot.id === view.chosen);
  element.classList.toggle("odd", index % 2 === 1);
  const [, number, words, time] = /** @type {HTMLElement[]} */ ([...element.querySelectorAll(":scope > span")]);
  if (!number || !words || !time) return;
  say(number, `${index + 1}`);
  say(words, shot.caption || "no caption yet");
  words.classList.toggle("none", shot.caption === "");
  say(/** @type {HTMLElement} */ (time.children[0]), length(frames / view.fps));
  say(/** @type {HTMLElement} */ (time.children[1]), `${frames} frames`);
  pictured(element, estimateOf(shot.caption), shot.picture?.url ?? stillOf(shot.caption));
}

/** The picture in a shot: what is coming, before what was. @param {HTMLElement} element @param {string | null} coming @param {string | null} was */
function pictured(element, coming, was) {
  const image = /** @type {HTMLImageElement} */ (element.querySelector("img"));
  const url = coming ?? was;
  if (url !== null) swap(image, url);
  show(image, url !== null);
  element.classList.toggle("pictured", url !== null);
  show(/** @type {HTMLElement} */ (element.querySelector(".shot-coming")), coming !== null);
}
