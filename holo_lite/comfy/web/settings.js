/* The pack's only setting on ComfyUI's page: which Python renders. ComfyUI keeps it, comfy/page_settings.py reads it. */

import { app } from "../../scripts/app.js";

app.registerExtension({
  name: "holo-lite.settings",
  settings: [
    {
      id: "HoloCine.Python",
      name: "Python that has holo-lite (whole path)",
      tooltip: "Empty: the .venv in the pack's folder, or ComfyUI's own. HOLO_LITE_PYTHON, where it is set, comes before this.",
      type: "text",
      defaultValue: "",
    },
  ],
});
