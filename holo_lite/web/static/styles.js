/* Style sheets of what most never open. Each comes when it is first wanted. */

import { h } from "./dom.js";

/** @type {Map<string, Promise<unknown>>} */
const coming = new Map();

/** Bring one, and wait until it is here. @param {string} name */
export function styles(name) {
  const here = coming.get(name) ?? brought(name);
  coming.set(name, here);
  return here;
}

/** @param {string} name @returns {Promise<unknown>} */
function brought(name) {
  return new Promise((done) => {
    document.head.append(h("link", { rel: "stylesheet", href: `/static/${name}.css`, on: { load: done, error: done } }));
  });
}
