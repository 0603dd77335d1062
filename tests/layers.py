"""Which package may import which: the one table that the import test holds and that the drawing shows."""

# From the ground up. A package imports itself and the rows above it in this list, never its own row and never a
# lower one: one place for everything, and no exceptions. Modules at the root of holo_lite are named one by one.
LAYERS = (
    (
        "holo_lite.cancel",
        "holo_lite.errors",
        "holo_lite.progress",
        "holo_lite.version",
        "holo_lite.eightbit",
        "profiles",
    ),
    ("holo_lite.reading",),
    ("holo_lite.config", "holo_lite.story", "holo_lite.system"),
    ("holo_lite.schemes", "holo_lite.tiny"),
    ("holo_lite.weights",),
    ("holo_lite.film", "holo_lite.lora"),
    ("holo_lite.model",),
    ("holo_lite.kernels", "holo_lite.ranks", "holo_lite.sampling", "holo_lite.streaming"),
    ("holo_lite.settings", "holo_lite.text"),
    ("holo_lite.plan",),
    ("holo_lite.opening",),
    (
        "holo_lite.events",
        "holo_lite.runs",
        "holo_lite.preflight",
        "holo_lite.doctor",
        "holo_lite.fetch",
        "quantize",
    ),
    ("holo_lite.directing", "holo_lite.writing"),
    ("holo_lite.render",),
    ("holo_lite.jobs", "holo_lite.evaluation", "holo_lite.following"),
    ("holo_lite.eventjson",),
    ("holo_lite.worker",),
    ("holo_lite.farm",),
    ("holo_lite.views",),
    ("holo_lite.comfy", "holo_lite.inspection", "holo_lite.web"),
    ("holo_lite.commands",),
    ("cli",),
    ("holo_lite.__main__",),
)
