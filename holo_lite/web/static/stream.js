/* A worker that all tabs share: one stream of events from the server, told on to each of them.
   A browser opens six connections to a server, and with a stream a tab the seventh tab would never load. */

const AGAIN = 1000; // milliseconds until a stream that was refused is asked for again
const NAMES = ["board", "look", "plan", "queue", "job", "job_gone", "gallery", "setup", "writing"];

/** One stream, opened again for as long as somebody wants it. */
export class Stream {
  /** @param {(told: Told) => void} tell */
  constructor(tell) {
    this.tell = tell;
    /** @type {Snapshot | null} */
    this.snapshot = null;
    /** @type {Link} */
    this.link = "opening";
    this.open();
  }

  open() {
    const source = new EventSource("/api/events");
    source.addEventListener("snapshot", (event) => this.whole(JSON.parse(event.data)));
    for (const name of NAMES) source.addEventListener(name, (event) => this.one(name, JSON.parse(event.data)));
    source.addEventListener("error", () => void this.lost(source));
  }

  /** @param {Snapshot} snapshot */
  whole(snapshot) {
    this.snapshot = snapshot;
    this.linked("up");
    this.tell({ kind: "snapshot", snapshot });
  }

  /** @param {string} name @param {any} record */
  one(name, record) {
    if (this.snapshot) this.snapshot = kept(this.snapshot, name, record);
    this.tell({ kind: "record", name, record });
  }

  /** The browser tries again by itself, but not after an answer that is not 200. @param {EventSource} source */
  async lost(source) {
    if (source.readyState !== EventSource.CLOSED) return this.linked("down");
    this.linked((await refused()) ? "refused" : "down");
    setTimeout(() => this.open(), AGAIN);
  }

  /** @param {Link} link */
  linked(link) {
    this.link = link;
    this.tell({ kind: "link", link });
  }
}

/** Whether the server is there and does not let us in. */
async function refused() {
  try {
    const answer = await fetch("/api/files");
    return answer.status === 401 || answer.status === 403;
  } catch {
    return false;
  }
}

/** The snapshot that a tab which comes later is given. @param {Snapshot} old @param {string} name @param {any} record
 * @returns {Snapshot} */
function kept(old, name, record) {
  if (name === "job_gone") return { ...old, jobs: old.jobs.filter(({ id }) => id !== record.id) };
  if (name !== "job") return { ...old, [name]: record };
  const known = old.jobs.some(({ id }) => id === record.id);
  return { ...old, jobs: known ? old.jobs.map((job) => (job.id === record.id ? record : job)) : [...old.jobs, record] };
}

/** Serve every tab that connects. @param {{onconnect: ((event: MessageEvent) => void) | null}} scope */
function share(scope) {
  /** @type {Set<MessagePort>} */
  const ports = new Set();
  const stream = new Stream((told) => ports.forEach((port) => port.postMessage(told)));
  scope.onconnect = (event) => {
    const port = /** @type {MessagePort} */ (event.ports[0]);
    ports.add(port);
    port.onmessage = () => ports.delete(port); // all that a tab says is that it goes
    port.postMessage({ kind: "link", link: stream.link });
    if (stream.snapshot) port.postMessage({ kind: "snapshot", snapshot: stream.snapshot });
  };
}

if ("onconnect" in globalThis) share(/** @type {any} */ (globalThis));
