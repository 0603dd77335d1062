/* Asking the server. Every request that changes something is a small JSON operation. */

import { putBoard, putJob } from "./store.js";

/** The server said no, in one line for a person. `status` 0: it did not answer. */
export class Refusal extends Error {
  /** @param {number} status @param {string} message @param {boolean} exists */
  constructor(status, message, exists = false) {
    super(message);
    this.status = status;
    this.exists = exists;
  }
}

const AWAY = "The server does not answer. Is holo-lite studio still running?";

/** @param {string} path @param {RequestInit} request @returns {Promise<any>} */
async function ask(path, request) {
  const answer = await fetch(path, request).catch(() => null);
  if (!answer) throw new Refusal(0, AWAY);
  const body = await answer.json().catch(() => null);
  if (answer.ok) return body;
  throw new Refusal(answer.status, body?.error ?? `The server answered ${answer.status}.`, body?.exists === true);
}

/** @param {string} path */
export function get(path) {
  return ask(path, {});
}

/** @param {string} path @param {object} [body] @param {boolean} [keepalive] the page may be gone before the answer */
export function post(path, body = {}, keepalive = false) {
  const headers = { "content-type": "application/json", "x-holo": "1" };
  return ask(path, { method: "POST", headers, body: JSON.stringify(body), keepalive });
}

/** @type {Promise<unknown>} */
let last = Promise.resolve();

/** Change the storyboard, after all changes that were asked for before: each means what the one before left.
 * @param {Operation} operation @returns {Promise<Board>} */
export function change(operation) {
  const mine = last.then(() => changeNow(operation));
  last = mine.catch(() => undefined);
  return mine;
}

/** Change the storyboard at once. @param {Operation} operation @returns {Promise<Board>} */
export async function changeNow(operation, keepalive = false) {
  const board = await post("/api/board", operation, keepalive);
  putBoard(board);
  return board;
}

/** Another storyboard in the place of this one. @param {"open" | "save"} how @param {object} body
 * @returns {Promise<Board>} */
export async function another(how, body) {
  const board = await post(`/api/${how}`, body);
  putBoard(board);
  return board;
}

/** Put a job into the queue. @param {object} wanted @returns {Promise<Job>} */
export async function start(wanted) {
  const job = await post("/api/jobs", wanted);
  putJob(job);
  return job;
}

/** Bring a picture to the server. @param {File} file @returns {Promise<Picture>} */
export function upload(file) {
  const headers = { "content-type": file.type || "image/png", "x-holo": "1" };
  return ask(`/api/uploads?name=${encodeURIComponent(file.name)}`, { method: "POST", headers, body: file });
}
