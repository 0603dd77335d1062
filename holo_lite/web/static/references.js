/* The tray of reference pictures: who or what the film is about, seen by the whole of it. */

import { attribute, h, keyed, say } from "./dom.js";
import { Field } from "./field.js";
import { awayButton, namedAway, pictureButton, takesPictures } from "./pictures.js";
import { on } from "./store.js";

/** @type {WeakMap<HTMLElement, Field>} */
const fields = new WeakMap();

class References extends HTMLElement {
  connectedCallback() {
    const use = (/** @type {string} */ upload) => ({ op: "reference_add", upload, caption: "" });
    const tray = h("div", { class: "tray" });
    const empty = h("p", { class: "hint", text: "Drop pictures here that show who or what the film is about." });
    const card = h("section", { class: "card references", "aria-label": "Reference pictures" },
      h("header", {}, h("h2", { text: "Reference pictures" }), pictureButton("Choose pictures", use, true)), tray, empty);
    this.append(card);
    takesPictures(card, use);
    on("board", ({ references }) => {
      keyed(tray, references, ({ id }) => id, ({ id }) => reference(id), update);
      empty.hidden = references.length > 0;
    });
  }
}

/** @param {string} id */
function reference(id) {
  const text = h("input", { type: "text", placeholder: "What it shows" });
  const element = h("figure", { class: "reference" }, h("img", { loading: "lazy", alt: "" }), h("figcaption", {}, h("b"), text),
    awayButton({ op: "reference_remove", id }));
  fields.set(element, new Field(text, `reference ${id}`, (words) => ({ op: "reference", id, text: words })));
  return element;
}

/** @param {HTMLElement} element @param {Reference} item */
function update(element, item) {
  attribute(/** @type {HTMLElement} */ (element.querySelector("img")), "src", item.picture?.url);
  say(/** @type {HTMLElement} */ (element.querySelector("b")), item.picture?.name ?? "missing");
  attribute(/** @type {HTMLElement} */ (element.querySelector("input")), "aria-label", `What ${item.picture?.name ?? "the picture"} shows`);
  namedAway(/** @type {HTMLElement} */ (element.querySelector("button")), item.picture);
  fields.get(element)?.told(item.caption);
}

customElements.define("holo-references", References);
