"""What the NVIDIA driver says, asked without PyTorch: in NVML, by nvidia-smi, or from Linux's own tables.

PyTorch's CPU build sees no card in a computer that has one, and neither does its CUDA build with a driver too old
for it. Only another source can distinguish these from a computer without a card.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from holo_lite.doctor.facts import DriverFacts, Version
from holo_lite.doctor.programs import program

PATIENCE = 20  # seconds; a driver that is stuck never answers
SMI_PLACES = (r"C:\Windows\System32\nvidia-smi.exe", "/usr/lib/wsl/lib/nvidia-smi")  # where no PATH leads at times
VENDOR = "0x10de"
DISPLAY = "0x03"  # what the class of a PCI device that draws begins with


def nvidia(root: Path = Path("/")) -> DriverFacts:
    """Ask every source. If none knows: a record without cards. `root` is the folder of ``proc`` and ``sys``."""
    return by_nvml() or by_smi() or by_tables(root)


def by_nvml() -> DriverFacts | None:
    """Ask NVML, if its bindings are installed and the driver answers."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        cuda = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
        return DriverFacts(
            cards=tuple(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles),
            driver=str(pynvml.nvmlSystemGetDriverVersion()),
            cuda=(cuda // 1000, cuda % 1000 // 10),
            by_nvml=True,
        )
    except pynvml.NVMLError:
        return None


def by_smi() -> DriverFacts | None:
    """Ask nvidia-smi, which comes with every driver; None if it is not there."""
    smi = program("nvidia-smi") or next((place for place in SMI_PLACES if Path(place).is_file()), None)
    if smi is None:
        return None
    listed = _asked(smi, "--query-gpu=name,driver_version", "--format=csv,noheader")
    if isinstance(listed, DriverFacts):
        return listed
    table = _asked(smi)
    lines = [line.rpartition(",") for line in listed.splitlines() if "," in line]
    return DriverFacts(
        cards=tuple(name.strip() for name, _, _ in lines),
        driver=lines[0][2].strip() if lines else "",
        cuda=None if isinstance(table, DriverFacts) else cuda_version(table),
    )


def cuda_version(table: str) -> Version | None:
    """The CUDA version in nvidia-smi's table: the newest its driver runs."""
    found = re.search(r"CUDA [A-Za-z ]*Version\s*:\s*(\d+)\.(\d+)", table)
    return (int(found[1]), int(found[2])) if found else None


def by_tables(root: Path) -> DriverFacts:
    """Read what Linux keeps of the driver, or of a card that has none."""
    proc = root / "proc" / "driver" / "nvidia"
    cards = tuple(
        found[1].strip()
        for file in sorted(proc.glob("gpus/*/information"))
        if (found := re.search(r"Model:\s*(.+)", _text(file)))
    )
    version = re.search(r"Kernel Module\D*?\s([\d.]+)\s", _text(proc / "version"))
    if cards or version:
        return DriverFacts(cards=cards or ("an NVIDIA card",), driver=version[1] if version else "")
    slots = sorted((root / "sys/bus/pci/devices").glob("*"))
    return DriverFacts(cards=tuple("an NVIDIA card" for slot in slots if _is_ours(slot)))


def _asked(smi: str, *options: str) -> str | DriverFacts:
    """What nvidia-smi prints, or a record of its complaint."""
    try:
        done = subprocess.run(
            [smi, *options], capture_output=True, encoding="utf-8", errors="replace", timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return DriverFacts(trouble=f"nvidia-smi does not run: {error}")
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        return DriverFacts(trouble=f"nvidia-smi says: {said[0] if said else done.returncode}")
    return done.stdout


def _is_ours(device: Path) -> bool:
    return _text(device / "vendor").strip() == VENDOR and _text(device / "class").startswith(DISPLAY)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
