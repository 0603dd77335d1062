/* What counts where a setting is left open: the defaults of the chosen model. */

import { now } from "./store.js";

/** @returns {Defaults | undefined} */
export function defaults() {
  const setup = now("setup");
  const chosen = setup?.models.find(({ id }) => id === now("board")?.settings.model) ?? setup?.models[0];
  return chosen?.defaults ?? setup?.defaults;
}
