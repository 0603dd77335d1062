"""A render process that is told what to tell: for tests of the queue and the page's server."""

SETTINGS = {"steps": 4, "cfg": 1.0, "cfg_until": 1.0}
WORK = {"text": 1.0, "denoise": 8.0, "decode": 2.0}


class FakeRenderer:
    """Renders nothing. `finish` and its like tell as the real process does."""

    def __init__(self, hear):
        self.hear, self.is_alive = hear, False
        self.made, self.cancelled, self.orders = [], [], {}
        self.killed = False

    def start(self):
        self.is_alive = True
        self.hear({"kind": "ready"})

    def make(self, name, order):
        self.made.append(name)
        self.orders[name] = order

    def cancel(self, name):
        self.cancelled.append(name)

    def stop(self):
        for name in self.cancelled or self.made[-1:]:
            self.hear({"kind": "ended", "order": name, "state": "cancelled", "why": "", "error": ""})
        self.is_alive = False
        self.hear({"kind": "gone", "code": 0, "said": ""})

    def kill(self):
        self.killed, self.is_alive = True, False
        self.hear({"kind": "gone", "code": -9, "said": ""})

    def tell(self, name, kind, **fields):
        self.hear({"version": 1, "kind": kind, "order": name, **fields})

    def begin(self, name):
        settings = {**SETTINGS, **{k: v for k, v in self.orders[name]["options"].items() if v is not None}}
        self.tell(name, "resolved", settings=settings, notes=["cut 6 → 5"], work=WORK)
        self.tell(name, "phase", phase="denoise", total=4, done=0, unit="steps", subject="")

    def step(self, name, done):
        times = {"seconds": 2.0, "waited": 0.5, "memory": 100, "planned": 200}
        self.tell(name, "step", done=done, total=4, expert="high_noise", skipped=False, **times)

    def finish(self, name, state="done", why=""):
        self.tell(name, "ended", state=state, why=why, error="")


class Clock:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now
