/* What a shot looks like: where the film that is being made is heading, or else how it was when it was last made, in
   the newest film of the folder that has a shot with its caption. */

import { now } from "./store.js";

/** @type {Video[] | undefined} */
let seen;
/** @type {Map<string, string>} */
const stills = new Map();

/** The address of a picture of a shot with this caption; null where none was made. @param {string} caption */
export function stillOf(caption) {
  if (seen !== now("gallery")) look(now("gallery") ?? []);
  return stills.get(words(caption)) ?? null;
}

/** The address of a picture of a shot with this caption in a film that is being made; null where none is.
 * @param {string} caption */
export function estimateOf(caption) {
  return estimates().findLast((shot) => words(shot.caption) === words(caption) && words(caption))?.url ?? null;
}

/** Every shot of every film that is being made and has come so far that there is something to see. */
export function estimates() {
  return (now("jobs") ?? []).filter(({ state }) => state === "running" || state === "stopping").flatMap(({ shots }) => shots);
}

/** @param {Video[]} videos the newest first */
function look(videos) {
  seen = videos;
  stills.clear();
  for (const { caption, still } of [...videos].reverse().flatMap(({ shots }) => shots)) {
    if (still && words(caption)) stills.set(words(caption), still);
  }
}

/** A caption without what no model sees: line ends and spaces. @param {string} caption */
function words(caption) {
  return caption.split(/\s+/).filter(Boolean).join(" ");
}
