/* A cut on the film strip: a slider that is dragged, or moved by key, from latent frame to latent frame. */

import { attribute, h, say } from "./dom.js";
import { bounds, firstFrame, frameCount, starts } from "./frames.js";
import { length } from "./format.js";

/** @typedef {import("./timeline.js").Timeline} Timeline */
/** @typedef {import("./strip.js").View} View */

const FAR = 4; // latent frames that a key with Shift, or Page Up and Down, goes
const OPEN_END = 64; // latent frames beyond its place that the clip's end is said to reach; it may go on from there

/** @param {Timeline} timeline @param {number} index */
export function cutHandle(timeline, index) {
  const element = h("div", { class: "cut", role: "slider", tabindex: "0", "aria-orientation": "horizontal" },
    h("span", { class: "cut-line" }), h("span", { class: "cut-place", "aria-hidden": "true" }));
  element.addEventListener("keydown", (event) => key(timeline, index, event));
  element.addEventListener("pointerdown", (event) => grab(element, event));
  element.addEventListener("pointermove", (event) => {
    if (element.hasPointerCapture(event.pointerId)) timeline.hold(index, timeline.latentAt(event.clientX));
  });
  element.addEventListener("pointerup", (event) => {
    if (element.hasPointerCapture(event.pointerId)) void timeline.release();
  });
  element.addEventListener("pointercancel", () => timeline.drop());
  return element;
}

/** @param {HTMLElement} element @param {PointerEvent} event */
function grab(element, event) {
  if (event.button !== 0) return;
  event.preventDefault();
  element.focus();
  element.setPointerCapture(event.pointerId);
}

/** @param {Timeline} timeline @param {number} index @param {KeyboardEvent} event */
function key(timeline, index, event) {
  const place = starts(timeline.lengths)[index + 1] ?? 0;
  const [low, high] = bounds(timeline.lengths, index);
  const step = event.shiftKey ? FAR : 1;
  const wanted = {
    ArrowLeft: place - step, ArrowDown: place - step, ArrowRight: place + step, ArrowUp: place + step,
    PageDown: place - FAR, PageUp: place + FAR, Home: low, End: high === Number.MAX_SAFE_INTEGER ? place : high,
  }[event.key];
  if (event.key === "Escape" && timeline.held) timeline.drop();
  if (wanted === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  timeline.nudge(index, wanted);
}

/** @param {HTMLElement} element @param {number} index @param {number[]} lengths @param {View} view @param {boolean} held */
export function placeHandle(element, index, lengths, view, held) {
  const place = view.places[index + 1] ?? 0;
  const [low, high] = bounds(lengths, index);
  const last = index === lengths.length - 1;
  const frame = last ? frameCount(place) : firstFrame(place);
  const name = last ? "End of the film" : `Cut between shots ${index + 1} and ${index + 2}`;
  element.style.left = view.share(place);
  element.classList.toggle("end", last);
  element.classList.toggle("held", held);
  attribute(element, "aria-label", name);
  attribute(element, "aria-valuemin", low);
  attribute(element, "aria-valuemax", last ? place + OPEN_END : high);
  attribute(element, "aria-valuenow", place);
  attribute(element, "aria-valuetext", `${length(frame / view.fps)}, ${last ? `${frame} frames` : `frame ${frame}`}`);
  say(/** @type {HTMLElement} */ (element.querySelector(".cut-place")), `${(frame / view.fps).toFixed(2)} s · ${frame}`);
}
