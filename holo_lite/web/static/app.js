/* Everything together. */

import "./timeline.js";
import "./look.js";
import "./scene.js";
import "./captions.js";
import "./references.js";
import "./plan.js";
import "./queue.js";
import "./settings.js";
import { files } from "./bar.js";
import { keepFocus } from "./focus.js";
import { followKeys } from "./keys.js";
import { listen } from "./live.js";
import { watchJobs } from "./notify.js";
import { guardDrops } from "./pictures.js";
import { on } from "./store.js";
import { followViews } from "./views.js";

if (location.search) history.replaceState(null, "", location.pathname + location.hash); // the token stays out of sight
followViews();
followKeys({ save: () => void files("save") });
guardDrops();
watchJobs();
keepFocus();
on("setup", ({ model_help, fetch }) => { if (model_help !== null || fetch !== null) void import("./setup.js"); }); // most have a model
on("board", () => document.body.classList.add("ready"));
on("link", (link) => document.body.classList.toggle("away", link === "down" || link === "refused"));
void listen();
