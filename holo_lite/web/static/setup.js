/* The first run: what this machine can do, which model is here, and how to get one. */

import { aloud, Reader } from "./aloud.js";
import { post } from "./api.js";
import { busy, button, h, icon, isBusy, keyed, say, sayCommands, show } from "./dom.js";
import { bytes, counted, duration } from "./format.js";
import { styles } from "./styles.js";
import { on } from "./store.js";
import { attempt } from "./toasts.js";

const FOLDED = "holo-lite first run";
const ENDED = ["done", "failed", "cancelled", "offered"];
const WANTED = ["HoloCine-14B", "Wan 2.2 T2V A14B"];
/** @type {{[state: string]: string}} */
const STATES = {
  asking: "Asking for its size and licence …", offered: "", fetching: "Fetching", converting: "Converting it for small cards",
  done: "It is here: choose it as the model", failed: "It did not work", cancelled: "Cancelled; it goes on from where it was",
};

const LOOKING = "Looking, for a minute or so …";
const reader = new Reader();

class SetupPanel extends HTMLElement {
  connectedCallback() {
    this.words = h("p", { class: "model-help" });
    this.checks = h("ul", { class: "checks", "aria-label": "What was found" });
    this.look = button("check", "Look at this machine", () => void this.doctor());
    this.wants = WANTED.map((what) => button("download", `Get ${what}`, () => void attempt(post("/api/setup/fetch", { what }))));
    this.fetching = h("div", { class: "fetching", hidden: true });
    this.fold = button("up", "Fold", () => this.folded(!this.panel?.classList.contains("folded")), { class: "quiet fold" });
    this.panel = h("section", { class: "first-run", "aria-label": "First run", hidden: true },
      h("div", { class: "swatch", "aria-hidden": "true" }, h("i"), h("i"), h("i")),
      h("div", { class: "first-words" }, h("h2", { text: "You are making films of coloured shapes, with holo-tiny" }), this.words,
        h("div", { class: "doctor" }, ...this.wants, this.look, this.checks)),
      this.fetching, this.fold);
    this.append(this.panel);
    this.folded(localStorage.getItem(FOLDED) === "yes");
    on("setup", (setup) => this.render(setup));
  }

  /** Have this machine looked at, which may take a minute. */
  async doctor() {
    if (isBusy(/** @type {HTMLElement} */ (this.look))) return;
    this.looking(true);
    aloud(LOOKING);
    if (!(await attempt(post("/api/setup/doctor")))) this.looking(false);
  }

  /** @param {boolean} looking */
  looking(looking) {
    const look = /** @type {HTMLButtonElement} */ (this.look);
    busy(look, looking);
    say(/** @type {HTMLElement} */ (look.lastElementChild), looking ? LOOKING : "Look at this machine");
  }

  /** Leave one line of it, and keep that over a reload. @param {boolean} folded */
  folded(folded) {
    this.panel?.classList.toggle("folded", folded);
    localStorage.setItem(FOLDED, folded ? "yes" : "no");
    const fold = /** @type {HTMLElement} */ (this.fold);
    fold.setAttribute("aria-expanded", String(!folded));
    say(/** @type {HTMLElement} */ (fold.lastElementChild), folded ? "More" : "Fold");
    fold.querySelector("use")?.setAttribute("href", `/static/icons.svg#${folded ? "down" : "up"}`);
  }

  /** @param {Setup} setup */
  render(setup) {
    const { panel, words, checks, fetching } = this;
    if (!panel || !words || !checks || !fetching) return;
    show(panel, setup.model_help !== null || (setup.fetch !== null && !ENDED.includes(setup.fetch.state)));
    sayCommands(words, setup.model_help ?? "");
    const found = setup.doctor ?? [];
    if (setup.doctor && this.awaited) {
      this.looking(false);
      aloud(summary(found));
    }
    this.awaited = setup.doctor === null;
    for (const want of this.wants ?? []) show(want, setup.fetch === null);
    keyed(checks, found, (_, index) => `${index}`, () => h("li", {}, icon("check"), h("span"), h("small")), updateCheck);
    this.fetch(setup.fetch);
  }

  /** @param {Fetching | null} fetch */
  fetch(fetch) {
    const box = /** @type {HTMLElement} */ (this.fetching);
    show(box, fetch !== null);
    if (fetch) keyed(box, [fetch], ({ what }) => what, ({ what }) => fetchCard(what), updateFetch);
  }
}

/** What was found, in few words, and first what is in the way. @param {Check[]} found */
function summary(found) {
  const wrong = found.filter(({ level }) => level === "trouble").map(({ text, help }) => `${text}. ${help ?? ""}`);
  return [`${counted(found.length, "thing")} looked at`, wrong.length > 0 ? "to be mended:" : "nothing is in the way", ...wrong].join(", ");
}

/** @param {HTMLElement} element @param {Check} check */
function updateCheck(element, check) {
  element.className = check.level;
  element.querySelector("use")?.setAttribute("href", `/static/icons.svg#${{ ok: "check", note: "info", trouble: "warning" }[check.level]}`);
  say(/** @type {HTMLElement} */ (element.children[1]), check.text);
  sayCommands(/** @type {HTMLElement} */ (element.children[2]), check.help ?? "");
}

/** @param {string} what */
function fetchCard(what) {
  const agree = h("input", { type: "checkbox" });
  const get = button("download", "Fetch it", () => void attempt(post("/api/setup/fetch", { what, agree: true })), { class: "primary", disabled: true });
  agree.addEventListener("change", () => { get.disabled = !agree.checked; });
  return h("div", { class: "fetch-card" }, h("p", { class: "fetch-what" }), h("div", { class: "fetch-ask" }, h("label", {}, agree, h("span")), get),
    h("div", { class: "progress", role: "progressbar", "aria-label": `Fetching ${what}`, "aria-valuemin": "0", "aria-valuemax": "100" }, h("span")),
    h("p", { class: "fetch-state" }),
    button("stop", "Cancel", () => void attempt(post("/api/setup/fetch/cancel")), { class: "quiet fetch-cancel" }),
    button("retake", "Ask again", () => void attempt(post("/api/setup/fetch", { what })), { class: "quiet fetch-again" }));
}

/** @param {HTMLElement} element @param {Fetching} fetch */
function updateFetch(element, fetch) {
  const find = (/** @type {string} */ query) => /** @type {HTMLElement} */ (element.querySelector(query));
  const ended = ENDED.includes(fetch.state);
  const share = fetch.total ? (fetch.done ?? 0) / fetch.total : 0;
  say(find(".fetch-what"), `${fetch.what}${fetch.bytes === null ? "" : ` · needs ${bytes(fetch.bytes)} of the disk`}`);
  say(find(".fetch-ask label span"), `I agree to its licence: ${fetch.licence}`);
  show(find(".fetch-ask"), ended && fetch.state !== "done" && fetch.licence !== "");
  show(find(".fetch-again"), fetch.state === "failed" && fetch.licence === "");
  show(find(".progress"), !ended && fetch.state !== "asking");
  show(find(".fetch-cancel"), !ended);
  find(".progress").setAttribute("aria-valuenow", `${Math.round(100 * share)}`);
  /** @type {HTMLElement} */ (find(".progress").firstElementChild).style.transform = `scaleX(${share})`;
  const amount = !ended && fetch.total && fetch.state === "fetching" ? `, ${bytes(fetch.done ?? 0)} of ${bytes(fetch.total)}` : "";
  const left = ended || fetch.left === null ? "" : `, ${duration(fetch.left)} left`;
  const words = `${STATES[fetch.state] ?? fetch.state}${amount}${left}${fetch.why ? `: ${fetch.why}` : ""}`;
  sayCommands(find(".fetch-state"), words);
  if (!ended || reader.said !== "") heard(fetch, fetch.state === "offered" ? `${find(".fetch-what").textContent}. To fetch it, agree to its licence` : `${fetch.what}: ${words}`);
}

/** Have it read how far it is; how it ended at once. @param {Fetching} fetch @param {string} words */
function heard({ what, state, done, total }, words) {
  if (ENDED.includes(state)) reader.once(`${what} ${state}`, words);
  else reader.far(`${what} ${state}`, done ?? 0, total ?? 0, words);
}

await styles("setup");
customElements.define("holo-setup", SetupPanel);
