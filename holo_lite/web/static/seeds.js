/* The drafts of a job that makes one of each of several seeds: each is looked at, and one of them used. */

import { aloud } from "./aloud.js";
import { attribute, h, keyed, show } from "./dom.js";
import { edit } from "./edits.js";
import { openPicture } from "./picture.js";

/** @param {HTMLElement} box @param {Job} job */
export function seeds(box, job) {
  keyed(box, job.seeds, ({ seed }) => `${seed}`, ({ seed }) => seedCard(seed), (element, { seed, url }) => {
    const image = /** @type {HTMLElement} */ (element.querySelector("img"));
    attribute(image, "src", url);
    attribute(image, "alt", `Draft with seed ${seed}`);
    show(image, url !== null);
    attribute(/** @type {HTMLElement} */ (element.querySelector("button.look")), "disabled", url === null);
  });
}

/** @param {number} seed */
function seedCard(seed) {
  const image = h("img", { loading: "lazy" });
  const look = h("button", { type: "button", class: "look", "aria-label": `Look at seed ${seed}`, on: { click: () => void openPicture(image.src, `Seed ${seed}`) } }, image);
  const choose = h("button", { type: "button", class: "quiet", text: `Use seed ${seed}`, on: { click: () => void use(seed) } });
  return h("figure", { class: "seed" }, look, choose);
}

/** @param {number} seed */
async function use(seed) {
  if (await edit({ op: "option", name: "seed", value: seed })) aloud(`Seed ${seed} is chosen.`);
}
