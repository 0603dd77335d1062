/* A storyboard that a language model writes from an idea, and what was found in it on the way. */

import { aloud, Reader } from "./aloud.js";
import { post } from "./api.js";
import { actions, foot, open } from "./dialog.js";
import { h, keyed, say, show } from "./dom.js";
import { mayLeave } from "./leaving.js";
import { now, on, putBoard } from "./store.js";
import { attempt } from "./toasts.js";

const reader = new Reader();
const WORDS = {
  found: (/** @type {WritingLine} */ { number, text }) => `Try ${number}, sent back: ${text}`,
  remains: (/** @type {WritingLine} */ { text }) => `Remains: ${text}`,
  note: (/** @type {WritingLine} */ { text }) => text,
};

export function writeFromIdea() {
  const idea = h("textarea", { rows: "4", required: true, placeholder: "A lighthouse keeper loses the light", autofocus: true, "aria-label": "The idea" });
  const shots = h("input", { type: "number", min: "1", max: "13", value: "5" });
  const seconds = h("input", { type: "number", min: "1", max: "60", value: "15" });
  const far = h("p", { class: "far hint", hidden: true });
  const found = h("ul", { class: "written", "aria-label": "What was found" });
  const asked = h("div", { class: "form" },
    h("p", { class: "hint", text: `The language model at ${now("setup")?.writing?.endpoint ?? ""} writes a storyboard. It may take a minute.` }), idea,
    h("div", { class: "pair" }, h("label", { class: "line" }, h("span", { text: "Shots" }), shots), h("label", { class: "line" }, h("span", { text: "Seconds" }), seconds)));
  const send = async () => (await mayLeave()) && written({ idea: idea.value, shots: shots.valueAsNumber, seconds: seconds.valueAsNumber });
  const form = h("form", {}, asked, h("div", { class: "form" }, far, found, actions("Write it", send)));
  const dialog = open("Write from an idea", "write", form);
  const stop = on("writing", (writing) => render(far, found, writing));
  dialog.addEventListener("close", stop);

  /** Whether the dialog may close: where something was found, it stays until it is read. @param {object} wanted */
  async function written(wanted) {
    show(far, true);
    const done = await attempt(post("/api/write", wanted).then(({ board, writing }) => {
      putBoard(board);
      render(far, found, writing);
    }));
    if (!done || found.children.length === 0) return done;
    asked.hidden = true;
    say(far, "The storyboard is on the page. What was found on the way:");
    aloud(`${far.textContent} ${[...found.children].map((line) => line.textContent).join(". ")}`);
    form.querySelector("footer")?.replaceWith(foot(h("button", { type: "button", class: "primary", text: "Close", on: { click: () => dialog.close() } })));
    form.querySelector("button")?.focus();
    return false;
  }
}

/** @param {HTMLElement} far @param {HTMLElement} found @param {Writing | null} writing */
function render(far, found, writing) {
  if (!writing || far.hidden) return;
  const attempt = writing.number === 0 ? "Asking …" : `Try ${writing.number} of ${writing.most}`;
  if (!writing.over) say(far, `${attempt}${writing.characters ? `, ${writing.characters} characters so far` : ""}`);
  if (!writing.over) reader.once(attempt, attempt);
  keyed(found, writing.lines, (_, index) => `${index}`, () => h("li"), (element, line) => say(element, WORDS[line.word](line)));
}
