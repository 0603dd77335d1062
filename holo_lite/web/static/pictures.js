/* Pictures: dropped onto a shot or the tray, or chosen by a button. */

import { aloud } from "./aloud.js";
import { upload } from "./api.js";
import { attribute, h, icon, small } from "./dom.js";
import { edit } from "./edits.js";
import { now } from "./store.js";
import { alarm, attempt } from "./toasts.js";

const LARGEST = 64 * 2 ** 20; // bytes that the server takes

/** @typedef {(upload: string) => Operation} Use what an uploaded picture is for */

/** Bring pictures to the server and use them. @param {Iterable<File>} files @param {Use} use */
async function bring(files, use) {
  for (const file of files) {
    if (!file.type.startsWith("image/")) alarm(`${file.name} is not a picture.`);
    else if (file.size > LARGEST) alarm(`${file.name} is larger than 64 MB.`);
    else await attempt(upload(file).then((picture) => put(use(picture.id), picture)));
  }
}

/** @param {Operation} operation @param {Picture} picture */
async function put(operation, { name }) {
  if (await edit(operation)) aloud(operation["shot"] ? `Shot ${number(operation["shot"])} begins with ${name}.` : `${name} is a reference picture.`);
}

/** @param {unknown} shot */
function number(shot) {
  return (now("board")?.shots ?? []).findIndex(({ id }) => id === shot) + 1;
}

/** A button that takes a picture away. @param {Operation} operation */
export function awayButton(operation) {
  return small("close", "", () => void edit(operation).then((done) => { if (done) aloud("The picture is taken away."); }));
}

/** Which picture it takes away. @param {Element} button @param {Picture | null} picture */
export function namedAway(button, picture) {
  for (const name of ["aria-label", "title"]) attribute(button, name, `Take ${picture?.name ?? "the picture"} away`);
}

/** Let an element take pictures that are dropped onto it. @param {HTMLElement} element @param {Use} use */
export function takesPictures(element, use) {
  const over = (/** @type {DragEvent} */ event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.stopPropagation();
    element.classList.add("takes");
  };
  element.addEventListener("dragenter", over);
  element.addEventListener("dragover", over);
  element.addEventListener("dragleave", () => element.classList.remove("takes"));
  element.addEventListener("drop", (event) => {
    element.classList.remove("takes");
    if (!event.dataTransfer?.files.length) return;
    event.preventDefault();
    event.stopPropagation();
    void bring(event.dataTransfer.files, use);
  });
}

/** A button that lets one choose pictures. @param {string} name @param {Use} use @param {boolean} [several] */
export function pictureButton(name, use, several = false) {
  const input = h("input", { type: "file", accept: "image/*", multiple: several, class: "unseen", tabindex: "-1", "aria-hidden": "true" });
  input.addEventListener("change", () => {
    void bring([...(input.files ?? [])], use);
    input.value = "";
  });
  const press = h("button", { type: "button", class: "quiet picture-button", title: name, on: { click: () => input.click() } }, icon("picture"), h("span", { text: name }));
  return h("span", { class: "picture-choice" }, press, input);
}

/** A file dropped beside every place that takes one must not take the page away. */
export function guardDrops() {
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => event.preventDefault());
}
