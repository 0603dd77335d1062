/* The captions, a card for each shot: what is seen in it, how long it is, how many tokens it takes, what was found. */

import { attribute, h, keyed, say, show, small } from "./dom.js";
import { addShot, lengthen, moveShot, removeShot, splitShot } from "./edits.js";
import { Field } from "./field.js";
import { length, moment } from "./format.js";
import { findings } from "./look.js";
import { awayButton, namedAway, pictureButton, takesPictures } from "./pictures.js";
import { writeHere } from "./scene.js";
import { choose, onSelection, selected } from "./selection.js";
import { now, on } from "./store.js";

/** @type {WeakMap<HTMLElement, Field>} */
const fields = new WeakMap();

class Captions extends HTMLElement {
  connectedCallback() {
    this.cards = h("div", { class: "cards" });
    this.append(h("h2", { class: "unseen", text: "Shots" }), this.cards);
    on("board", () => this.render());
    on("look", () => this.render());
    onSelection(() => this.render());
  }

  render() {
    const board = now("board");
    if (!board || !this.cards) return;
    keyed(this.cards, board.shots, ({ id }) => id, ({ id }) => card(id), (element, shot, index) => update(element, shot, index, board));
  }
}

/** @param {string} id */
function card(id) {
  const area = h("textarea", { rows: "3", placeholder: "What is seen: framing, who, what they do", spellcheck: "true", id: `caption-${id}` });
  const picture = h("figure", { class: "first-frame", hidden: true }, h("img", { loading: "lazy", alt: "" }), h("figcaption"),
    awayButton({ op: "picture", shot: id, upload: null }));
  const element = h("article", { class: "card shot-card", role: "group" },
    h("header", {}, h("h3", {}, h("label", { for: `caption-${id}` })), h("span", { class: "when" }), tools(id)),
    picture, area,
    h("footer", {}, steps(id), h("span", { class: "tokens" }), pictureButton("First frame", (upload) => ({ op: "picture", shot: id, upload }))),
    h("ul", { class: "findings" }));
  fields.set(element, new Field(area, `caption ${id}`, (text) => ({ op: "caption", shot: id, text })));
  writeHere(area);
  element.addEventListener("focusin", () => choose(id));
  element.addEventListener("pointerdown", () => choose(id));
  takesPictures(element, (upload) => ({ op: "picture", shot: id, upload }));
  return element;
}

/** @param {string} id */
function tools(id) {
  return h("div", { class: "tools" },
    small("left", "Move this shot earlier", () => void moveShot(id, -1), { "data-tool": "earlier" }),
    small("right", "Move this shot later", () => void moveShot(id, 1), { "data-tool": "later" }),
    small("split", "Split this shot in two", () => void splitShot(id), { "data-tool": "split" }),
    small("plus", "Add a shot after this one", () => void addShot(id)),
    small("trash", "Remove this shot", () => void removeShot(id), { "data-tool": "remove" }));
}

/** Longer and shorter, by the least there is. @param {string} id */
function steps(id) {
  return h("div", { class: "steps", role: "group" },
    small("minus", "Shorter", () => void lengthen(id, -1), { "data-tool": "shorter" }), h("span", { class: "length" }),
    small("plus", "Longer", () => void lengthen(id, 1)));
}

/** @param {HTMLElement} element @param {Shot} shot @param {number} index @param {Board} board */
function update(element, shot, index, board) {
  const seen = now("look")?.shots.find(({ id }) => id === shot.id);
  const find = (/** @type {string} */ query) => /** @type {HTMLElement} */ (element.querySelector(query));
  element.classList.toggle("chosen", selected() === shot.id);
  say(find("label"), `Shot ${index + 1}`);
  attribute(element, "aria-label", `Shot ${index + 1}`);
  attribute(find(".steps"), "aria-label", `Length of shot ${index + 1}`);
  fields.get(element)?.told(shot.caption);
  if (seen) say(find(".when"), `from ${moment(seen.first / (now("look")?.fps ?? 1))}`);
  if (seen) say(find(".length"), length(seen.seconds));
  say(find(".tokens"), seen?.tokens == null ? "" : `${seen.tokens} tokens`);
  attribute(find("[data-tool=earlier]"), "disabled", index === 0);
  attribute(find("[data-tool=later]"), "disabled", index === board.shots.length - 1);
  attribute(find("[data-tool=split]"), "disabled", shot.latents < 2);
  attribute(find("[data-tool=shorter]"), "disabled", shot.latents < 2);
  attribute(find("[data-tool=remove]"), "disabled", board.shots.length === 1);
  firstFrame(find(".first-frame"), shot);
  findings(find(".findings"), shot.id);
}

/** @param {HTMLElement} figure @param {Shot} shot */
function firstFrame(figure, shot) {
  show(figure, shot.picture !== null);
  attribute(/** @type {HTMLElement} */ (figure.querySelector("img")), "src", shot.picture?.url);
  namedAway(/** @type {HTMLElement} */ (figure.querySelector("button")), shot.picture);
  say(/** @type {HTMLElement} */ (figure.querySelector("figcaption")), shot.picture ? `Begins with ${shot.picture.name}` : "");
}

customElements.define("holo-captions", Captions);
