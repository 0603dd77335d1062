/* Opening, saving and beginning anew. */

import { aloud } from "./aloud.js";
import { another, change, get, Refusal } from "./api.js";
import { h, icon } from "./dom.js";
import { actions, confirmed, open } from "./dialog.js";
import { mayLeave } from "./leaving.js";
import { flush } from "./outbox.js";
import { now } from "./store.js";
import { alarm, attempt, note } from "./toasts.js";

export { writeFromIdea } from "./idea.js";

export async function newBoard() {
  if ((await mayLeave()) && (await attempt(change({ op: "new" })))) aloud("A new storyboard is on the page.");
}

/** Save under the name it has, or ask for one. */
export async function save() {
  await flush();
  const file = now("board")?.file;
  if (!file) return askName();
  const said = await write({});
  if (said) note(said);
}

export function askName() {
  const name = h("input", { type: "text", required: true, value: suggested(), autocomplete: "off", spellcheck: "false" });
  open("Save the storyboard", "save", h("form", { class: "form" },
    h("label", { class: "line" }, h("span", { text: "Name" }), name),
    h("p", { class: "hint", text: "A TOML file in the folder of the films; every holo-lite command takes it." }),
    actions("Save", () => write({ name: name.value }))));
  name.select();
}

function suggested() {
  const words = (now("board")?.title ?? "").toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "");
  return words || "storyboard";
}

/** @param {{name?: string, overwrite?: boolean}} how @returns {Promise<false | string>} */
async function write(how) {
  try {
    const board = await another("save", how);
    return `Saved as ${board.file?.name ?? "a file"}.`;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.exists) return overwrite(how, error.message);
    alarm(error.message);
    return false;
  }
}

/** @param {{name?: string}} how @param {string} said */
async function overwrite(how, said) {
  const sure = await confirmed("Write over it?", `${said} Its comments would be lost.`, "Write over it");
  return sure && write({ ...how, overwrite: true });
}

export async function openFile() {
  if (!(await mayLeave())) return;
  const files = /** @type {{id: string, name: string}[]} */ (await get("/api/files").catch(() => []));
  const list = h("ul", { class: "file-list" }, ...files.map(({ id, name }) => h("li", {},
    h("button", { type: "button", on: { click: () => void shown(another("open", { file: id }), name, dialog) } }, icon("open"), h("span", { text: name })))));
  const chosen = h("input", { type: "file", accept: ".toml,.json,.txt", "aria-label": "A file of this computer" });
  chosen.addEventListener("change", () => void read(chosen, dialog));
  const dialog = open("Open a storyboard", "open", h("div", { class: "form" },
    files.length > 0 ? list : h("p", { class: "hint", text: "There is no storyboard in the folder yet." }),
    h("label", { class: "line" }, h("span", { text: "Another file" }), chosen)));
}

/** @param {HTMLInputElement} input @param {HTMLDialogElement} dialog */
async function read(input, dialog) {
  const file = input.files?.[0];
  if (file) await shown(file.text().then((text) => another("open", { text, name: file.name })), file.name, dialog);
}

/** @param {Promise<unknown>} opening @param {string} name @param {HTMLDialogElement} dialog */
async function shown(opening, name, dialog) {
  if (!(await attempt(opening))) return;
  dialog.close();
  aloud(`${name} is on the page.`);
}
