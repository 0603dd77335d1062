/* The film strip: shots as wide as they are long, cuts that are dragged or moved by key, and a ruler. */

import { change } from "./api.js";
import { cutHandle, placeHandle } from "./cuts.js";
import { defaults } from "./defaults.js";
import { button, h, keyed, say, show } from "./dom.js";
import { addShot, edit } from "./edits.js";
import { counted, length } from "./format.js";
import { firstFrame, frameCount, latentOf, moved, ruler, starts } from "./frames.js";
import { now, on } from "./store.js";
import { onSelection, selected } from "./selection.js";
import { estimates } from "./stills.js";
import { stripShot, updateStripShot } from "./strip.js";
import { attempt } from "./toasts.js";
import { flush } from "./outbox.js";

const SETTLE = 250; // milliseconds after the last key until a cut is sent: one step to undo
const APART = 64; // pixels between two marks of the ruler
const ROOM = 0.97; // the part of the ruler in which a mark may begin

/** @typedef {{index: number, latent: number}} Place of a boundary, in latent frames from the clip's start */

export class Timeline extends HTMLElement {
  connectedCallback() {
    this.facts = h("p", { class: "facts" });
    this.ruler = h("ol", { class: "ruler", "aria-hidden": "true" });
    this.shots = h("div", { class: "strip-shots", role: "group", "aria-label": "Shots, in order", "aria-describedby": "shot-keys" });
    this.handles = h("div", { class: "strip-cuts", role: "group", "aria-label": "Cuts", "aria-describedby": "cut-keys" });
    this.mark = h("div", { class: "drop-mark", hidden: true });
    this.strip = h("div", { class: "strip" }, this.shots, h("div", { class: "strip-cuts" }, this.mark), this.handles);
    const hint = h("p", { class: "hint" },
      h("span", { id: "shot-keys", text: "On a shot: Enter writes its caption, Alt and an arrow moves it, S splits it, Insert adds one after it, Delete removes it." }),
      " ", h("span", { id: "cut-keys", text: "On a cut: the arrows move it, with Shift by four." }));
    this.append(
      h("div", { class: "section-head" }, h("h2", { text: "Timeline" }), this.facts,
        button("plus", "Add a shot", () => void addShot(now("board")?.shots.at(-1)?.id ?? null), { class: "quiet" })),
      h("div", { class: "film" }, this.ruler, this.strip), hint);
    /** Where a cut is in somebody's hand. @type {Place | null} */
    this.held = null;
    /** Where those are that the server was told of and has not answered yet. @type {Place[]} */
    this.flying = [];
    this.frozen = 0; // how many latent frames the strip shows while a cut is held
    this.timer = 0;
    /** @type {string} */
    this.coming = ""; // the pictures of films that are being made
    new ResizeObserver(() => this.render()).observe(this);
    on("board", () => this.render());
    on("setup", () => this.render());
    on("gallery", () => this.render());
    on("jobs", () => this.follow());
    onSelection(() => this.render());
  }

  get lengths() {
    const told = (now("board")?.shots ?? []).map(({ latents }) => latents);
    const places = [...this.flying ?? [], this.held].filter((place) => place !== null && place !== undefined);
    return places.reduce((lengths, { index, latent }) => (index < lengths.length ? moved(lengths, index, latent) : lengths), told);
  }

  get fps() {
    return now("board")?.settings.fps ?? defaults()?.fps ?? 15;
  }

  /** How many latent frames the strip shows: the clip, and room to make it longer. */
  get span() {
    const total = this.lengths.reduce((sum, each) => sum + each, 0);
    return this.frozen || total + Math.max(2, Math.round(total * 0.06));
  }

  render() {
    const board = now("board");
    if (!board || !this.shots || !this.handles) return;
    const places = starts(this.lengths);
    const share = (/** @type {number} */ latent) => this.share(latent);
    const view = { places, share, fps: this.fps, chosen: selected() };
    keyed(this.shots, board.shots, ({ id }) => id, (shot) => stripShot(this, shot.id), (element, shot, index) =>
      updateStripShot(element, shot, index, view));
    keyed(this.handles, board.shots, (_, index) => `${index}`, (_, index) => cutHandle(this, index), (element, _, index) =>
      placeHandle(element, index, this.lengths, view, this.held?.index === index));
    this.measure(places.at(-1) ?? 1);
  }

  /** The strip shows where films are heading that are being made. Most records of jobs change no picture. */
  follow() {
    const coming = estimates().map(({ url }) => url).join(" ");
    if (coming === this.coming) return;
    this.coming = coming;
    this.render();
  }

  /** Where on the strip a shot begins: film runs evenly in video frames. @param {number} latent */
  share(latent) {
    return `${(100 * firstFrame(latent)) / frameCount(this.span)}%`;
  }

  /** @param {number} total */
  measure(total) {
    const seconds = frameCount(total) / this.fps;
    say(/** @type {HTMLElement} */ (this.facts), `${length(seconds)} · ${counted(frameCount(total), "frame")} · ${counted(this.lengths.length, "shot")}`);
    const shown = frameCount(this.span) / this.fps;
    const step = ruler(shown, this.ruler?.clientWidth ?? 0, APART);
    const marks = Array.from({ length: Math.floor((shown * ROOM) / step) + 1 }, (_, index) => index * step);
    keyed(/** @type {HTMLElement} */ (this.ruler), marks, (mark) => `${mark}`, () => h("li"), (element, mark) => {
      element.style.left = `${(100 * mark) / shown}%`;
      say(element, `${mark} s`);
    });
  }

  /** The latent frame under a place of the screen. @param {number} x */
  latentAt(x) {
    const box = /** @type {HTMLElement} */ (this.handles).getBoundingClientRect();
    return latentOf(((x - box.left) / box.width) * frameCount(this.span));
  }

  /** A cut is in a hand: the strip keeps its scale until it is let go. @param {number} index @param {number} latent */
  hold(index, latent) {
    if (this.held && this.held.index !== index) void this.release(); // one hand has let go, another takes hold
    this.frozen ||= this.span;
    clearTimeout(this.timer);
    this.held = { index, latent };
    this.held.latent = starts(this.lengths)[index + 1] ?? latent;
    this.render();
  }

  /** A cut was moved by key: sent after the last of several. @param {number} index @param {number} latent */
  nudge(index, latent) {
    this.hold(index, latent);
    this.timer = setTimeout(() => void this.release(), SETTLE);
  }

  /** What is held goes to the server. */
  async release() {
    const { held, lengths } = this;
    if (!held) return;
    this.flying.push(held);
    this.drop();
    const last = held.index === lengths.length - 1;
    const shot = now("board")?.shots.at(-1)?.id;
    await flush();
    await attempt(change(last ? { op: "length", shot, latents: lengths.at(-1) } : { op: "cut", index: held.index, latent: held.latent }));
    this.flying = this.flying.filter((place) => place !== held);
    this.render();
  }

  /** Nothing is held any more. */
  drop() {
    clearTimeout(this.timer);
    this.held = null;
    this.frozen = 0;
    this.render();
  }

  /** The place among the shots that a shot dragged to `x` would take. @param {string} id @param {number} x */
  placeAt(id, x) {
    const others = [...(this.shots?.children ?? [])].filter((child) => /** @type {HTMLElement} */ (child).dataset["key"] !== id);
    return others.filter((child) => middle(child) < x).length;
  }

  /** Show where a dragged shot would go. @param {string} id @param {number | null} x */
  showPlace(id, x) {
    const mark = /** @type {HTMLElement} */ (this.mark);
    show(mark, x !== null);
    if (x === null) return;
    const at = (now("board")?.shots ?? []).findIndex((shot) => shot.id === id);
    const to = this.placeAt(id, x);
    mark.style.left = this.share(starts(this.lengths)[to > at ? to + 1 : to] ?? 0);
  }

  /** @param {string} id @param {number} x */
  async moveTo(id, x) {
    const at = (now("board")?.shots ?? []).findIndex((shot) => shot.id === id);
    const to = this.placeAt(id, x);
    if (to !== at) await edit({ op: "move", shot: id, to });
  }
}

/** @param {Element} element */
function middle(element) {
  const box = element.getBoundingClientRect();
  return box.left + box.width / 2;
}

customElements.define("holo-timeline", Timeline);
