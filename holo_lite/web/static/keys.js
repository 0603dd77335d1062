/* Keys that work everywhere outside text fields. */

import { isText } from "./dom.js";
import { turn } from "./edits.js";

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
    void turn(op);
  });
}
