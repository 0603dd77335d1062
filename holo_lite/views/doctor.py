"""The doctor's report, for a person or as JSON."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Iterator, Sequence

from holo_lite.doctor.facts import MachineFacts
from holo_lite.doctor.finding import Diagnosis
from holo_lite.version import __version__

WIDTH = 100
INDENT = 22


def report_lines(findings: Sequence[Diagnosis]) -> Iterator[str]:
    """One line or more per finding; what to do is on its own line, complete, to be copied."""
    for finding in findings:
        head = f"{finding.state:<4}  {finding.what:<14}  "
        yield from textwrap.wrap(
            head + finding.said,
            WIDTH,
            subsequent_indent=" " * INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
        if finding.do:
            yield f"{'':{INDENT}}→ {' '.join(finding.do.split())}"
    count = to_fix(findings)
    yield f"{count} to fix" if count else "nothing to fix"


def report_json(findings: Sequence[Diagnosis], surroundings: MachineFacts) -> str:
    """Everything as one JSON object: findings, and the facts behind them."""
    return json.dumps(
        {
            "holo_lite": __version__,
            "to_fix": to_fix(findings),
            "findings": [dataclasses.asdict(finding) for finding in findings],
            "surroundings": dataclasses.asdict(surroundings),
        },
        indent=1,
        default=str,
    )


def to_fix(findings: Sequence[Diagnosis]) -> int:
    """How many findings need a fix."""
    return sum(finding.state == "fix" for finding in findings)
