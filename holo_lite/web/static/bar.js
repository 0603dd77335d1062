/* The head of the page: the film's title, its file, undo, which page is shown, and whether the server is there. */

import { Reader } from "./aloud.js";
import { attribute, button, h, icon, say, show, small } from "./dom.js";
import { turn } from "./edits.js";
import { Field } from "./field.js";
import { count, onOutbox } from "./outbox.js";
import { now, on } from "./store.js";

/** What is done with files comes when it is first wanted. @param {"askName" | "newBoard" | "openFile" | "save" | "writeFromIdea"} what */
export async function files(what) {
  await (await import("./files.js"))[what]();
}

const LINKS = {
  opening: "connecting …", up: "connected", down: "the server is away", refused: "this address is not let in",
};

class Bar extends HTMLElement {
  connectedCallback() {
    const title = h("input", { type: "text", class: "title", placeholder: "Untitled film", "aria-label": "Title of the film", spellcheck: "false", autocomplete: "off" });
    const field = new Field(title, "title", (text) => ({ op: "title", text }));
    const file = h("button", { type: "button", class: "file", title: "Save under another name", on: { click: () => void files("askName") } });
    const undo = small("undo", "Undo (Ctrl+Z)", () => void turn("undo"));
    const redo = small("redo", "Redo (Ctrl+Y)", () => void turn("redo"));
    const idea = button("idea", "From an idea", () => void files("writeFromIdea"), { class: "quiet idea", title: "Write a storyboard from an idea", hidden: true });
    this.reader = new Reader();
    this.reader.said = "up"; // who hears the page knows that it is there
    this.link = h("p", { class: "link" }, h("i"), h("span"));
    this.append(
      h("h1", {}, h("a", { class: "brand", href: "#board", "aria-label": "holo-lite studio" }, icon("mark"), h("span", { text: "holo-lite " }), h("b", { text: "studio" }))),
      h("div", { class: "name" }, title, file),
      h("div", { class: "tools files", role: "group", "aria-label": "Storyboard" }, idea, small("new", "New storyboard", () => void files("newBoard")), small("open", "Open a storyboard", () => void files("openFile")),
        small("save", "Save (Ctrl+S)", () => void files("save")), h("a", { class: "small", href: "/api/board.toml", download: "", title: "Download the storyboard", "aria-label": "Download the storyboard" }, icon("download"))),
      h("div", { class: "tools", role: "group", "aria-label": "Undo and redo" }, undo, redo),
      h("nav", { class: "views", "aria-label": "Pages" }, h("a", { href: "#board", text: "Storyboard" }), h("a", { href: "#films" }, h("span", { text: "Films" }), h("b", { class: "count" }))),
      this.link, small("help", "Keys", () => void import("./keyshelp.js").then(({ keysHelp }) => keysHelp())));
    on("board", (board) => {
      field.told(board.title);
      const state = board.file ? `${board.file.name}${board.changed ? " · changed" : ""}` : board.changed ? "not saved" : "";
      say(file, state);
      attribute(file, "aria-label", `${state}: save under another name`);
      show(file, state !== "");
      attribute(undo, "disabled", !board.undo);
      attribute(redo, "disabled", !board.redo);
      this.entitle();
    });
    on("jobs", () => this.entitle());
    on("setup", ({ writing }) => show(idea, writing !== null));
    on("gallery", (videos) => say(/** @type {HTMLElement} */ (this.querySelector(".count")), videos.length > 0 ? `${videos.length}` : ""));
    on("link", () => this.linked());
    onOutbox(() => this.linked());
  }

  /** The name of the tab, in which one sees from elsewhere how far a film is. */
  entitle() {
    const running = now("jobs")?.find(({ state }) => state === "running");
    const far = running?.share == null ? "" : `${Math.floor(100 * running.share)} % · `;
    document.title = `${far}${now("board")?.title || "Untitled film"} · holo-lite studio`;
  }

  linked() {
    const link = now("link") ?? "opening";
    const unsent = link === "down" && count() > 0 ? "; what you typed is kept" : "";
    /** @type {HTMLElement} */ (this.link).dataset["link"] = link;
    say(/** @type {HTMLElement} */ (this.link?.lastElementChild), `${LINKS[link]}${unsent}`);
    if (link !== "opening") this.reader?.once(link, `${LINKS[link]}${unsent}`);
  }
}

customElements.define("holo-bar", Bar);
