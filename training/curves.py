"""The logs of a training as one picture: each loss against its steps, on a logarithmic scale."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT, MARGIN, GAP = 420, 220, 44, 24
COLOURS = ("#1f5fa8", "#b3471d", "#2d7d46", "#7a3e9d")
SMOOTH = 9  # neighbouring log lines in one mean, and fewer where there are few


def draw_curves(logs: list[Path], out: Path) -> None:
    """Draw one panel for each log (lines of JSON with "step" and losses), two side by side."""
    rows = (len(logs) + 1) // 2
    sheet = Image.new("RGB", (2 * WIDTH, rows * HEIGHT), "white")
    for index, log in enumerate(logs):
        sheet.paste(_panel(log), (index % 2 * WIDTH, index // 2 * HEIGHT))
    sheet.save(out)


def _panel(log: Path) -> Image.Image:
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    names = [name for name in ("loss", "mse", "high", "low", "unseen") if any(name in line for line in lines)]
    series = {name: _smooth([(line["step"], line[name]) for line in lines if line.get(name)]) for name in names}
    low = min(values.min() for _, values in series.values())
    high = max(values.max() for _, values in series.values())
    last = max(steps.max() for steps, _ in series.values())
    panel = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(panel)
    pen.rectangle((MARGIN, 24, WIDTH - 10, HEIGHT - 24), outline="#999999")
    pen.text((MARGIN, 6), log.stem, fill="black")
    pen.text((4, 24), f"{high:.3g}", fill="black")
    pen.text((4, HEIGHT - 36), f"{low:.3g}", fill="black")
    pen.text((WIDTH - 80, HEIGHT - 18), f"{last:.0f} steps", fill="black")
    legend = MARGIN + pen.textlength(log.stem) + GAP
    for (name, (steps, values)), colour in zip(series.items(), COLOURS, strict=False):
        x = MARGIN + steps / last * (WIDTH - 10 - MARGIN)
        y = 24 + np.log(high / values) / max(np.log(high / low), 1e-9) * (HEIGHT - 48)
        pen.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=colour, width=2)
        pen.text((legend, 6), name, fill=colour)
        legend += pen.textlength(name) + GAP
    return panel


def _smooth(pairs: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    steps, values = np.array(pairs, dtype=float).T
    width = max(1, min(SMOOTH, len(values) // SMOOTH))
    kernel = np.ones(width) / width
    return np.convolve(steps, kernel, "valid"), np.exp(np.convolve(np.log(values), kernel, "valid"))
