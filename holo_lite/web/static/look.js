/* What the storyboard says to the model: tokens against the most it reads, and what was found in it. */

import { aloud } from "./aloud.js";
import { attribute, h, icon, keyed, say, show } from "./dom.js";
import { now, on } from "./store.js";

const BLANK = "Write who is in the scene and where it is, and then what each shot shows. An arrow key moves a cut, and so does the mouse.";

const NUMBER = /\b\d+\b/g; // of shots and tokens: they change, and what was found stays the same
const MOST = 3; // of what was found are read at once

/** A bar that is full at `limit`. @param {string} name */
export function meter(name) {
  return h("div", { class: "meter", role: "meter", "aria-label": name, "aria-valuemin": "0" }, h("span"));
}

/** @param {HTMLElement} element @param {number} value @param {number} limit @param {string} text */
export function fill(element, value, limit, text) {
  attribute(element, "aria-valuemax", limit);
  attribute(element, "aria-valuenow", Math.min(value, limit));
  attribute(element, "aria-valuetext", text);
  element.classList.toggle("over", value > limit);
  element.classList.toggle("near", value <= limit && value > 0.9 * limit);
  /** @type {HTMLElement} */ (element.firstElementChild).style.transform = `scaleX(${limit > 0 ? Math.min(value / limit, 1) : 0})`;
}

/** What was found in one shot, or with null in the whole. @param {string | null} shot @returns {Finding[]} */
function found(shot) {
  const look = now("look");
  const told = (look?.findings ?? []).filter((finding) => finding.shot === shot);
  const more = look?.shots.find(({ id }) => id === shot)?.findings ?? [];
  const texts = new Set(told.map(({ text }) => text));
  return [...told, ...more.filter((text) => !texts.has(text)).map((text) => ({ level: /** @type {const} */ ("warning"), text, shot }))];
}

/** Keep a list of what was found. @param {HTMLElement} list @param {string | null} shot */
export function findings(list, shot) {
  const all = found(shot);
  keyed(list, all, ({ text }) => text, ({ level }) => h("li", { class: level }, icon(level === "warning" ? "warning" : "info"), h("span")),
    (element, { text }) => say(/** @type {HTMLElement} */ (element.lastElementChild), text));
  show(list, all.length > 0);
}

/** Whether nothing is written at all. */
function isBlank() {
  const board = now("board");
  return board !== undefined && [board.scene, ...board.shots.map(({ caption }) => caption)].every((text) => text.trim() === "");
}

class LookBar extends HTMLElement {
  connectedCallback() {
    const bar = meter("Tokens of all captions");
    const words = h("p", { class: "token-words" });
    const error = h("p", { class: "look-error" });
    const list = h("ul", { class: "findings", "aria-label": "Found in the storyboard" });
    const tokens = h("div", { class: "token-meter" }, h("span", { text: "All captions" }), bar, words);
    this.append(tokens, error, list);
    on("look", (look) => {
      show(tokens, look.tokens !== null);
      if (look.tokens) {
        const { total, limit } = look.tokens;
        const text = `${total} of ${limit} tokens`;
        fill(bar, total, limit, text);
        say(words, total > limit ? `${text}: ${total - limit} too many, and the model would not read the end` : text);
      }
      const blank = isBlank(); // nothing is wrong yet with a page on which nothing is written
      say(error, blank ? BLANK : look.error ?? "");
      error.classList.toggle("blank", blank);
      show(error, look.error !== null);
      findings(list, null);
      this.tell(look, blank ? null : look.error);
    });
  }

  /** Read what was not found before. @param {Look} look @param {string | null} error */
  tell({ shots }, error) {
    const all = new Map([null, ...shots].flatMap((shot, number) =>
      found(shot?.id ?? null).map(({ text }) => [`${shot?.id} ${text.replace(NUMBER, "")}`, shot ? `Shot ${number}: ${text}` : text])));
    if (error) all.set(error, error);
    const { known } = this;
    this.known = all;
    const news = [...all].filter(([key]) => known && !known.has(key)).map(([, text]) => text);
    news.slice(0, MOST).forEach(aloud);
    if (news.length > MOST) aloud(`${news.length - MOST} more were found.`);
  }
}

customElements.define("holo-look", LookBar);
