/* A film: played and scrubbed, shot by shot and frame by frame, with its settings and what can be done with it. */

import { aloud } from "./aloud.js";
import { another, post } from "./api.js";
import { attribute, button, h } from "./dom.js";
import { confirmed, open } from "./dialog.js";
import { extend, retake } from "./directing.js";
import { bytes, length, moment } from "./format.js";
import { openPicture } from "./picture.js";
import { styles } from "./styles.js";
import { now } from "./store.js";
import { attempt, note } from "./toasts.js";

const INSIDE = 0.001; // seconds into a frame, so that rounding does not show the one before

await styles("films");

/** A video with the browser's own controls; nothing plays unasked. @param {Video} video */
export function movie(video) {
  return h("video", { src: video.url, controls: true, preload: "metadata", playsinline: true, "aria-label": video.name, width: video.width, height: video.height });
}

/** @param {string} id */
export function play(id) {
  const video = now("gallery")?.find((each) => each.id === id);
  if (!video) return note("This film is not in the folder any more.");
  const screen = movie(video);
  const dialog = open(video.name, "player", h("div", { class: "player-body" },
    h("div", { class: "screen" }, screen, frameSteps(screen, video), shotList(screen, video)),
    h("div", { class: "about" }, actionsOf(video, screen), facts(video))));
  dialog.addEventListener("close", () => { screen.removeAttribute("src"); screen.load(); });
}

/** @param {HTMLVideoElement} screen @param {Video} video */
function frameSteps(screen, video) {
  const frame = () => Math.floor(screen.currentTime * video.fps + INSIDE);
  const place = h("span", { class: "facts" });
  screen.addEventListener("seeked", () => { say(); if (screen.paused) aloud(place.textContent ?? ""); });
  const go = (/** @type {number} */ to) => { screen.pause(); screen.currentTime = Math.min(Math.max(to, 0), video.frames - 1) / video.fps + INSIDE; };
  const say = () => { place.textContent = `${moment(screen.currentTime)} · frame ${Math.min(frame(), video.frames - 1)} of ${video.frames}`; };
  screen.addEventListener("timeupdate", say);
  screen.addEventListener("loadedmetadata", say);
  return h("div", { class: "frame-steps" }, button("left", "Frame back", () => go(frame() - 1), { class: "quiet" }), place,
    button("right", "Frame on", () => go(frame() + 1), { class: "quiet" }));
}

/** @param {HTMLVideoElement} screen @param {Video} video */
function shotList(screen, video) {
  const list = h("ol", { class: "shot-list", "aria-label": "Shots" });
  for (const shot of video.shots) {
    const go = h("button", { type: "button", on: { click: () => { screen.currentTime = shot.first / video.fps + INSIDE; } } },
      h("b", { text: `${shot.number}` }), shot.still ? h("img", { src: shot.still, alt: "", loading: "lazy" }) : null, h("span", { text: moment(shot.first / video.fps) }), h("span", { class: "words", text: shot.caption }));
    const again = button("retake", "Retake", () => retake(video, shot.number), { class: "quiet", "aria-label": `Retake shot ${shot.number}`, disabled: !video.latents });
    list.append(h("li", {}, go, again));
  }
  let shown = -1; // the shot that is seen
  screen.addEventListener("timeupdate", () => {
    const frame = Math.floor(screen.currentTime * video.fps + INSIDE);
    const at = video.shots.findIndex((shot) => frame >= shot.first && frame < shot.end);
    [...list.children].forEach((item, index) => attribute(item, "aria-current", index === at ? "true" : null));
    if (at !== shown && at >= 0 && !screen.paused) aloud(`Shot ${video.shots[at]?.number}`);
    shown = at;
  });
  screen.addEventListener("ended", () => aloud("The end"));
  return list;
}

/** @param {Video} video */
function facts(video) {
  const list = h("dl", { class: "fact-list" });
  const all = [["Length", `${length(video.seconds)}, ${video.frames} frames at ${video.fps} a second`], ["Size", `${video.width} × ${video.height}`],
    ["File", `${video.name}, ${bytes(video.bytes)}`], ...video.facts];
  for (const [label, text] of all) list.append(h("div", {}, h("dt", { text: label }), h("dd", { text })));
  return list;
}

/** @param {Video} video @param {HTMLVideoElement} screen */
function actionsOf(video, screen) {
  const done = (/** @type {string | false} */ said) => {
    if (said === false) return;
    screen.closest("dialog")?.close();
    note(said);
  };
  const none = "Its latents were not kept, so nothing of it can be given to the model";
  return h("div", { class: "film-actions" },
    button("open", "Open as storyboard", () => void reopen(video).then(done), { disabled: !video.ours }),
    button("extend", "Go on from here", () => extend(video), { disabled: !video.latents, title: video.latents ? "" : none }),
    video.sheet ? button("sheet", "Contact sheet", () => void openPicture(video.sheet ?? "", `Contact sheet of ${video.name}`)) : null,
    h("a", { class: "button", href: video.url, download: `${video.name}` , text: "Download" }),
    button("trash", "Delete", () => void remove(video).then(done), { class: "danger-quiet" }),
    video.latents ? null : h("p", { class: "hint", text: video.ours ? `${none}: no retake, no going on.` : "It was not made by holo-lite, so nothing is known of it." }));
}

/** @param {Video} video */
async function reopen(video) {
  const board = now("board");
  if (board?.changed && !(await confirmed("Open as storyboard", "The storyboard on the page has changes that are not saved. Undo brings it back.", "Open"))) return false;
  if (!(await attempt(another("open", { video: video.id })))) return false;
  location.hash = "board";
  return `The storyboard of ${video.name} is on the page.`;
}

/** @param {Video} video */
async function remove(video) {
  if (!(await confirmed(`Delete ${video.name}?`, "The film goes to the trash, with its contact sheet and what was kept of it.", "Delete"))) return false;
  if (!(await attempt(post(`/api/gallery/${video.id}/delete`)))) return false;
  return `${video.name} is in the trash.`;
}
