/* Every film of the folder: its poster, and what can be done with it. */

import { aloud } from "./aloud.js";
import { attribute, h, keyed, say, show } from "./dom.js";
import { compareFilms, playFilm } from "./films.js";
import { length, when } from "./format.js";
import { styles } from "./styles.js";
import { on } from "./store.js";
import { note } from "./toasts.js";

class Gallery extends HTMLElement {
  connectedCallback() {
    /** @type {Set<string>} */
    this.picked = new Set();
    this.cards = h("div", { class: "films" });
    this.empty = h("p", { class: "hint big", text: "No film yet. Those that are made appear here." });
    this.compare = h("button", { type: "button", text: "Compare two", disabled: true, on: { click: () => this.both() } });
    this.hint = h("p", { class: "facts" });
    this.append(h("div", { class: "section-head" }, h("h2", { text: "Films" }), this.hint, this.compare), this.cards, this.empty);
    on("gallery", (videos) => this.render(videos));
  }

  /** @param {Video[]} videos */
  render(videos) {
    const { cards, empty } = this;
    if (!cards || !empty || !this.compare) return;
    const there = new Set(videos.map(({ id }) => id));
    for (const id of this.picked ?? []) if (!there.has(id)) this.picked?.delete(id);
    keyed(cards, videos, ({ id }) => id, (video) => this.card(video), updateFilm);
    show(empty, videos.length === 0);
    show(this.compare, videos.length > 1);
    this.count();
  }

  /** @param {Video} video */
  card({ id }) {
    const image = h("img", { loading: "lazy", alt: "" });
    const pick = h("input", { type: "checkbox" });
    pick.addEventListener("change", () => this.pick(id, pick));
    return h("article", { class: "film-card" },
      h("button", { type: "button", class: "poster", on: { click: () => void playFilm(id) } }, image, h("span", { class: "film-length" })),
      h("div", { class: "film-words" }, h("h3"), h("p"), h("label", { class: "pick" }, pick, h("span", { text: "Compare" }))));
  }

  /** @param {string} id @param {HTMLInputElement} box */
  pick(id, box) {
    if (box.checked && (this.picked?.size ?? 0) >= 2) {
      box.checked = false;
      return note("Two are chosen already. Take one of them out first.");
    }
    if (box.checked) this.picked?.add(id);
    else this.picked?.delete(id);
    this.count();
    aloud(this.hint?.textContent ?? "");
  }

  count() {
    const count = this.picked?.size ?? 0;
    attribute(/** @type {HTMLElement} */ (this.compare), "disabled", count !== 2);
    say(/** @type {HTMLElement} */ (this.hint), ["", "Choose one more to compare", "Two are chosen: press Compare two"][count] ?? "");
  }

  both() {
    const [one, two] = [...(this.picked ?? [])];
    if (one && two) void compareFilms(one, two);
  }
}

/** @param {HTMLElement} element @param {Video} video */
function updateFilm(element, video) {
  const find = (/** @type {string} */ query) => /** @type {HTMLElement} */ (element.querySelector(query));
  const image = /** @type {HTMLImageElement} */ (find("img"));
  attribute(image, "src", video.poster ?? `/gallery/${video.id}/poster?${video.when}`);
  attribute(find(".poster"), "aria-label", `Watch ${video.name}, ${length(video.seconds)}`);
  image.style.aspectRatio = `${video.width} / ${video.height}`;
  say(find(".film-length"), length(video.seconds));
  say(find("h3"), video.name);
  say(find(".film-words p"), `${video.shots.length > 1 ? `${video.shots.length} shots · ` : ""}${video.width} × ${video.height} · ${when(video.when)}`);
  attribute(find("input"), "aria-label", `Compare ${video.name}`);
}

await styles("films");
customElements.define("holo-gallery", Gallery);
