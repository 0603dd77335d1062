/* The records that the server tells, and what the page asks of it. All are whole; the newest of a kind counts. */

type Id = string;

interface Picture { id: Id; name: string; url: string | null }
interface Shot { id: Id; caption: string; latents: number; picture: Picture | null }
interface Reference { id: Id; caption: string; picture: Picture | null }
interface Lora { id: Id; expert: "high" | "low"; strength: number }

interface Settings {
  width: number | null; height: number | null; fps: number | null; seed: number | null; steps: number | null;
  cfg: number | null; negative: string | null; cache: string | null; cfg_until: number | null; kappa: number | null;
  model: Id | null; profile: string | null; kernel: string | null; compute: string | null; fuse: string | null;
  lora: Lora[] | null;
}

interface Board {
  rev: number; title: string; scene: string; shots: Shot[]; references: Reference[]; settings: Settings;
  file: { id: Id; name: string } | null; changed: boolean; undo: boolean; redo: boolean;
}

interface LookShot { id: Id; first: number; end: number; seconds: number; tokens: number | null; findings: string[] }
interface Finding { level: "note" | "warning"; text: string; shot: Id | null }
interface Look {
  rev: number; frames: number; seconds: number; fps: number; width: number; height: number; shots: LookShot[];
  tokens: { total: number; shared: number; limit: number } | null; findings: Finding[]; error: string | null;
}

interface Advice { text: string; op: Operation | null }
interface Plan {
  rev: number; state: "working" | "fits" | "does not fit" | "unknown"; text: string | null; seconds: number | null;
  memory: { peak: number; budget: number } | null; main_memory: number | null; lines: string[]; why: string | null;
  advice: Advice[];
}

interface Queue {
  order: Id[]; running: Id | null; left: number | null; disk: { free: number; needed: number | null } | null;
  held: boolean;
}

type JobKind = "full" | "draft" | "seeds" | "retake" | "extend";
type JobState = "waiting" | "running" | "stopping" | "paused" | "done" | "failed" | "cancelled";
interface Job {
  id: Id; title: string; kind: JobKind; state: JobState; why: string | null;
  phase: "load" | "encode" | "text" | "denoise" | "decode" | null; done: number; total: number; unit: string;
  share: number | null; left: number | null; elapsed: number | null; preview: string | null;
  memory: { used: number; planned: number } | null; waited: number | null; notes: string[]; video: Id | null;
  sheet: string | null; shots: { caption: string; url: string }[]; seeds: { seed: number; url: string | null }[]; width: number; height: number;
  frames: number; fps: number; made: { video: string } | null; file?: string;
}

interface VideoShot { number: number; first: number; end: number; caption: string; still?: string }
interface Video {
  id: Id; name: string; frames: number; fps: number; seconds: number; width: number; height: number; url: string; poster?: string;
  sheet: string | null; when: number; bytes: number; ours: boolean; shots: VideoShot[]; facts: [string, string][];
  latents: boolean;
}

interface Defaults {
  width: number; height: number; fps: number; steps: number; cfg: number; latents: number; negative: string;
}
interface Model { id: Id; name: string; built_in: boolean; summary: string; defaults?: Defaults }
interface Check { level: "ok" | "note" | "trouble"; text: string; help: string | null }
interface Fetching {
  what: string; licence: string; bytes: number | null; state: string; done: number | null; total: number | null;
  left: number | null; why: string | null;
}
interface Setup {
  version: string; folder: string; models: Model[]; model_help: string | null;
  profiles: { name: string; text: string }[]; kernels: string[]; adapters: { id: Id; name: string }[];
  doctor: Check[] | null; writing: { endpoint: string } | null; fetch: Fetching | null;
  defaults: Defaults;
  limits: { tokens: number };
}

interface WritingLine { word: "found" | "remains" | "note"; number: number; text: string }
interface Writing { number: number; most: number; characters: number; over: boolean; lines: WritingLine[] }

type Operation = { op: string; [name: string]: unknown };
type Link = "opening" | "up" | "down" | "refused";

/** What the page keeps of each kind. */
interface Records {
  board: Board; look: Look; plan: Plan; queue: Queue; jobs: Job[]; gallery: Video[]; setup: Setup; link: Link;
  writing: Writing | null;
}

interface Snapshot {
  boot: string; board: Board; look: Look; plan: Plan; queue: Queue; jobs: Job[]; gallery: Video[]; setup: Setup;
  writing: Writing | null;
}

/** What the one stream of all tabs tells each of them. */
type Told =
  | { kind: "link"; link: Link }
  | { kind: "snapshot"; snapshot: Snapshot }
  | { kind: "record"; name: string; record: unknown };
