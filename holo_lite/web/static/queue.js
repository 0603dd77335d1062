/* What is being made, what waits, and what was made or went wrong, in this order. */

import { aloud, Reader } from "./aloud.js";
import { post } from "./api.js";
import { button, h, keyed, say, show } from "./dom.js";
import { bytes, counted, duration } from "./format.js";
import { jobCard, updateJob } from "./job.js";
import { now, on } from "./store.js";
import { attempt } from "./toasts.js";

const ENDED = ["done", "failed", "cancelled"];
const LAST = 6; // how many that have ended are shown

class QueuePanel extends HTMLElement {
  connectedCallback() {
    this.left = h("p", { class: "facts" });
    this.hold = button("pause", "Hold", () => void this.held(!now("queue")?.held), { class: "quiet hold" });
    this.disk = h("p", { class: "disk" });
    this.reader = new Reader();
    /** @type {string} */
    this.order = ""; // of the jobs that wait
    this.jobs = h("div", { class: "jobs" });
    this.empty = h("p", { class: "hint", text: "Nothing is being made. A draft shows in a short time whether a story works." });
    this.append(h("section", { class: "panel queue", "aria-label": "Queue" },
      h("div", { class: "section-head" }, h("h2", { text: "Queue" }), this.left, this.hold), this.disk, this.jobs, this.empty));
    on("queue", () => this.render());
    on("jobs", () => this.render());
    on("gallery", () => this.render());
  }

  /** @param {boolean} held */
  async held(held) {
    if (await attempt(post("/api/queue", { held }))) aloud(held ? "The queue is held." : "The queue goes on.");
  }

  /** Those that run, then those that wait, then what has ended, the newest first. */
  ordered() {
    const jobs = now("jobs") ?? [];
    const order = now("queue")?.order ?? [];
    const open = jobs.filter(({ state }) => !ENDED.includes(state));
    const rank = (/** @type {Job} */ job) => (job.state === "running" || job.state === "stopping" ? -1 : order.indexOf(job.id));
    return [...open.sort((a, b) => rank(a) - rank(b)), ...jobs.filter(({ state }) => ENDED.includes(state)).reverse().slice(0, LAST)];
  }

  render() {
    const { left, hold, disk, jobs, empty } = this;
    if (!left || !hold || !disk || !jobs || !empty) return;
    const queue = now("queue");
    const all = this.ordered();
    const waiting = all.filter(({ state }) => state === "waiting");
    keyed(jobs, all, ({ id }) => id, ({ id }) => jobCard(id), (element, job) => updateJob(element, job, waiting.indexOf(job), waiting.length));
    show(empty, all.length === 0);
    const open = all.filter(({ state }) => !ENDED.includes(state)).length;
    say(left, open === 0 ? "" : [counted(open, "job"), queue?.left == null ? "" : `about ${duration(queue.left)} for all`].filter(Boolean).join(" · "));
    say(/** @type {HTMLElement} */ (hold.lastElementChild), queue?.held ? "Go on" : "Hold");
    hold.title = queue?.held ? "Let the queue go on" : "Begin nothing new until you say so";
    hold.querySelector("use")?.setAttribute("href", `/static/icons.svg#${queue?.held ? "play" : "pause"}`);
    show(hold, open > 0 || queue?.held === true);
    this.room(queue?.disk ?? null);
    this.reordered(waiting);
  }

  /** Read the new place of the job whose buttons somebody is at. @param {Job[]} waiting */
  reordered(waiting) {
    const order = waiting.map(({ id }) => id).join(" ");
    const at = waiting.findIndex(({ id }) => id === document.activeElement?.closest("article")?.dataset["key"]);
    if (at >= 0 && order !== this.order) aloud(`${waiting[at]?.title}: ${at + 1} of ${counted(waiting.length, "job")} that wait`);
    this.order = order;
  }

  /** Say beforehand that a disk will be full. @param {Queue["disk"]} disk */
  room(disk) {
    const short = disk !== null && disk.needed !== null && disk.needed > disk.free;
    const text = disk && short ? `The disk has ${bytes(disk.free)} free, and the queue needs about ${bytes(disk.needed ?? 0)}. Make room first.` : "";
    say(/** @type {HTMLElement} */ (this.disk), text);
    this.reader?.once(short ? "short" : "", text);
    show(/** @type {HTMLElement} */ (this.disk), short);
  }
}

customElements.define("holo-queue", QueuePanel);
