/* What the keys do, for a person to read. Its code comes when it is first wanted. */

import { open } from "./dialog.js";
import { h } from "./dom.js";

const KEYS = [
  ["Ctrl+Z, Ctrl+Y", "undo and redo, outside a text"], ["Ctrl+S", "save"], ["Enter, on a shot", "write its caption"],
  ["Alt+← and Alt+→, on a shot", "move it earlier or later"], ["S, on a shot", "split it in two"], ["Insert, on a shot", "add a shot after it"],
  ["Delete, on a shot", "remove it"], ["← and →, on a cut", "move it by one latent frame, with Shift by four"], ["Escape, on a cut", "put it back"],
];

export function keysHelp() {
  const list = h("dl", { class: "fact-list keys" });
  for (const [keys, what] of KEYS) list.append(h("div", {}, h("dt", { text: keys }), h("dd", { text: what })));
  open("Keys", "help", list);
}
