/* Two films side by side, played and scrubbed as one. */

import { aloud } from "./aloud.js";
import { attribute, button, h } from "./dom.js";
import { open } from "./dialog.js";
import { length, moment } from "./format.js";
import { movie } from "./player.js";
import { now } from "./store.js";

/** @param {string} one @param {string} two */
export function compare(one, two) {
  const videos = [one, two].map((id) => now("gallery")?.find((video) => video.id === id)).filter((video) => video !== undefined);
  const screens = videos.map((video) => { const screen = movie(video); screen.muted = true; return screen; });
  const longest = Math.max(...videos.map(({ seconds }) => seconds));
  const step = 1 / Math.max(...videos.map(({ fps }) => fps)); // a key goes by a frame
  const place = h("span", { class: "facts" });
  const scrub = h("input", { type: "range", min: "0", max: String(longest), step: String(step), value: "0", "aria-label": "Place in both films" });
  const dialog = open("Two films", "compare", h("div", { class: "screens" }, ...videos.map((video, index) => column(video, /** @type {HTMLVideoElement} */ (screens[index])))),
    h("div", { class: "both" }, button("play", "Play or pause both", () => aloud(toggle(screens) ? "Playing" : `Paused at ${place.textContent}`), { class: "primary" }), scrub, place));
  const told = () => attribute(scrub, "aria-valuetext", `${scrub.valueAsNumber.toFixed(2)} of ${length(longest)}`);
  told();
  scrub.addEventListener("input", told);
  scrub.addEventListener("input", () => screens.forEach((screen) => { screen.pause(); screen.currentTime = Math.min(scrub.valueAsNumber, screen.duration || 0); }));
  screens[0]?.addEventListener("timeupdate", () => {
    const seconds = screens[0]?.currentTime ?? 0;
    if (document.activeElement !== scrub || !screens[0]?.paused) scrub.value = String(seconds);
    place.textContent = moment(seconds);
    if (document.activeElement !== scrub) told();
  });
  for (const screen of screens) screen.addEventListener("ended", () => { if (screens.every(({ paused }) => paused)) aloud("The end"); });
  dialog.addEventListener("close", () => screens.forEach((screen) => { screen.removeAttribute("src"); screen.load(); }));
}

/** @param {Video} video @param {HTMLVideoElement} screen */
function column(video, screen) {
  const list = h("dl", { class: "fact-list" });
  for (const [label, text] of video.facts) list.append(h("div", {}, h("dt", { text: label }), h("dd", { text })));
  return h("figure", {}, h("figcaption", { text: video.name }), screen, list);
}

/** Returns whether they play now. @param {HTMLVideoElement[]} screens */
function toggle(screens) {
  const [first] = screens;
  const playing = screens.some(({ paused, ended }) => !paused && !ended);
  for (const screen of screens) {
    if (playing) screen.pause();
    else {
      screen.currentTime = first?.ended ? 0 : Math.min(first?.currentTime ?? 0, screen.duration || 0);
      void screen.play();
    }
  }
  return !playing;
}
