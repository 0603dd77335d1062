/* Short messages at the foot of the page, read aloud as they come. */

import { h, small } from "./dom.js";

const STAY = 6000; // milliseconds
const MOST = 2; // at once; an older one makes room
const LONGER = 12000; // for what went wrong

/** @param {string} text @param {"note" | "alarm"} level @param {{name: string, press: () => void} | null} action */
function toast(text, level, action) {
  const dialog = [...document.querySelectorAll("dialog[open]")].at(-1); // all else is out of reach behind it
  const place = dialog?.querySelector(".said") ?? document.querySelector(level === "alarm" ? "#alarms" : "#notes");
  while (place && place.children.length >= MOST) place.firstElementChild?.remove();
  const gone = () => element.remove();
  const element = h("div", { class: `toast ${level}` }, h("p", { text }));
  if (action) element.append(h("button", { type: "button", text: action.name, on: { click: () => { action.press(); gone(); } } }));
  element.append(small("close", "Close this message", gone));
  place?.append(element);
  let timer = setTimeout(gone, level === "alarm" ? LONGER : STAY);
  element.addEventListener("pointerenter", () => clearTimeout(timer));
  element.addEventListener("focusin", () => clearTimeout(timer));
  element.addEventListener("pointerleave", () => { timer = setTimeout(gone, STAY); });
}

/** @param {string} text @param {{name: string, press: () => void} | null} [action] */
export function note(text, action = null) {
  toast(text, "note", action);
}

/** @param {string} text */
export function alarm(text) {
  toast(text, "alarm", null);
}

/** Do something, and tell a person what the server said against it. Returns whether it was done.
 * @param {Promise<unknown>} doing */
export async function attempt(doing) {
  try {
    await doing;
    return true;
  } catch (error) {
    alarm(error instanceof Error ? error.message : String(error));
    return false;
  }
}
