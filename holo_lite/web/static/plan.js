/* What the film will take, the answer first, and the buttons that make it. */

import { Reader } from "./aloud.js";
import { start } from "./api.js";
import { button, h, icon, keyed, lines, say, show } from "./dom.js";
import { edit } from "./edits.js";
import { duration, memory } from "./format.js";
import { fill, meter } from "./look.js";
import { mayNotify } from "./notify.js";
import { flush } from "./outbox.js";
import { now, on } from "./store.js";
import { attempt, note } from "./toasts.js";

const SEEDS = 4;
const STATES = { working: "Working it out …", fits: "Ready to be made", "does not fit": "Too large for this machine", unknown: "Not known yet" };

class PlanPanel extends HTMLElement {
  connectedCallback() {
    this.state = h("p", { class: "plan-state" }, icon("film"), h("strong"));
    this.answer = h("p", { class: "plan-answer" }, h("span"), h("small"));
    this.meter = meter("Graphics memory");
    this.words = h("p", { class: "plan-memory" });
    this.why = h("p", { class: "plan-why" });
    this.advice = h("ul", { class: "advice" });
    this.lines = h("ul", { class: "plan-lines" });
    this.details = h("details", {}, h("summary", { text: "How it was worked out" }), this.lines);
    this.reader = new Reader();
    this.append(h("section", { class: "panel plan", "aria-label": "What it will take" },
      h("h2", { class: "unseen", text: "Make the film" }), h("div", {}, this.state, this.answer, this.why), this.meter, this.words, this.advice, this.buttons(), this.details));
    on("plan", (plan) => this.render(plan));
  }

  buttons() {
    return h("div", { class: "make" },
      button("play", "Make it", () => void make({ kind: "full" }, "The film is"), { class: "primary", id: "make-full" }),
      button("draft", "Draft", () => void make({ kind: "draft" }, "A draft is"), { id: "make-draft", title: "Few steps and a small picture, to see whether the story works" }),
      button("dice", "Four seeds", () => void make({ kind: "seeds", count: SEEDS }, "Four drafts are"), { id: "make-seeds", title: "The same story four times, to choose from" }));
  }

  /** @param {Plan} plan */
  render(plan) {
    const { state, answer, words, why, advice, details } = this;
    if (!state || !answer || !words || !why || !advice || !details || !this.meter || !this.lines) return;
    this.dataset["state"] = plan.state.replaceAll(" ", "-");
    say(/** @type {HTMLElement} */ (state.lastElementChild), STATES[plan.state]);
    if (plan.state === "working") return; // the last answer stays until there is a new one
    this.answered(answer, plan);
    const whyNot = plan.why === now("look")?.error ? null : plan.why; // that is said below the strip
    say(why, whyNot ?? "");
    show(why, whyNot !== null);
    this.remember(plan);
    this.reader?.once(`${plan.state} ${whyNot}`, [STATES[plan.state], whyNot].filter(Boolean).join(": ")); // not each time that it is worked out
    const advices = plan.state === "does not fit" ? plan.advice : [];
    keyed(advice, advices, ({ text }) => text, advised, () => undefined);
    show(advice, advices.length > 0);
    lines(this.lines, plan.lines);
    show(details, plan.lines.length > 0);
  }

  /** The answer, and small beside it how it is known. @param {HTMLElement} answer @param {Plan} plan */
  answered(answer, plan) {
    const text = plan.text ?? (plan.seconds === null ? "" : `About ${duration(plan.seconds)}.`);
    const [, words = "", how = ""] = text.match(/^(.*?)(?: \((.*)\))?$/s) ?? [];
    say(/** @type {HTMLElement} */ (answer.children[0]), words);
    say(/** @type {HTMLElement} */ (answer.children[1]), how);
    show(answer, text !== "");
  }

  /** @param {Plan} plan */
  remember({ memory: given, main_memory: main }) {
    const [bar, words] = [/** @type {HTMLElement} */ (this.meter), /** @type {HTMLElement} */ (this.words)];
    show(bar, given !== null);
    show(words, given !== null || main !== null);
    const parts = given ? [`${memory(given.peak)} of ${memory(given.budget)} of memory`] : [];
    if (main !== null) parts.push(`${memory(main)} of main memory`);
    say(words, parts.join(" · "));
    if (given) fill(bar, given.peak, given.budget, words.textContent ?? "");
  }
}

/** @param {Advice} advice */
function advised({ text, op }) {
  const item = h("li", {}, h("span", { text }));
  if (op) item.append(h("button", { type: "button", class: "quiet", text: "Do this", on: { click: () => void edit(op) } }));
  return item;
}

/** @param {object} wanted @param {string} what */
export async function make(wanted, what) {
  mayNotify();
  await flush();
  if (!(await attempt(start(wanted)))) return;
  const running = now("queue")?.running != null;
  note(`${what} in the queue${running ? ", after the one that is being made" : ""}.`);
}

customElements.define("holo-plan", PlanPanel);
