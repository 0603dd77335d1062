/* Windows over the page: the browser's own dialogs, which keep the focus and give it back. */

import { aloud } from "./aloud.js";
import { attribute, busy, h, isBusy, small } from "./dom.js";
import { note } from "./toasts.js";

const ABOUT = ".form > p, .film-actions > p, .next-shots, .keys"; // what is read of a dialog when it opens

/** Open a dialog with a title; it is gone from the page once it is closed.
 * @param {string} title @param {string} kind a class @param {...(Node | null)} content */
export function open(title, kind, ...content) {
  for (const read of document.querySelectorAll("#aloud, .aloud")) read.replaceChildren(); // or it is read again when this closes
  const heading = h("h2", { id: `dialog-${kind}`, text: title });
  const dialog = h("dialog", { class: kind, "aria-labelledby": `dialog-${kind}` },
    h("header", { role: "none" }, heading, small("close", "Close", () => dialog.close())), h("div", { class: "said", role: "alert" }),
    h("p", { class: "aloud unseen", "aria-live": "polite" }), ...content);
  const words = [...dialog.querySelectorAll(ABOUT)];
  words.forEach((each, index) => { each.id = `about-${kind}-${index}`; });
  attribute(dialog, "aria-describedby", words.map(({ id }) => id).join(" ") || null);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("pointerdown", (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  getSelection()?.removeAllRanges(); // or a reader that was within the page is led past the dialog's name
  dialog.showModal();
  return dialog;
}

/** Ask a question that has one dangerous answer. @param {string} title @param {string} text @param {string} yes
 * @returns {Promise<boolean>} */
export function confirmed(title, text, yes) {
  return new Promise((resolve) => {
    const dialog = open(title, "question", h("p", { text }), foot(
      h("button", { type: "button", text: "Keep it", autofocus: true, on: { click: () => dialog.close() } }),
      h("button", { type: "button", class: "danger", text: yes, on: { click: () => { dialog.returnValue = "yes"; dialog.close("yes"); } } })));
    aloud(`${title} ${text}`); // and not by a description, which is missed where one dialog opens over another
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"));
  });
}

/** The foot of a dialog. It is none of the page. @param {...Node} buttons */
export function foot(...buttons) {
  return h("footer", { role: "none" }, ...buttons);
}

/** The foot of a dialog that does something. Closes it when that was done, and then says what it was told to say.
 * @param {string} name @param {() => Promise<boolean | string>} does
 * @param {Props} [props] */
export function actions(name, does, props = {}) {
  const act = h("button", { type: "submit", class: "primary", text: name, ...props });
  const cancel = h("button", { type: "button", text: "Cancel", on: { click: () => act.closest("dialog")?.close() } });
  queueMicrotask(() => act.closest("form")?.addEventListener("submit", (event) => void submit(event, act, does)));
  return foot(cancel, act);
}

/** @typedef {import("./dom.js").Props} Props */

/** @param {Event} event @param {HTMLButtonElement} act @param {() => Promise<boolean | string>} does */
async function submit(event, act, does) {
  event.preventDefault();
  if (isBusy(act)) return;
  busy(act, true);
  const done = await does();
  busy(act, false);
  if (done) act.closest("dialog")?.close();
  if (typeof done === "string") note(done);
}
