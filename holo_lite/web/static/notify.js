/* A word from the browser when a film is done, for those who look elsewhere meanwhile. */

import { aloud, Reader } from "./aloud.js";
import { stateWords } from "./jobwords.js";
import { on } from "./store.js";

/** @type {Map<string, JobState>} */
const states = new Map();
const STOPPED = ["stopping", "paused", "cancelled"];
let first = true;
const reader = new Reader();

/** Ask whether we may, if it was never asked. Only ever called by a click. */
export function mayNotify() {
  if ("Notification" in globalThis && Notification.permission === "default") void Notification.requestPermission().catch(() => undefined);
}

/** @param {Job} job @param {JobState | undefined} before */
function ended(job, before) {
  return before !== undefined && before !== job.state && (job.state === "done" || job.state === "failed");
}

/** Say how far a job is. @param {Job} job */
function progress(job) {
  if (job.state !== "running" || job.phase === null) return;
  reader.far(`${job.id} ${job.phase}`, job.done, job.total, `${job.title}: ${stateWords(job)}`);
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
      const before = states.get(job.id);
      if (!first && ended(job, before)) tell(job);
      else if (before !== undefined && before !== job.state && STOPPED.includes(job.state)) aloud(`${job.title}: ${stateWords(job)}`);
      progress(job);
      states.set(job.id, job.state);
    }
    first = false;
  });
}
