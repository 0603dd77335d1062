/* How the film is made. What many change is at hand; the rest is folded away. An empty field is the model's default. */

import { defaults } from "./defaults.js";
import { attribute, h, keyed, say } from "./dom.js";
import { edit } from "./edits.js";
import { flush, isUnsent, later } from "./outbox.js";
import { now, on } from "./store.js";
import { alarm } from "./toasts.js";

/** @typedef {{name: keyof Settings, label: string, hint?: string, title?: string, step?: string, min?: string, max?: string}} Wanted */

/** @type {Wanted[]} */
const RARE = [
  { name: "cfg_until", label: "Guidance until", hint: "Share of the steps that is guided: 1 is all", step: "0.05", min: "0", max: "1" },
  { name: "kappa", label: "Kappa", hint: "How noisy the model sees what is kept: 0 to 1", step: "0.05", min: "0", max: "1" },
];
const SCALES = [1, 0.5, 0.75, 1.5]; // of the size that the model was trained with
const SIDE = 16; // pixels; a size is whole ones of these
const STILL = 800; // milliseconds after a key in a number

class SettingsPanel extends HTMLElement {
  connectedCallback() {
    /** @type {(() => void)[]} */
    this.updates = [];
    this.resizing = false;
    const cache = this.text("cache", "Step cache", "Skip steps that change little: 0.1, or high=0.1,low=0.05");
    this.append(h("section", { class: "panel settings", "aria-label": "Settings" }, h("h2", { class: "unseen", text: "Settings" }),
      h("div", { class: "common" },
        this.choice("model", "Model", () => (now("setup")?.models ?? []).map(({ id, name }) => [id, name])),
        this.size(),
        this.number({ name: "fps", label: "Frames a second", step: "any", min: "0.1", max: "240" }),
        this.number({ name: "seed", label: "Seed", title: "The same seed and settings give the same film", min: "0", step: "1" }),
        this.number({ name: "steps", label: "Steps", min: "1", step: "1" }),
        this.number({ name: "cfg", label: "Guidance", title: "How strongly to follow the words; 1 is off", step: "0.1", min: "1", max: "100" })),
      h("details", {}, h("summary", { text: "More settings" }), h("div", { class: "rare" },
        this.number({ name: "width", label: "Width", step: "16", min: "16", max: "4096" }),
        this.number({ name: "height", label: "Height", step: "16", min: "16", max: "4096" }),
        this.choice("profile", "Memory profile", () => (now("setup")?.profiles ?? []).map(({ name, text }) => [name, text || name]), "wide"),
        this.text("negative", "Not to be seen", "", true), cache, ...RARE.map((wanted) => this.number(wanted)),
        this.choice("kernel", "Attention kernel", () => (now("setup")?.kernels ?? []).map((name) => [name, name])),
        this.choice("compute", "Products in", () => ["auto", "bf16", "fp8", "int8"].map((name) => [name, name])),
        this.choice("fuse", "Fused operations", () => ["auto", "on", "off"].map((name) => [name, name]))), this.adapters())));
    on("setup", () => this.render());
    on("board", () => this.render());
  }

  render() {
    this.updates?.forEach((update) => update());
  }

  /** A labelled control that shows a setting. @param {string} label @param {HTMLElement} control @param {string} hint @param {string} size
   * @param {HTMLElement | null} empty what is read of a control besides */
  row(label, control, hint = "", size = "", empty = null) {
    const id = `setting-${label.toLowerCase().replaceAll(" ", "-")}`;
    control.id = id;
    attribute(control, "aria-describedby", [hint ? `${id}-hint` : "", empty ? `${id}-empty` : ""].filter(Boolean).join(" ") || null);
    if (empty) empty.id = `${id}-empty`;
    return h("div", { class: `setting ${size}` }, h("label", { for: id, text: label }), control, hint ? h("small", { id: `${id}-hint`, text: hint }) : null, empty);
  }

  /** @param {Wanted} wanted */
  number({ name, label, hint = "", title = "", ...limits }) {
    const input = h("input", { type: "number", inputmode: "decimal", title, ...limits });
    const empty = h("span", { class: "unseen" }); // an empty number is read as a nought
    this.keep(name, input, () => (input.value === "" ? null : input.valueAsNumber));
    const tell = () => say(empty, [title, input.value === "" ? `Empty, so ${input.placeholder}` : ""].filter(Boolean).join(". "));
    input.addEventListener("input", tell);
    this.updates?.push(tell);
    return this.row(label, input, hint, "", empty);
  }

  /** @param {keyof Settings} name @param {string} label @param {string} hint @param {boolean} [tall] */
  text(name, label, hint, tall = false) {
    const input = tall ? h("textarea", { rows: "3" }) : h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
    this.keep(name, input, () => input.value.trim() || null);
    return this.row(label, input, hint, "wide");
  }

  /** Tell the server what is typed, and show what it says unless that is on its way.
   * @param {keyof Settings} name @param {HTMLInputElement | HTMLTextAreaElement} input @param {() => unknown} value */
  keep(name, input, value) {
    const key = `option ${name}`;
    input.addEventListener("input", () => { if (input.validity.valid) later(key, { op: "option", name, value: value() }, STILL); });
    input.addEventListener("change", () => void flush());
    input.addEventListener("blur", () => {
      if (!input.validity.valid) alarm(`${input.labels?.[0]?.textContent}: ${input.validationMessage}`); // it is not taken
      this.render();
    });
    this.updates?.push(() => {
      const given = /** @type {{[name: string]: unknown}} */ (defaults() ?? {})[name];
      attribute(input, "placeholder", given === undefined ? "default" : String(given));
      const told = now("board")?.settings[name];
      const wanted = told === null || told === undefined ? "" : String(told);
      if (!isUnsent(key) && input.value !== wanted && document.activeElement !== input) input.value = wanted;
    });
  }

  /** @param {keyof Settings} name @param {string} label @param {() => string[][]} choices @param {string} size */
  choice(name, label, choices, size = "") {
    const select = h("select", { on: { change: () => void edit({ op: "option", name, value: select.value || null }) } });
    this.updates?.push(() => {
      const told = /** @type {string | null} */ (now("board")?.settings[name]) ?? "";
      const all = name === "model" ? choices() : [["", "automatic"], ...choices().filter(([value]) => value !== "auto")];
      fillChoices(select, all, told || (all[0]?.[0] ?? ""));
    });
    return this.row(label, select, "", size);
  }

  size() {
    const select = h("select");
    select.addEventListener("change", () => void this.resize(select.value));
    this.updates?.push(() => {
      if (this.resizing) return; // its width is told before its height
      const { width, height } = this.dimensions;
      const all = [...new Set([...sizes(), `${width}x${height}`])];
      fillChoices(select, all.map((size) => [size, size.replace("x", " × ")]), `${width}x${height}`);
    });
    return this.row("Size", select);
  }

  /** @returns {{width: number, height: number}} */
  get dimensions() {
    const [settings, usual] = [now("board")?.settings, defaults()];
    return { width: settings?.width ?? usual?.width ?? 832, height: settings?.height ?? usual?.height ?? 480 };
  }

  /** @param {string} size */
  async resize(size) {
    const [width, height] = size.split("x").map(Number);
    this.resizing = true;
    if (await edit({ op: "option", name: "width", value: width })) await edit({ op: "option", name: "height", value: height });
    this.resizing = false;
    this.render();
  }

  adapters() {
    const list = h("div", { class: "adapters" });
    const box = h("fieldset", { class: "adapter-box" }, h("legend", { text: "Adapters" }), list);
    this.updates?.push(() => {
      const all = now("setup")?.adapters ?? [];
      box.hidden = all.length === 0;
      keyed(list, all, ({ id }) => id, ({ id }) => adapter(id), (element, { id, name }) => updateAdapter(element, id, name));
    });
    return box;
  }
}

/** Sizes to choose from: the usual one, smaller and larger ones, and all of them upright. */
function sizes() {
  const { width = 832, height = 480 } = defaults() ?? {};
  const whole = (/** @type {number} */ side, /** @type {number} */ scale) => SIDE * Math.max(2, Math.round((side * scale) / SIDE));
  const flat = SCALES.map((scale) => [whole(width, scale), whole(height, scale)]);
  return [...flat.map(([w, ht]) => `${w}x${ht}`), ...flat.map(([w, ht]) => `${ht}x${w}`)];
}

/** @param {HTMLSelectElement} select @param {(string | undefined)[][]} all @param {string} told */
function fillChoices(select, all, told) {
  keyed(select, all, ([value]) => `${value}`, ([value]) => h("option", { value }), (option, [, text]) => say(option, `${text}`));
  if (document.activeElement !== select || select.value !== told) select.value = told;
}

/** @param {string} id */
function adapter(id) {
  const expert = h("select", { "aria-label": "Which expert" }, h("option", { value: "", text: "off" }), h("option", { value: "high", text: "high noise" }),
    h("option", { value: "low", text: "low noise" }));
  const strength = h("input", { type: "number", step: "0.05", min: "-4", max: "4", "aria-label": "Strength" });
  const tell = () => {
    const others = (now("board")?.settings.lora ?? []).filter((lora) => lora.id !== id);
    const mine = expert.value ? [{ id, expert: expert.value, strength: strength.value === "" ? 1 : strength.valueAsNumber }] : [];
    void edit({ op: "option", name: "lora", value: [...others, ...mine] });
  };
  expert.addEventListener("change", tell);
  strength.addEventListener("change", tell);
  return h("div", { class: "adapter", role: "group" }, h("span"), expert, strength);
}

/** @param {HTMLElement} element @param {string} id @param {string} name */
function updateAdapter(element, id, name) {
  const mine = (now("board")?.settings.lora ?? []).find((lora) => lora.id === id);
  attribute(element, "aria-label", name);
  say(/** @type {HTMLElement} */ (element.children[0]), name);
  const [expert, strength] = [/** @type {HTMLSelectElement} */ (element.children[1]), /** @type {HTMLInputElement} */ (element.children[2])];
  if (document.activeElement !== expert) expert.value = mine?.expert ?? "";
  if (document.activeElement !== strength) strength.value = String(mine?.strength ?? 1);
  strength.disabled = !mine;
}

customElements.define("holo-settings", SettingsPanel);
