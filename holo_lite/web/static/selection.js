/* Which shot is meant: the one last touched, on the strip or among the captions. */

/** @type {string | null} */
let chosen = null;
/** @type {Set<(id: string | null) => void>} */
const listeners = new Set();

/** @param {string | null} id */
export function choose(id) {
  if (id === chosen) return;
  chosen = id;
  listeners.forEach((hear) => hear(id));
}

export function selected() {
  return chosen;
}

/** @param {(id: string | null) => void} hear */
export function onSelection(hear) {
  listeners.add(hear);
}

/** Bring a shot's caption into view, and the cursor into it. @param {string} id */
export function goToCaption(id) {
  choose(id);
  const field = document.querySelector(`holo-captions [data-key="${CSS.escape(id)}"] textarea`);
  if (!(field instanceof HTMLTextAreaElement)) return;
  field.focus({ preventScroll: true });
  field.closest("article")?.scrollIntoView({ block: "nearest" });
}
