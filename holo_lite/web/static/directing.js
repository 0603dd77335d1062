/* One shot again, and the story continued. */

import { start } from "./api.js";
import { h } from "./dom.js";
import { actions, open } from "./dialog.js";
import { mayNotify } from "./notify.js";
import { flush } from "./outbox.js";
import { now } from "./store.js";
import { attempt, note } from "./toasts.js";

/** Choose which shots of a film to make again, with other captions or another seed. @param {Video} video @param {number} number */
export function retake(video, number) {
  const rows = video.shots.map((shot) => shotRow(shot, shot.number === number));
  const seed = h("input", { type: "number", min: "0", step: "1", placeholder: "another one", title: "Left empty, it is another one" });
  const send = async () => {
    const shots = rows.filter(({ box }) => box.checked).map(({ box, area, shot }) => (
      { number: Number(box.value), caption: area.value === shot.caption ? null : area.value }));
    if (shots.length === 0) { note("Choose a shot to make again."); return false; }
    mayNotify();
    const given = seed.value === "" ? {} : { seed: seed.valueAsNumber };
    return (await attempt(start({ kind: "retake", video: video.id, shots, ...given }))) && "The retake is in the queue.";
  };
  open(`Retake: ${video.name}`, "retake", h("form", { class: "form" },
    h("p", { class: "hint", text: "The chosen shots are made again; all others stay as they are, frame by frame." }),
    ...rows.map(({ row }) => row), h("label", { class: "line" }, h("span", { text: "Seed" }), seed), actions("Make the retake", send)));
  rows.find(({ box }) => box.checked)?.area.focus();
}

/** @param {VideoShot} shot @param {boolean} chosen */
function shotRow(shot, chosen) {
  const box = h("input", { type: "checkbox", value: String(shot.number), checked: chosen });
  const area = h("textarea", { rows: "3", hidden: !chosen, "aria-label": `Caption of shot ${shot.number}` });
  area.value = shot.caption;
  const words = h("span", { class: "words", text: shot.caption, hidden: chosen });
  box.addEventListener("change", () => { area.hidden = !box.checked; words.hidden = box.checked; });
  return { box, area, shot, row: h("div", { class: "retake-shot" }, h("label", {}, box, h("b", { text: `Shot ${shot.number}` }), words), area) };
}

/** Continue a film with the shots of the storyboard. @param {Video} video */
export function extend(video) {
  const shots = now("board")?.shots ?? [];
  const boxes = video.shots.map((shot) => h("input", { type: "checkbox", value: String(shot.number) }));
  const send = async () => {
    mayNotify();
    await flush();
    const remember = boxes.filter(({ checked }) => checked).map(({ value }) => Number(value));
    const wanted = { kind: "extend", video: video.id, ...(remember.length > 0 ? { remember } : {}) };
    return (await attempt(start(wanted))) && "The new shots are in the queue.";
  };
  const next = h("ol", { class: "next-shots" }, ...shots.map(({ caption }) => h("li", { text: caption || "no caption yet" })));
  open(`Go on from ${video.name}`, "extend", h("form", { class: "form" },
    h("p", { text: "The shots of the storyboard are made as what comes next, with the same people and places:" }), next,
    h("fieldset", {}, h("legend", { text: "Shots to remember (none chosen: holo-lite chooses)" }),
      ...video.shots.map((shot, index) => h("label", { class: "line" }, /** @type {Node} */ (boxes[index]), h("span", { text: `${shot.number}  ${shot.caption}` })))),
    actions("Make what comes next", send)));
}
