/* What is looked at in a window of its own. Its code comes when it is first wanted. */

/** @param {string} id */
export async function playFilm(id) {
  (await import("./player.js")).play(id);
}

/** @param {string} one @param {string} two */
export async function compareFilms(one, two) {
  (await import("./compare.js")).compare(one, two);
}
