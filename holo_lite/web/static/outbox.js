/* Texts and settings on their way to the server. The newest of each key is kept until the server has it: through
   a pause while somebody types, through a server that is away, and through a reload of the page. */

import { change, changeNow, Refusal } from "./api.js";
import { onSnapshot } from "./live.js";
import { alarm } from "./toasts.js";

const PAUSE = 300; // milliseconds without a key
const LOCKED = [401, 403]; // not about the text: it is kept until somebody may send it
const KEPT = "holo-lite unsent";

/** @type {Map<string, Operation>} */
const unsent = new Map(restored());
/** @type {Set<string>} */
const flying = new Set();
/** @type {Set<() => void>} */
const listeners = new Set();
let timer = 0;
/** @type {Promise<void>} */
let sending = Promise.resolve();

/** @returns {[string, Operation][]} */
function restored() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
  } catch {
    return [];
  }
}

function keep() {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify([...unsent]));
  } catch { /* a full or forbidden storage costs only what a reload would keep */ }
  listeners.forEach((hear) => hear());
}

/** Send an operation after a pause in typing; a newer one of the same key takes its place.
 * @param {string} key @param {Operation} operation @param {number} [pause] */
export function later(key, operation, pause = PAUSE) {
  unsent.set(key, operation);
  keep();
  clearTimeout(timer);
  timer = setTimeout(() => void flush(), pause);
}

/** Whether the server does not have the newest of a key yet. @param {string} key */
export function isUnsent(key) {
  return unsent.has(key) || flying.has(key);
}

/** The text that waits to be sent, of a key. @param {string} key @returns {string | null} */
export function waiting(key) {
  const text = unsent.get(key)?.["text"];
  return typeof text === "string" ? text : null;
}

/** How many are not sent. */
export function count() {
  return unsent.size;
}

/** Be told whenever something was sent or is waiting. @param {() => void} hear */
export function onOutbox(hear) {
  listeners.add(hear);
}

/** Send all that waits, in order; done when the server has answered. */
export function flush() {
  clearTimeout(timer);
  sending = sending.then(sendAll);
  return sending;
}

async function sendAll() {
  for (const [key, operation] of [...unsent]) {
    if (!(await send(key, operation))) return;
  }
}

/** @param {string} key @param {Operation} operation @returns whether to go on with the next */
async function send(key, operation) {
  unsent.delete(key);
  flying.add(key);
  try {
    await change(operation);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    const said = error.status >= 400 && error.status < 500 && !LOCKED.includes(error.status);
    if (said) alarm(error.message);
    else if (!unsent.has(key)) unsent.set(key, operation);
    return said;
  } finally {
    flying.delete(key);
    keep();
  }
  return true;
}

/** The page goes: what is typed goes with it, without waiting for an answer. */
function leave() {
  for (const operation of unsent.values()) void changeNow(operation, true).catch(() => undefined);
}

onSnapshot(() => void flush());
addEventListener("pagehide", leave);
