/* One job of the queue: how far it is, what it looks like so far, what it takes, and what can be done with it. */

import { post } from "./api.js";
import { attribute, button, h, lines, say, show, small, swap } from "./dom.js";
import { playFilm } from "./films.js";
import { memory } from "./format.js";
import { leftWords, stateWords } from "./jobwords.js";
import { fill, meter } from "./look.js";
import { openPicture } from "./picture.js";
import { now } from "./store.js";
import { attempt } from "./toasts.js";

const KINDS = { full: "Film", draft: "Draft", seeds: "Four seeds", retake: "Retake", extend: "Continued" };
/** What each button does, and in which states it is there. @type {[string, string, string, JobState[]][]} */
const ACTIONS = [
  ["pause", "Pause", "pause", ["running"]],
  ["resume", "Go on", "play", ["paused", "failed", "cancelled"]],
  ["cancel", "Cancel", "stop", ["running", "waiting", "paused", "stopping"]],
];

/** @param {string} id @param {string} action */
function tell(id, action) {
  return attempt(post(`/api/jobs/${id}/${action}`));
}

/** @param {string} id */
export function jobCard(id) {
  const bar = h("div", { class: "progress", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, h("span"));
  const picture = h("button", { type: "button", class: "job-picture", hidden: true, "aria-label": "Look at the picture in full size" }, h("img", { loading: "lazy", alt: "" }));
  picture.addEventListener("click", () => void openPicture(picture.querySelector("img")?.src ?? "", now("jobs")?.find((job) => job.id === id)?.title ?? ""));
  const order = h("div", { class: "order" },
    small("up", "Earlier", () => void tell(id, "up")), small("down", "Later", () => void tell(id, "down")), small("first", "Make this one first", () => void tell(id, "first")));
  const actions = h("div", { class: "job-actions" },
    ...ACTIONS.map(([action, name, sign]) => button(sign, name, () => void tell(id, action), { class: "quiet", "data-action": action })),
    button("play", "Watch", () => watch(id), { class: "quiet", "data-action": "watch" }),
    small("close", "Take it off the list", () => void tell(id, "remove"), { "data-action": "remove" }));
  return h("article", { class: "job", role: "group" },
    h("header", {}, h("div", {}, h("h3"), h("p", { class: "job-kind" })), order),
    h("p", { class: "job-state" }), bar, h("p", { class: "job-left" }), picture, h("div", { class: "seeds" }),
    h("div", { class: "job-memory" }, meter("Memory in use"), h("p")), h("ul", { class: "job-notes" }), actions);
}

/** The film that a job made, if it is in the folder. @param {Job} job */
function filmOf(job) {
  return job.video ?? now("gallery")?.find(({ name }) => name === job.file)?.id ?? null;
}

/** @param {string} id */
function watch(id) {
  const job = now("jobs")?.find((each) => each.id === id);
  const film = job && filmOf(job);
  if (film) void playFilm(film);
}

/** @param {HTMLElement} element @param {Job} job @param {number} place among those that wait, or -1 @param {number} waiting */
export function updateJob(element, job, place, waiting) {
  const find = (/** @type {string} */ query) => /** @type {HTMLElement} */ (element.querySelector(query));
  element.dataset["state"] = job.state;
  attribute(element, "aria-label", `${KINDS[job.kind]}: ${job.title}`);
  say(find("h3"), job.title);
  say(find(".job-kind"), `${KINDS[job.kind]} · ${job.width} × ${job.height} · ${(job.frames / job.fps).toFixed(1)} s${job.made ? ` · from ${job.made.video}` : ""}`);
  say(find(".job-state"), stateWords(job));
  progress(find(".progress"), job);
  say(find(".job-left"), leftWords(job));
  show(find(".job-left"), find(".job-left").textContent !== "");
  picture(find(".job-picture"), job);
  show(find(".seeds"), job.seeds.length > 0);
  if (job.seeds.length > 0) void import("./seeds.js").then(({ seeds }) => seeds(find(".seeds"), job)); // few want them
  memoryWords(find(".job-memory"), job);
  lines(find(".job-notes"), job.notes);
  show(find(".order"), place >= 0 && waiting > 1);
  for (const [action, , , states] of ACTIONS) show(find(`[data-action=${action}]`), states.includes(job.state));
  say(/** @type {HTMLElement} */ (find("[data-action=cancel]").lastElementChild), job.state === "stopping" ? "Stop now" : "Cancel");
  show(find("[data-action=watch]"), job.state === "done" && filmOf(job) !== null);
  show(find("[data-action=remove]"), ["done", "failed", "cancelled"].includes(job.state));
}

/** @param {HTMLElement} bar @param {Job} job */
function progress(bar, job) {
  const share = job.share ?? (job.total > 0 ? job.done / job.total : 0);
  show(bar, ["running", "stopping", "paused"].includes(job.state));
  attribute(bar, "aria-valuenow", Math.round(100 * share));
  attribute(bar, "aria-label", `${job.title}: ${stateWords(job)}`);
  /** @type {HTMLElement} */ (bar.firstElementChild).style.transform = `scaleX(${share})`;
}

/** @param {HTMLElement} frame @param {Job} job */
function picture(frame, job) {
  const url = job.kind === "seeds" && job.state === "done" ? null : job.sheet ?? job.preview;
  show(frame, url !== null);
  const image = /** @type {HTMLImageElement} */ (frame.querySelector("img"));
  attribute(image, "alt", url ? `${job.sheet ? "The film" : "The film so far"}, shot by shot` : "");
  if (url) swap(image, url);
}

/** @param {HTMLElement} box @param {Job} job */
function memoryWords(box, job) {
  show(box, job.memory !== null && ["running", "stopping"].includes(job.state));
  if (!job.memory) return;
  const { used, planned } = job.memory;
  const words = `${memory(used)} in use, ${memory(planned)} planned${job.waited === null ? "" : ` · ${Math.round(100 * job.waited)} % of the time waits for weights`}`;
  fill(/** @type {HTMLElement} */ (box.children[0]), used, planned, words);
  say(/** @type {HTMLElement} */ (box.children[1]), words);
}
