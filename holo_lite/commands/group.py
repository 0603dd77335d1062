"""All commands as one."""

from __future__ import annotations

import logging

import click

from holo_lite.commands.batch import batch
from holo_lite.commands.cache import cache
from holo_lite.commands.check import check
from holo_lite.commands.config import config
from holo_lite.commands.defaults import PREFIX, read_defaults
from holo_lite.commands.demo import demo
from holo_lite.commands.doctor import doctor
from holo_lite.commands.evaluate import evaluate
from holo_lite.commands.extend import extend
from holo_lite.commands.fetch import fetch
from holo_lite.commands.generate import generate
from holo_lite.commands.help import show_help
from holo_lite.commands.helping import Program
from holo_lite.commands.inspect import inspect
from holo_lite.commands.plan import plan
from holo_lite.commands.profiles import profiles
from holo_lite.commands.quantize import quantize
from holo_lite.commands.resume import resume
from holo_lite.commands.retake import retake
from holo_lite.commands.studio import studio
from holo_lite.commands.write import write
from holo_lite.version import __version__
from holo_lite.views.terminal import shown

# In the order of the work: get a model, have a storyboard written, look at it, make it, look at what was made.
COMMANDS = (
    *(demo, studio, fetch, quantize, doctor, profiles),
    *(write, check, plan, generate, retake, extend, batch, resume, inspect, evaluate, config, cache, show_help),
)


WITHOUT_DEFAULTS = {"config", "help"}


class LineFormatter(logging.Formatter):
    """Log lines that cannot command a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The record, each of its lines shown."""
        return "\n".join(map(shown, super().format(record).split("\n")))


@click.group(
    cls=Program,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
        "auto_envvar_prefix": PREFIX,
    },
)
@click.version_option(__version__, "-V", "--version", prog_name="holo-lite")
@click.pass_context
def holo_lite(context: click.Context) -> None:
    """Whole multi-shot scenes from a storyboard, on the graphics card you have."""
    if context.invoked_subcommand not in WITHOUT_DEFAULTS:
        context.default_map = read_defaults(holo_lite.commands)
    logging.getLogger("holo_lite").setLevel(logging.NOTSET)
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    for noisy in (
        "bitsandbytes",
        "diffusers",
        "huggingface_hub",
        "ray",
        "torch.utils.cpp_extension",
        "transformers",
    ):
        logging.getLogger(noisy).setLevel(logging.ERROR)


for command in COMMANDS:
    holo_lite.add_command(command)
