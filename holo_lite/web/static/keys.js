/* Keys that work everywhere outside text fields. */

import { h, isText } from "./dom.js";
import { edit } from "./edits.js";

const KEYS = [
  ["Ctrl+Z, Ctrl+Y", "undo and redo, outside a text"], ["Ctrl+S", "save"], ["Enter, on a shot", "write its caption"],
  ["Alt+← and Alt+→, on a shot", "move it earlier or later"], ["S, on a shot", "split it in two"], ["Insert, on a shot", "add a shot after it"],
  ["Delete, on a shot", "remove it"], ["← and →, on a cut", "move it by one latent frame, with Shift by four"], ["Escape, on a cut", "put it back"],
];

/** @param {{save: () => void}} does */
export function followKeys({ save }) {
  addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || document.querySelector("dialog[open]")) return;
    const key = event.key.toLowerCase();
    if (key === "s") { event.preventDefault(); save(); }
    if (isText(event.target)) return;
    const op = key === "y" || (key === "z" && event.shiftKey) ? "redo" : key === "z" ? "undo" : null;
    if (!op) return;
    event.preventDefault();
    void edit({ op });
  });
}

export async function keysHelp() {
  const { open } = await import("./dialog.js");
  const list = h("dl", { class: "fact-list keys" });
  for (const [keys, what] of KEYS) list.append(h("div", {}, h("dt", { text: keys }), h("dd", { text: what })));
  open("Keys", "help", list);
}
