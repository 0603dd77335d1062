/* What the server tells, brought into the store: by the worker that all tabs share, or by a stream of our own. */

import { putAll, putLink, putTold } from "./store.js";

/** @type {Set<() => void>} */
const waiting = new Set();

/** Be told whenever a whole snapshot has come: at first, and after each time the server was away.
 * @param {() => void} hear */
export function onSnapshot(hear) {
  waiting.add(hear);
}

/** @param {Told} told */
function take(told) {
  if (told.kind === "link") return putLink(told.link);
  if (told.kind === "record") return putTold(told.name, told.record);
  putAll(told.snapshot);
  putLink("up");
  waiting.forEach((hear) => hear());
}

/** Begin to listen. */
export async function listen() {
  if (!("SharedWorker" in globalThis)) {
    const { Stream } = await import("./stream.js");
    new Stream(take);
    return;
  }
  connect();
  addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
}

function connect() {
  const worker = new SharedWorker("/static/stream.js", { type: "module", name: "holo-lite" });
  worker.port.onmessage = (event) => take(event.data);
  addEventListener("pagehide", () => worker.port.postMessage("gone"), { once: true });
}
