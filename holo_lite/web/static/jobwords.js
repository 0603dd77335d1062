/* Where a job is, in words. */

import { bytes, duration } from "./format.js";

const PHASES = {
  load: "Opening the model", encode: "Reading pictures", text: "Reading the captions", denoise: "Drawing", decode: "Developing the frames",
};
const STATES = {
  waiting: "Waiting", running: "Being made", stopping: "Stops after this step", paused: "Paused", done: "Done", failed: "Could not be made",
  cancelled: "Cancelled",
};

/** Where a job is, in words. @param {Job} job */
export function stateWords(job) {
  if (job.state === "failed") return `${STATES.failed}: ${job.why ?? "no reason was told"}`;
  if (job.state === "done") return job.elapsed === null ? STATES.done : `Done in ${duration(job.elapsed)}`;
  if (job.state !== "running" || job.phase === null) return job.why ? `${STATES[job.state]}: ${job.why}` : STATES[job.state];
  return `${PHASES[job.phase] ?? job.phase}${job.total > 0 ? `, ${amount(job)}` : ""}`;
}

/** @param {Job} job */
function amount({ unit, done, total }) {
  if (unit === "bytes") return `${bytes(done)} of ${bytes(total)}`;
  return `${unit.replace(/s$/, "")} ${done} of ${total}`;
}

/** How long a job takes, in words. @param {Job} job */
export function leftWords(job) {
  const words = [];
  if (job.left !== null && ["running", "waiting", "paused"].includes(job.state)) words.push(job.state === "running" ? `${duration(job.left)} left` : `takes about ${duration(job.left)}`);
  if (job.elapsed !== null && job.state === "running") words.push(`${duration(job.elapsed)} so far`);
  return words.join(" · ");
}
