/* What can be done to the shots, by whatever button, key or drag. */

import { aloud } from "./aloud.js";
import { change } from "./api.js";
import { counted } from "./format.js";
import { frameCount, firstFrame } from "./frames.js";
import { flush } from "./outbox.js";
import { now } from "./store.js";
import { choose } from "./selection.js";
import { attempt, note } from "./toasts.js";

/** Change the storyboard, after all that was typed before. @param {Operation} operation */
export async function edit(operation) {
  await flush();
  return attempt(change(operation));
}

/** One change back, or forth again. @param {"undo" | "redo"} op */
export async function turn(op) {
  await flush(); // what was typed is a change, too
  if (!now("board")?.[op]) aloud(`There is nothing to ${op}.`);
  else if (await edit({ op })) aloud(op === "undo" ? "Undone." : "Redone.");
}

function shots() {
  return now("board")?.shots ?? [];
}

/** @param {string | null} after */
export async function addShot(after) {
  const before = new Set(shots().map(({ id }) => id));
  if (!(await edit({ op: "add", after }))) return;
  const added = shots().find(({ id }) => !before.has(id));
  if (added) choose(added.id);
  if (added) aloud(`Shot ${shots().indexOf(added) + 1} is new.`);
}

/** Cut a shot in the middle, or after some of its latent frames. @param {string} id @param {number} [latents] */
export async function splitShot(id, latents) {
  const shot = shots().find((each) => each.id === id);
  if (!shot) return;
  if (shot.latents < 2) return note("This shot is as short as a shot can be; make it longer to split it.");
  const number = shots().indexOf(shot) + 1;
  if (await edit({ op: "split", shot: id, latents: latents ?? Math.ceil(shot.latents / 2) })) aloud(`Shot ${number} is now two shots.`);
}

/** @param {string} id */
export async function removeShot(id) {
  const number = shots().findIndex((shot) => shot.id === id) + 1;
  if (shots().length < 2) return note("A film has at least one shot.");
  if (!(await edit({ op: "remove", shot: id }))) return;
  choose(shots()[Math.min(number, shots().length) - 1]?.id ?? null);
  note(`Shot ${number} was removed.`, { name: "Undo", press: () => void turn("undo") });
}

/** @param {string} id @param {number} places */
export async function moveShot(id, places) {
  const at = shots().findIndex((shot) => shot.id === id);
  const to = Math.min(Math.max(at + places, 0), shots().length - 1);
  if (at >= 0 && to !== at && (await edit({ op: "move", shot: id, to }))) aloud(`Shot ${at + 1} is now shot ${to + 1}.`);
}

/** @param {string} id @param {number} latents more, or with a minus fewer */
export async function lengthen(id, latents) {
  const shot = shots().find((each) => each.id === id);
  if (!shot || shot.latents + latents < 1 || !(await edit({ op: "length", shot: id, latents: shot.latents + latents }))) return;
  const before = shots().slice(0, shots().findIndex((each) => each.id === id) + 1).map((each) => each.latents);
  const end = before.reduce((sum, each) => sum + each, 0);
  aloud(`Shot ${before.length}: ${counted(frameCount(end) - firstFrame(end - (before.at(-1) ?? 0)), "frame")}`);
}
