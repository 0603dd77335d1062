/* Two films side by side, played and scrubbed as one. */

import { button, h } from "./dom.js";
import { open } from "./dialog.js";
import { moment } from "./format.js";
import { movie } from "./player.js";
import { now } from "./store.js";

/** @param {string} one @param {string} two */
export function compare(one, two) {
  const videos = [one, two].map((id) => now("gallery")?.find((video) => video.id === id)).filter((video) => video !== undefined);
  const screens = videos.map((video) => { const screen = movie(video); screen.muted = true; return screen; });
  const longest = Math.max(...videos.map(({ seconds }) => seconds));
  const place = h("span", { class: "facts" });
  const scrub = h("input", { type: "range", min: "0", max: String(longest), step: "0.01", value: "0", "aria-label": "Place in both films" });
  const dialog = open("Two films", "compare", h("div", { class: "screens" }, ...videos.map((video, index) => column(video, /** @type {HTMLVideoElement} */ (screens[index])))),
    h("div", { class: "both" }, button("play", "Play or pause both", () => toggle(screens), { class: "primary" }), scrub, place));
  scrub.addEventListener("input", () => screens.forEach((screen) => { screen.pause(); screen.currentTime = Math.min(scrub.valueAsNumber, screen.duration || 0); }));
  screens[0]?.addEventListener("timeupdate", () => {
    const seconds = screens[0]?.currentTime ?? 0;
    if (document.activeElement !== scrub) scrub.value = String(seconds);
    place.textContent = moment(seconds);
  });
  dialog.addEventListener("close", () => screens.forEach((screen) => { screen.removeAttribute("src"); screen.load(); }));
}

/** @param {Video} video @param {HTMLVideoElement} screen */
function column(video, screen) {
  const list = h("dl", { class: "fact-list" });
  for (const [label, text] of video.facts) list.append(h("div", {}, h("dt", { text: label }), h("dd", { text })));
  return h("figure", {}, h("figcaption", { text: video.name }), screen, list);
}

/** @param {HTMLVideoElement[]} screens */
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
}
