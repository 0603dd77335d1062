/* Windows over the page: the browser's own dialogs, which keep the focus and give it back. */

import { h, small } from "./dom.js";
import { note } from "./toasts.js";

/** Open a dialog with a title; it is gone from the page once it is closed.
 * @param {string} title @param {string} kind a class @param {...(Node | null)} content */
export function open(title, kind, ...content) {
  const heading = h("h2", { id: `dialog-${kind}`, text: title });
  const dialog = h("dialog", { class: kind, "aria-labelledby": `dialog-${kind}` },
    h("header", { role: "none" }, heading, small("close", "Close", () => dialog.close())), h("div", { class: "said", role: "alert" }),
    h("p", { class: "aloud unseen", "aria-live": "polite" }), ...content);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("pointerdown", (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask a question that has one dangerous answer. @param {string} title @param {string} text @param {string} yes
 * @returns {Promise<boolean>} */
export function confirmed(title, text, yes) {
  return new Promise((resolve) => {
    const dialog = open(title, "question", h("p", { text }), h("footer", {},
      h("button", { type: "button", text: "Keep it", autofocus: true, on: { click: () => dialog.close() } }),
      h("button", { type: "button", class: "danger", text: yes, on: { click: () => { dialog.returnValue = "yes"; dialog.close("yes"); } } })));
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"));
  });
}

/** The foot of a dialog that does something. Closes it when that was done, and then says what it was told to say.
 * @param {string} name @param {() => Promise<boolean | string>} does
 * @param {Props} [props] */
export function actions(name, does, props = {}) {
  const act = h("button", { type: "submit", class: "primary", text: name, ...props });
  const cancel = h("button", { type: "button", text: "Cancel", on: { click: () => act.closest("dialog")?.close() } });
  queueMicrotask(() => act.closest("form")?.addEventListener("submit", (event) => void submit(event, act, does)));
  return h("footer", {}, cancel, act);
}

/** @typedef {import("./dom.js").Props} Props */

/** @param {Event} event @param {HTMLButtonElement} act @param {() => Promise<boolean | string>} does */
async function submit(event, act, does) {
  event.preventDefault();
  act.disabled = true;
  const done = await does();
  act.disabled = false;
  if (done) act.closest("dialog")?.close();
  if (typeof done === "string") note(done);
}
