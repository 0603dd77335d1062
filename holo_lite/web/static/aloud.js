/* What is read to those who listen, and seen by nobody. Things that change all the time are said now and then. */

const APART = 10_000; // milliseconds between two words about how far something is
const TOGETHER = 50; // milliseconds; what comes within them is read in one go, as a second text would replace the first

/** @type {Set<string>} */
const waiting = new Set();

/** Have something read. In a dialog it must be in there: all else is out of reach behind it. @param {string} text */
export function aloud(text) {
  if (text === "") return;
  if (waiting.size === 0) setTimeout(read, TOGETHER);
  waiting.add(text);
}

function read() {
  const place = [...document.querySelectorAll("#aloud, dialog[open] .aloud")].at(-1);
  const words = [...waiting].map((text) => (/[.?!…]$/.test(text) ? text : `${text}.`)).join(" ");
  waiting.clear();
  if (place) place.textContent = place.textContent === words ? `${words}\u00a0` : words; // the same words are read again only where they differ
}

/** Something that goes on: said when it begins, at each phase of it and each quarter. More would be a chatter. */
export class Reader {
  constructor() {
    this.said = "";
    this.when = -APART;
  }

  /** @param {string} phase @param {number} done @param {number} total @param {string} text */
  far(phase, done, total, text) {
    if (performance.now() - this.when < APART) return;
    const before = this.said;
    this.once(`${phase} ${Math.floor((4 * done) / Math.max(total, 1))}`, text);
    if (this.said !== before) this.when = performance.now();
  }

  /** Have a text read, unless the last one had the same key. @param {string} key @param {string} text */
  once(key, text) {
    if (key === this.said) return;
    this.said = key;
    aloud(text);
  }
}
