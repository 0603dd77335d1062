/* A word from the browser when a film is done, for those who look elsewhere meanwhile. */

import { on } from "./store.js";

/** @type {Map<string, JobState>} */
const states = new Map();
let first = true;

/** Ask whether we may, if it was never asked. Only ever called by a click. */
export function mayNotify() {
  if ("Notification" in globalThis && Notification.permission === "default") void Notification.requestPermission().catch(() => undefined);
}

/** @param {Job} job @param {JobState | undefined} before */
function ended(job, before) {
  return before !== undefined && before !== job.state && (job.state === "done" || job.state === "failed");
}

/** @param {Job} job */
function tell(job) {
  const text = job.state === "done" ? "is done" : `could not be made: ${job.why ?? ""}`;
  const aloud = document.querySelector("#aloud");
  if (aloud) aloud.textContent = `${job.title} ${text}`;
  if (!document.hidden || !("Notification" in globalThis) || Notification.permission !== "granted") return;
  const shown = new Notification(`${job.title} ${text}`, { tag: job.id });
  shown.onclick = () => window.focus();
}

/** Look after every job from now on. */
export function watchJobs() {
  on("jobs", (jobs) => {
    for (const job of jobs) {
      if (!first && ended(job, states.get(job.id))) tell(job);
      states.set(job.id, job.state);
    }
    first = false;
  });
}
