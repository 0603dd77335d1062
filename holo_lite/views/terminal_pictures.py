"""Pictures inside a terminal, where it can show them.

Two protocols are common: kitty's, which Ghostty uses too, and iTerm2's, which WezTerm uses. A terminal names itself
in the environment. Inside tmux or screen the program written to is not the terminal that would draw, so nothing is
shown.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import ControlType, Segment

Protocol = Literal["kitty", "iterm2"]

PIECE = 4096  # bytes of one message to kitty
WIDEST = 80  # columns of a picture
KITTY_PROGRAMS, ITERM_PROGRAMS = ("ghostty",), ("iTerm.app", "WezTerm")
UNSEEN = [(ControlType.CURSOR_FORWARD, 0)]  # marks text as control codes, which take no space on a line


def protocol_of(environment: Mapping[str, str]) -> Protocol | None:
    """The protocol in which this environment's terminal takes pictures, or None if it cannot show any."""
    if "TMUX" in environment or environment.get("TERM", "").startswith(("screen", "tmux")):
        return None
    program = environment.get("TERM_PROGRAM", "")
    if "KITTY_WINDOW_ID" in environment or environment.get("TERM") == "xterm-kitty" or program in KITTY_PROGRAMS:
        return "kitty"
    return "iterm2" if program in ITERM_PROGRAMS or environment.get("LC_TERMINAL") == "iTerm2" else None


class TerminalPicture:
    """A PNG for rich to print, at most `WIDEST` columns wide, on a terminal of the protocol."""

    def __init__(self, png: bytes, protocol: Protocol) -> None:
        self._png, self._protocol = png, protocol

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the picture as control codes, which rich leaves out where the output is not a terminal."""
        text = sequence(self._png, self._protocol, min(options.max_width, WIDEST))
        yield Segment(text, None, UNSEEN)
        yield Segment.line()


def sequence(png: bytes, protocol: Protocol, columns: int) -> str:
    """What to send to a terminal to show a PNG `columns` wide, with its proportions."""
    if protocol == "kitty":
        return "".join(_kitty(png, columns))
    content = base64.b64encode(png).decode()
    facts = f"inline=1;size={len(png)};width={columns};preserveAspectRatio=1"
    return f"\x1b]1337;File={facts}:{content}\x07"


def _kitty(png: bytes, columns: int) -> Iterator[str]:
    """A PNG (f=100) to show at once (a=T) without an answer (q=2), in pieces; m=0 marks the last."""
    content = base64.b64encode(png).decode()
    pieces = [content[start : start + PIECE] for start in range(0, len(content), PIECE)]
    for number, piece in enumerate(pieces, start=1):
        facts = f"a=T,f=100,q=2,c={columns}," if number == 1 else ""
        yield f"\x1b_G{facts}m={int(number < len(pieces))};{piece}\x1b\\"
