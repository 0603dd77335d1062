"""A real ComfyUI with this pack in it. COMFYUI names its checkout, COMFYUI_PYTHON its Python."""

from __future__ import annotations

import json
import os
import shlex
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
CHECKOUT = os.environ.get("COMFYUI", "")
PYTHON = os.environ.get("COMFYUI_PYTHON", sys.executable)
PACK = "holo.lite-1"  # no name of a module
HANGS = 300.0  # seconds; a guard against hanging
PROBE = '''
"""Says what ComfyUI's process holds of ours, and how much memory it has."""
import os, sys
import psutil
from comfy_api.latest import ComfyExtension, io
class Probe(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        told = {"outputs": [], "is_output_node": True}
        return io.Schema(node_id="Probe", category="test", inputs=[io.Int.Input("any")], **told)
    @classmethod
    def execute(cls, any):
        mine = [name for name in sys.modules if name.partition(".")[0] in ("holo_lite", "quantize", "profiles")]
        children = [" ".join(each.cmdline()) for each in psutil.Process().children(recursive=True)]
        rss = psutil.Process().memory_info().rss
        return io.NodeOutput(ui={"modules": mine, "rss": [rss], "children": children})
class Ext(ComfyExtension):
    async def get_node_list(self): return [Probe]
async def comfy_entrypoint(): return Ext()
'''


class Comfy:
    """One ComfyUI with folders of its own, which can be killed and started again."""

    def __init__(self, base: Path) -> None:
        self.base, self.log = base, base / "comfyui.log"
        packs = base / "custom_nodes"
        for folder in (packs / "probe", base / "models", base / "input"):
            folder.mkdir(parents=True)
        (packs / PACK).symlink_to(ROOT, target_is_directory=True)
        (packs / "probe" / "__init__.py").write_text(PROBE)
        (base / "more").mkdir()
        (base / "more" / "tiny").symlink_to(ROOT / "holo_lite" / "tiny" / "weights", target_is_directory=True)
        self._paths = base / "extra_model_paths.yaml"
        self._paths.write_text(f"elsewhere:\n    holocine: {base / 'more'}\n")
        self.renderer = base / "python"
        words = f"PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)}"
        self.renderer.write_text(f'#!/bin/sh\n{words} "$@"\n')
        self.renderer.chmod(0o755)
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as door:
            door.bind(("127.0.0.1", 0))
            self.port = door.getsockname()[1]

    def start(self, *, named: bool = True) -> None:
        """Start it, and wait until it answers. named: whether it is told which Python renders."""
        command = [PYTHON, f"{CHECKOUT}/main.py", "--cpu", "--port", str(self.port), "--base-directory"]
        command += [str(self.base), "--database-url", f"sqlite:///{self.base}/comfyui.db", "--disable-api-nodes"]
        command += ["--extra-model-paths-config", str(self._paths)]
        kept = {name: each for name, each in os.environ.items() if name not in {"PYTHONPATH", "HOLO_LITE_PYTHON"}}
        with self.log.open("ab") as log:
            environment = {**kept, **({"HOLO_LITE_PYTHON": str(self.renderer)} if named else {})}
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.base)
        deadline = time.monotonic() + HANGS
        while not self._answers():
            assert self._process.poll() is None, self.log.read_text(errors="replace")[-4000:]
            assert time.monotonic() < deadline, "it does not come up"
            time.sleep(0.2)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(HANGS)

    def _answers(self) -> bool:
        try:
            self.get("/system_stats")
        except OSError:
            return False
        return True

    def get(self, path: str) -> bytes:
        """What is at a path of the server. Raises `OSError`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=HANGS) as answer:
            found: bytes = answer.read()
            return found

    def post(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        """What it answers, a refusal, too."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(content).encode())
        try:
            with urllib.request.urlopen(request, timeout=HANGS) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            text = error.read()
        found: dict[str, Any] = json.loads(text or b"{}")
        return found

    def queue(self, prompt: dict[str, Any], client: str = "") -> dict[str, Any]:
        """Queue a graph in its API form."""
        return self.post("/prompt", {"prompt": prompt, **({"client_id": client} if client else {})})

    def history(self, number: str) -> dict[str, Any]:
        """What became of a queued graph, once it is over."""
        deadline = time.monotonic() + HANGS
        while time.monotonic() < deadline:
            found = json.loads(self.get(f"/history/{number}"))
            if number in found:
                entry: dict[str, Any] = found[number]
                return entry
            time.sleep(0.1)
        raise AssertionError("it does not end")

    def run(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """Queue a graph, and what became of it."""
        return self.history(self.queue(prompt)["prompt_id"])


class Listener:
    """What ComfyUI tells its page: texts as they come, and how many pictures."""

    def __init__(self, comfy: Comfy, client: str) -> None:
        self.told: list[dict[str, Any]] = []
        self.pictures = 0
        self._door = socket.create_connection(("127.0.0.1", comfy.port))
        key = b64encode(os.urandom(16)).decode()
        lines = [f"GET /ws?clientId={client} HTTP/1.1", f"Host: 127.0.0.1:{comfy.port}", "Upgrade: websocket"]
        lines += ["Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
        self._door.sendall("\r\n".join(lines).encode())
        self._pipe = self._door.makefile("rb")
        while self._pipe.readline().strip():
            pass
        threading.Thread(target=self._read, daemon=True).start()

    def until(self, *kinds: str, pictures: int = 0) -> dict[str, Any]:
        """Wait for a message of one of some kinds, or for so many pictures."""
        deadline = time.monotonic() + HANGS
        while time.monotonic() < deadline:
            found = [each for each in self.told if each["type"] in kinds]
            if found or (pictures and self.pictures >= pictures):
                return found[0] if found else {}
            time.sleep(0.01)
        raise AssertionError(f"none of {kinds} in {[each['type'] for each in self.told]}")

    def forget(self) -> None:
        """Begin anew."""
        self.told.clear()
        self.pictures = 0

    def close(self) -> None:
        """Hang up."""
        self._door.close()

    def _read(self) -> None:
        try:
            while (frame := _frame(self._pipe)) is not None:
                kind, data = frame
                if kind == 1:
                    self.told.append(json.loads(data))
                elif kind == 2:
                    self.pictures += 1
        except (OSError, ValueError):  # hung up
            return


def _frame(pipe: IO[bytes]) -> tuple[int, bytes] | None:
    """A frame of a web socket from its server, which masks nothing."""
    head = pipe.read(2)
    if len(head) < 2:
        return None
    size = head[1] & 127
    if size == 126:
        (size,) = struct.unpack(">H", pipe.read(2))
    elif size == 127:
        (size,) = struct.unpack(">Q", pipe.read(8))
    return head[0] & 15, pipe.read(size)
