/* A text field that tells the server what is typed, and shows what others type; what somebody types here is never
   written over by a record that comes in. */

import { later, flush, isUnsent, onOutbox, waiting } from "./outbox.js";

/** @typedef {HTMLTextAreaElement | HTMLInputElement} Element what is typed into */

export class Field {
  /** @param {Element} element @param {string} key @param {(text: string) => Operation} operation */
  constructor(element, key, operation) {
    this.element = element;
    this.key = key;
    this.operation = operation;
    this.known = ""; // the server's text, as last told
    this.composing = false; // an input method is at work
    element.value = waiting(key) ?? "";
    element.addEventListener("compositionstart", () => { this.composing = true; });
    element.addEventListener("compositionend", () => { this.composing = false; this.typed(); });
    element.addEventListener("input", () => { if (!this.composing) this.typed(); });
    element.addEventListener("blur", () => { if (isUnsent(key)) void flush(); });
    onOutbox(() => this.settle());
  }

  typed() {
    later(this.key, this.operation(this.element.value));
  }

  /** The server's text. @param {string} text */
  told(text) {
    this.known = text;
    this.settle();
  }

  /** Show the server's text, unless what is here has still to be sent. */
  settle() {
    const { element } = this;
    if (this.composing || isUnsent(this.key) || element.value === this.known) return;
    const { selectionStart, selectionEnd } = element;
    element.value = this.known;
    if (document.activeElement === element) element.setSelectionRange(selectionStart, selectionEnd);
  }
}

/** Put a text where the cursor is, as if it were typed. @param {Element} element @param {string} text */
export function insert(element, text) {
  const [from, to] = [element.selectionStart ?? element.value.length, element.selectionEnd ?? element.value.length];
  const before = element.value.slice(0, from);
  const after = element.value.slice(to);
  const whole = `${before && !/\s$/.test(before) ? " " : ""}${text}${/^[\s.,;:!?]/.test(after) ? "" : " "}`;
  element.setRangeText(whole, from, to, "end");
  element.dispatchEvent(new Event("input", { bubbles: true }));
  element.focus();
}
