"""The command line: a thin skin over `holo_lite`.

A command parses, calls, and turns the library's errors into one line and exit code 2. Each is a module of
`holo_lite.commands`, which imports nothing heavy before it needs it, so that help is instant. This module itself
imports next to nothing: whoever stops the program while it starts gets one line, too.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holo_lite.commands.stopping import Stop

MISTAKE = 2
LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # PyTorch then asks Linux for large pages, and a CPU waits less for memory


def main() -> None:
    """Run the command line and exit with its code: 0 on success, 2 on a mistake."""
    os.environ.setdefault(LARGE_PAGES, "1")
    forget_current_folder()
    handler = signal.getsignal(signal.SIGINT)
    try:
        if handler is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # till the handler of `stoppable` stands: no traceback
        code = _run()
    finally:
        signal.signal(signal.SIGINT, handler)
    sys.exit(code)


def forget_current_folder() -> None:
    """Import nothing from the folder a person happens to stand in, unless holo-lite lies there itself.

    Python puts it in front for `python -m`, and an empty word in PYTHONPATH does so, too.
    """
    try:
        here = os.getcwd()
    except OSError:  # it was removed
        here = ""
    trusted = (os.path.dirname(os.path.abspath(__file__)), sys.prefix, sys.base_prefix)
    if not any(f"{here}{os.sep}".startswith(f"{each}{os.sep}") for each in trusted):
        sys.path[:] = [place for place in sys.path if place and os.path.abspath(place) != here]


def _run() -> int:
    from holo_lite.commands.stopping import stoppable
    from holo_lite.commands.streams import speaking

    with stoppable() as stop, speaking():
        try:
            return _ended(stop)
        except (Exception, KeyboardInterrupt):
            if stop.asked is None:
                raise
            return _interrupted(stop, "")  # asked to stop amid an import, libraries raise whatever they like


def _ended(stop: Stop) -> int:
    """Run the command that is named, and turn what it raises into a line and an exit code."""
    import click

    from holo_lite.cancel import Cancelled
    from holo_lite.commands.group import holo_lite
    from holo_lite.errors import HoloError

    try:
        if os.environ.get("RANK", "0") != "0" and _follows():
            return 0
        code = holo_lite.main(prog_name="holo-lite", standalone_mode=False, obj=stop.cancel)
        sys.stdout.flush()
        return int(code or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return MISTAKE
    except click.ClickException as error:
        return _mistake(f"{error.format_message()} {_where_to_read(error)}")
    except HoloError as error:
        return _mistake(str(error))
    except OSError as error:
        return _mistake(f"{error.filename or 'a file'}: {error.strerror or error}; check its path and the disk")
    except (KeyboardInterrupt, Cancelled, click.Abort) as ended:
        return _interrupted(stop, str(ended) if isinstance(ended, click.Abort) else "")


def _follows() -> bool:
    """Whether this process is one of torchrun's that follow the first; then it has."""
    from holo_lite.following.following import follow_torchrun

    return follow_torchrun()


def _interrupted(stop: Stop, told: str) -> int:
    _say(f"interrupted; {told or 'no half-written file is left'}")
    return stop.code


def _mistake(message: str) -> int:
    """Report on one line what is wrong."""
    _say(f"error: {' '.join(message.split())}")
    return MISTAKE


def _say(line: str) -> None:
    from holo_lite.commands.telling import tell

    tell(line, err=True)


def _where_to_read(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"See '{context.command_path if context else 'holo-lite'} --help'."


if __name__ == "__main__":
    main()
