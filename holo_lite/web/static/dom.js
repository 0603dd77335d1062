/* Making elements, and changing them in place. Text from records is only ever text. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @typedef {{[name: string]: unknown}} Props attributes; `text`, `on` (listeners by event) and `class` are read here
 */

/**
 * An element with attributes, listeners and children.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Props} [props]
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "on") listen(element, /** @type {{[event: string]: (event: any) => void}} */ (value));
    else if (name === "text") element.textContent = String(value);
    else attribute(element, name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** @param {Element} element @param {{[event: string]: (event: any) => void}} listeners */
function listen(element, listeners) {
  for (const [event, hear] of Object.entries(listeners)) element.addEventListener(event, hear);
}

/** Set an attribute; true is an empty one, and false, null or undefined takes it away.
 * @param {Element} element @param {string} name @param {unknown} value */
export function attribute(element, name, value) {
  if (value === false || value === null || value === undefined) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/** Set an element's text, if it is another: a screen reader is not told the same again.
 * @param {Element} element @param {string} text */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set a text in which what is to be typed stands between backticks. @param {Element} element @param {string} text */
export function sayCommands(element, text) {
  if (element.textContent === text.replaceAll("`", "")) return;
  element.replaceChildren(...text.split("`").map((part, index) => (index % 2 ? h("code", { text: part }) : part)));
}

/** Show a new picture when it is here, so that the old one does not blink. @param {HTMLImageElement} image @param {string} url */
export function swap(image, url) {
  if (image.dataset["wanted"] === url) return;
  image.dataset["wanted"] = url;
  const next = new Image();
  next.onload = () => { if (image.dataset["wanted"] === url) image.src = url; };
  next.src = url;
}

/** @param {HTMLElement} element @param {boolean} shown */
export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

/** Let a button do nothing for a while. It keeps the focus, which one that is disabled would lose.
 * @param {Element} button @param {boolean} is */
export function busy(button, is) {
  attribute(button, "aria-disabled", is ? "true" : null);
}

/** @param {Element} button */
export function isBusy(button) {
  return button.hasAttribute("aria-disabled");
}

/** A drawn sign out of icons.svg; it is for the eye alone.
 * @param {string} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/static/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** A button with a sign and, beside it or for screen readers alone, its name.
 * @param {string} sign @param {string} name @param {(event: MouseEvent) => void} press @param {Props} [props] */
export function button(sign, name, press, props = {}) {
  return h("button", { type: "button", ...props, on: { click: press } }, icon(sign), h("span", { text: name }));
}

/** @param {string} sign @param {string} name @param {(event: MouseEvent) => void} press @param {Props} [props] */
export function small(sign, name, press, props = {}) {
  const made = h("button", { type: "button", class: "small", title: name, "aria-label": name, ...props, on: { click: press } });
  made.append(icon(sign));
  return made;
}

/**
 * Keep a parent's children as one element an item, in order, each made once and then changed in place.
 * @template T
 * @template {HTMLElement} E
 * @param {HTMLElement} parent
 * @param {readonly T[]} items
 * @param {(item: T, index: number) => string} key
 * @param {(item: T, index: number) => E} make
 * @param {(element: E, item: T, index: number) => void} update
 */
export function keyed(parent, items, key, make, update) {
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  const old = new Map([...parent.children].map((child) => [/** @type {E} */ (child).dataset["key"] ?? "", /** @type {E} */ (child)]));
  const keys = items.map(key);
  for (const [name, child] of old) if (!keys.includes(name)) child.remove();
  items.forEach((item, index) => {
    const name = keys[index] ?? "";
    const element = old.get(name) ?? make(item, index);
    element.dataset["key"] = name;
    const there = parent.children[index] ?? null;
    if (there !== element) parent.insertBefore(element, there);
    update(element, item, index);
  });
  if (focused !== document.activeElement && focused && parent.contains(focused)) focused.focus({ preventScroll: true });
}

/** Lines of text as a list's items, changed in place.
 * @param {HTMLElement} list @param {readonly string[]} lines */
export function lines(list, lines) {
  keyed(list, lines, (_, index) => `${index}`, () => h("li"), (item, line) => say(item, line));
  show(list, lines.length > 0);
}

/** Whether keys typed now are somebody's text. @param {EventTarget | null} target */
export function isText(target) {
  if (target instanceof HTMLTextAreaElement) return true;
  return target instanceof HTMLInputElement && !["checkbox", "radio", "range", "button", "file"].includes(target.type);
}
