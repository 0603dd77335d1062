/* The newest record of each kind, and who wants to hear of the next. */

/** @type {Partial<Records>} */
const records = {};
/** @type {Map<string, Set<(record: any) => void>>} */
const listeners = new Map();

/** Hear a kind of record: the present one at once, and every later one. Returns what ends that.
 * @template {keyof Records} K
 * @param {K} name @param {(record: Records[K]) => void} hear */
export function on(name, hear) {
  const those = listeners.get(name) ?? new Set();
  listeners.set(name, those.add(hear));
  const record = records[name];
  if (record !== undefined) hear(/** @type {Records[K]} */ (record));
  return () => { those.delete(hear); };
}

/** @template {keyof Records} K @param {K} name @returns {Records[K] | undefined} */
export function now(name) {
  return records[name];
}

/** @template {keyof Records} K @param {K} name @param {Records[K]} record */
function put(name, record) {
  records[name] = record;
  for (const hear of listeners.get(name) ?? []) hear(record);
}

/** A board, if it is not older than the one that is here: answers and the stream come in any order.
 * @param {Board} board */
export function putBoard(board) {
  if ((records.board?.rev ?? -1) <= board.rev) put("board", board);
}

/** A job, among the others. @param {Job} job */
export function putJob(job) {
  const jobs = records.jobs ?? [];
  const known = jobs.some(({ id }) => id === job.id);
  put("jobs", known ? jobs.map((old) => (old.id === job.id ? job : old)) : [...jobs, job]);
}

/** @param {Link} link */
export function putLink(link) {
  if (records.link !== link) put("link", link);
}

/** Everything at once: what was here is of another time. @param {Snapshot} all */
export function putAll(all) {
  records.board = undefined;
  put("setup", all.setup);
  put("board", all.board);
  put("look", all.look);
  put("plan", all.plan);
  put("queue", all.queue);
  put("jobs", all.jobs);
  put("gallery", all.gallery);
  put("writing", all.writing);
}

/** A record as the stream tells it. @param {string} name @param {any} record */
export function putTold(name, record) {
  if (name === "board") putBoard(record);
  else if (name === "job") putJob(record);
  else if (name === "job_gone") put("jobs", (records.jobs ?? []).filter(({ id }) => id !== record.id));
  else if (name === "look" || name === "plan") putSeen(name, record);
  else if (name === "queue" || name === "gallery" || name === "setup" || name === "writing") put(name, record);
}

/** What was seen of a board; never of an older one than is shown. @param {"look" | "plan"} name @param {any} record */
function putSeen(name, record) {
  if ((records[name]?.rev ?? -1) <= record.rev) put(name, record);
}
