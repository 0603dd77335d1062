/* What is read to those who listen, and seen by nobody. Things that change all the time are said now and then. */

/** Have something read. In a dialog it must be in there: all else is out of reach behind it. @param {string} text */
export function aloud(text) {
  const dialog = [...document.querySelectorAll("dialog[open]")].at(-1);
  const place = dialog?.querySelector(".aloud") ?? document.querySelector("#aloud");
  if (place) place.textContent = text;
}

/** Something that goes on: said when it begins, at each phase of it and each quarter. More would be a chatter. */
export class Reader {
  constructor() {
    this.said = "";
  }

  /** @param {string} phase @param {number} done @param {number} total @param {string} text */
  far(phase, done, total, text) {
    this.once(`${phase} ${Math.floor((4 * done) / Math.max(total, 1))}`, text);
  }

  /** Have a text read, unless the last one had the same key. @param {string} key @param {string} text */
  once(key, text) {
    if (key === this.said) return;
    this.said = key;
    if (text) aloud(text);
  }
}
