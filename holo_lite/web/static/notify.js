/* A word from the browser when a film is done, for those who look elsewhere meanwhile. */

import { stateWords } from "./job.js";
import { on } from "./store.js";

/** @type {Map<string, JobState>} */
const states = new Map();
let first = true;
let said = ""; // how far a job was when that was last read aloud

/** Ask whether we may, if it was never asked. Only ever called by a click. */
export function mayNotify() {
  if ("Notification" in globalThis && Notification.permission === "default") void Notification.requestPermission().catch(() => undefined);
}

/** @param {Job} job @param {JobState | undefined} before */
function ended(job, before) {
  return before !== undefined && before !== job.state && (job.state === "done" || job.state === "failed");
}

/** Have something read to those who listen. @param {string} text */
function aloud(text) {
  const place = document.querySelector("#aloud");
  if (place) place.textContent = text;
}

/** Say how far a job is, at each phase and each quarter of it: more would be a chatter. @param {Job} job */
function progress(job) {
  if (job.state !== "running" || job.phase === null) return;
  const far = `${job.id} ${job.phase} ${Math.floor((4 * job.done) / Math.max(job.total, 1))}`;
  if (far === said) return;
  said = far;
  aloud(`${job.title}: ${stateWords(job)}`);
}

/** @param {Job} job */
function tell(job) {
  const text = job.state === "done" ? "is done" : `could not be made: ${job.why ?? ""}`;
  aloud(`${job.title} ${text}`);
  if (!document.hidden || !("Notification" in globalThis) || Notification.permission !== "granted") return;
  const shown = new Notification(`${job.title} ${text}`, { tag: job.id });
  shown.onclick = () => window.focus();
}

/** Look after every job from now on. */
export function watchJobs() {
  on("jobs", (jobs) => {
    for (const job of jobs) {
      if (!first && ended(job, states.get(job.id))) tell(job);
      progress(job);
      states.set(job.id, job.state);
    }
    first = false;
  });
}
