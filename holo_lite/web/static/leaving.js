/* Before a storyboard makes way for another one. */

import { confirmed } from "./dialog.js";
import { flush } from "./outbox.js";
import { now } from "./store.js";

/** Whether what is on the page may be put away. Undo brings it back in any case. */
export async function mayLeave() {
  await flush();
  if (!now("board")?.changed) return true;
  return confirmed("Not saved yet", "The storyboard on the page has changes that are not saved.", "Go on without saving");
}
