"""The doctor's report, for a person or as JSON."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from holo_lite.doctor.facts import MachineFacts, Trouble
from holo_lite.doctor.finding import Diagnosis
from holo_lite.doctor.private import without_names
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


def report_json(
    findings: Sequence[Diagnosis], surroundings: MachineFacts, home: Path | None = None, users: Sequence[str] = ()
) -> str:
    """Everything as one JSON object: findings, and the facts behind them.

    It is made to be shown to strangers: the `home` folder is ``~`` in it, and folders of `users` are ``USER``.
    """
    source = None if isinstance(surroundings.report, Trouble) else surroundings.report.source
    found = {
        "holo_lite": __version__,
        "commit": source.commit if source else None,
        "changed": source.changed if source else None,
        "to_fix": to_fix(findings),
        "findings": [dataclasses.asdict(finding) for finding in findings],
        "surroundings": dataclasses.asdict(surroundings),
    }
    return json.dumps(without_names(found, home or Path("/"), users), indent=1)


def to_fix(findings: Sequence[Diagnosis]) -> int:
    """How many findings need a fix."""
    return sum(finding.state == "fix" for finding in findings)
