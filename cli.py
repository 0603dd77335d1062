"""The command line: a thin skin over `holo_lite`.

A command parses, calls, and turns the library's errors into one line and exit code 2. Each is a module of
`holo_lite.commands`, which imports nothing heavy before it needs it, so that help is instant.
"""

from __future__ import annotations

import logging
import os
import sys

import click

from holo_lite.commands.batch import batch
from holo_lite.commands.cache import cache
from holo_lite.commands.check import check
from holo_lite.commands.demo import demo
from holo_lite.commands.doctor import doctor
from holo_lite.commands.evaluate import evaluate
from holo_lite.commands.fetch import fetch
from holo_lite.commands.generate import generate
from holo_lite.commands.inspect import inspect
from holo_lite.commands.plan import plan
from holo_lite.commands.profiles import profiles
from holo_lite.commands.quantize import quantize
from holo_lite.commands.resume import resume
from holo_lite.commands.stopping import stoppable
from holo_lite.errors import HoloError
from holo_lite.version import __version__

MISTAKE = 2
LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # PyTorch then asks Linux for large pages, and a CPU waits less for memory
COMMANDS = (generate, batch, resume, check, inspect, demo, evaluate, profiles, plan, fetch, quantize, doctor, cache)


def main() -> None:
    """Run the command line and exit with its code: 0 on success, 2 on a mistake."""
    os.environ.setdefault(LARGE_PAGES, "1")
    with stoppable() as stop:
        try:
            code = holo_lite.main(prog_name="holo-lite", standalone_mode=False)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = MISTAKE
        except click.ClickException as error:
            code = _mistake(f"{error.format_message()} {_where_to_read(error)}")
        except HoloError as error:
            code = _mistake(str(error))
        except OSError as error:
            code = _mistake(f"{error.filename or 'a file'}: {error.strerror or error}; check its path and the disk")
        except (KeyboardInterrupt, click.Abort) as told:
            click.echo(f"interrupted; {told if str(told) else 'no half-written file is left'}", err=True)
            code = stop.code
    sys.exit(code)


def _mistake(message: str) -> int:
    """Report on one line what is wrong."""
    click.echo(f"error: {' '.join(message.split())}", err=True)
    return MISTAKE


def _where_to_read(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"See '{context.command_path if context else 'holo-lite'} --help'."


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="holo-lite")
def holo_lite() -> None:
    """Whole multi-shot scenes from a storyboard, on the graphics card you have."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    for noisy in ("bitsandbytes", "diffusers", "huggingface_hub", "transformers"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


for command in COMMANDS:
    holo_lite.add_command(command)

if __name__ == "__main__":
    main()
