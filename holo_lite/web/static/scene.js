/* The scene, which every shot reads, and its characters: chips that put a tag where the cursor was. */

import { h, keyed, say, icon } from "./dom.js";
import { edit } from "./edits.js";
import { Field, insert } from "./field.js";
import { on } from "./store.js";

const TAG = /\[character\d+\]/gi;

/** @type {HTMLTextAreaElement | null} */
let last = null; // the caption that somebody wrote in last

/** Let a caption be the place where chips put their tags. @param {HTMLTextAreaElement} area */
export function writeHere(area) {
  area.addEventListener("focus", () => { last = area; });
}

/** Every character a scene tells of, in order. @param {string} scene */
function characters(scene) {
  return [...new Set([...scene.matchAll(TAG)].map(([tag]) => tag.toLowerCase()))];
}

/** What a scene says of a character: the words after its tag. @param {string} scene @param {string} tag */
function described(scene, tag) {
  const after = scene.slice(scene.toLowerCase().indexOf(tag) + tag.length);
  return after.split(/[.,;\n]/)[0]?.replace(/^\s*(is|are|:|=|–|-)\s+/i, "").trim() ?? "";
}

class Scene extends HTMLElement {
  connectedCallback() {
    const area = h("textarea", {
      id: "scene", rows: "4", spellcheck: "true",
      placeholder: "Who is in the scene and what they look like, where it happens, the light. [character1] is …",
    });
    this.field = new Field(area, "scene", (text) => ({ op: "scene", text }));
    this.chips = h("div", { class: "chips", role: "group", "aria-label": "Characters: put a tag into the caption last written in" });
    const add = h("button", { type: "button", class: "chip new", on: { click: () => void this.addCharacter() } }, icon("plus"), h("span", { text: "Character" }));
    this.append(h("article", { class: "card scene-card" },
      h("header", {}, h("h2", {}, h("label", { for: "scene", text: "The scene" })), h("span", { class: "when", text: "read by every shot" }),
        h("div", { class: "chip-row" }, this.chips, add)),
      area));
    area.addEventListener("input", () => this.render(area.value));
    on("board", (board) => { this.field?.told(board.scene); this.render(area.value); });
  }

  async addCharacter() {
    await edit({ op: "character" });
    const area = /** @type {HTMLTextAreaElement} */ (this.field?.element);
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }

  /** @param {string} scene */
  render(scene) {
    if (!this.chips) return;
    keyed(this.chips, characters(scene), (tag) => tag, (tag) => chip(tag), (element, tag) => {
      const words = described(scene, tag);
      say(/** @type {HTMLElement} */ (element.lastElementChild), words);
      element.title = words ? `${tag} ${words}` : `Put ${tag} into the caption`;
    });
  }
}

/** @param {string} tag */
function chip(tag) {
  const put = () => {
    const chosen = last?.isConnected ? last : document.querySelector("holo-captions textarea");
    if (chosen instanceof HTMLTextAreaElement) insert(chosen, tag);
  };
  return h("button", { type: "button", class: "chip", on: { click: put, pointerdown: (/** @type {Event} */ event) => event.preventDefault() } },
    h("b", { text: tag.slice(1, -1) }), h("span"));
}


customElements.define("holo-scene", Scene);
