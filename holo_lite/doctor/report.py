"""What a bug report needs besides the findings: versions, processor, memory, system, encodings."""

from __future__ import annotations

import importlib.metadata
import locale
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from holo_lite.doctor.checkout import source
from holo_lite.doctor.facts import HardwareFacts, ReportFacts, VersionFacts
from holo_lite.plan.container import tightest

# By the names of their distributions. A test holds the first two lists equal to pyproject.toml.
REQUIRED = (
    *("torch", "accelerate", "av", "bitsandbytes", "click", "diffusers", "filelock", "ftfy", "gguf"),
    *("huggingface-hub", "msgspec", "numpy", "optimum-quanto", "pillow", "platformdirs", "psutil", "rich"),
    *("safetensors", "send2trash", "starlette", "tokenizers", "transformers", "uvicorn"),
)
EXTRAS = ("flash-attn", "flash-attn-4", "sageattention", "nvidia-ml-py", "openai", "ray")
BESIDES = ("triton", "triton-windows", "hf-xet", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "pip")
SETTINGS = (  # of which only is said whether they are set: their values are private, or paths
    *("HF_HOME", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HUB_DOWNLOAD_TIMEOUT", "HTTPS_PROXY"),
    *("HOLO_LITE_CACHE", "HOLO_LITE_PROFILE", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "OMP_NUM_THREADS"),
)
PATIENCE = 5  # seconds


def report() -> ReportFacts:
    """Gather all of it. It holds no value of a variable and no name of a user or computer."""
    return ReportFacts(
        source=source(),
        versions=versions(),
        hardware=hardware(),
        encodings={
            "files": sys.getfilesystemencoding(),
            "text": locale.getpreferredencoding(False),
            "locale": ".".join(word or "" for word in locale.getlocale()).strip("."),
            "utf8_mode": str(bool(sys.flags.utf8_mode)),
        },
        is_set={name: name in os.environ for name in SETTINGS},
    )


def versions() -> VersionFacts:
    """The versions of what is installed of all that holo-lite may use, and the names of the rest."""
    found = {name: _version(name) for name in (*REQUIRED, *EXTRAS, *BESIDES)}
    return VersionFacts(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        installed={name: version for name, version in found.items() if version is not None},
        missing=tuple(name for name, version in found.items() if version is None and name in REQUIRED),
        not_installed=tuple(name for name, version in found.items() if version is None and name not in REQUIRED),
    )


def hardware() -> HardwareFacts:
    """The processor, the memory, and the system that runs on them."""
    import psutil

    memory, allowed = psutil.virtual_memory(), tightest()
    return HardwareFacts(
        processor=processor(),
        machine=platform.machine(),
        cores=psutil.cpu_count(logical=False),
        threads=psutil.cpu_count(),
        usable=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        ram=int(memory.total),
        ram_free=int(memory.available),
        container_limit=allowed.limit if allowed is not None and allowed.limit < memory.total else None,
        distribution=distribution(),
        kernel=f"{platform.system()} {platform.release()}",
    )


def processor(table: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, as its maker gave it; empty if it is not known."""
    if sys.platform == "win32":
        return _in_registry()
    if sys.platform == "darwin":
        return _asked("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string")
    rows = [line.partition(":") for line in _lines(table)]
    named = {key.strip(): value.strip() for key, _, value in rows}
    return named.get("model name") or named.get("Model") or named.get("Hardware") or ""


def distribution() -> str:
    """The system by the name people know: ``Ubuntu 24.04.1 LTS``, ``Windows 11 10.0.26100``, ``macOS 15.1``."""
    if sys.platform == "win32":
        release, version, _, _ = platform.win32_ver()
        return f"Windows {release} {version}"
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        known: Mapping[str, str] = platform.freedesktop_os_release()
    except OSError:
        return ""
    return known.get("PRETTY_NAME", "")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _in_registry() -> str:
    if sys.platform == "win32":
        import winreg

        place = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:
                return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
        except OSError:
            return ""
    return ""


def _asked(*words: str) -> str:
    try:
        done = subprocess.run(
            words, capture_output=True, encoding="utf-8", errors="replace", timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
