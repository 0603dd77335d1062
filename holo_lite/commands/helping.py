"""How commands look in help: options under headings, commands in the order of the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from holo_lite.errors import nearest

HEADINGS: Mapping[str, tuple[str, ...]] = {  # parameters by name, in the order in which help shows them
    "What to make": (
        *(
            "shots",
            "seconds",
            "captions",
            "remember",
            "images",
            "prompt",
            "frames",
            "cuts",
            "fps",
            "size",
            "height",
            "width",
        ),
        *("seed", "negative"),
    ),
    "Quality and speed": ("steps", "cfg", "cfg_until", "cache", "kappa", "draft", "seeds"),
    "Model": (
        "endpoint",
        "llm",
        "model",
        "attention",
        "loras",
        "tokenizer",
        "scheme",
        "recipe",
        "baseline",
        "ablate",
    ),
    "Machine": ("profile", "gpu", "ray", "device", "devices", "dtype", "kernel", "compute", "fuse"),
}
OTHERS = "Output and other options"


class Option(click.Option):
    """An option that also has the names by which other programs know it: they work, and help does not show them."""

    def __init__(self, declared: Sequence[str], also: Sequence[str] = (), **attributes: Any) -> None:
        super().__init__([*declared, *also], **attributes)
        self.also = frozenset(also)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """What help shows of it."""
        with self._own_names():
            return super().get_help_record(ctx)

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """How errors name it."""
        with self._own_names():
            return super().get_error_hint(ctx)

    @contextmanager
    def _own_names(self) -> Iterator[None]:
        every = self.opts
        self.opts = [name for name in every if name not in self.also]
        try:
            yield
        finally:
            self.opts = every


def option(*declared: str, also: Sequence[str] = (), **attributes: Any) -> Callable[[Any], Any]:
    """An option of a command, as `click.option`; `also` are names of other programs."""
    return click.option(*declared, cls=Option, also=also, **attributes)


class Command(click.Command):
    """A command whose help shows options under headings, if there are many."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, heading by heading."""
        given = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
        records = {each.name: record for each in given if (record := each.get_help_record(ctx))}
        groups = {
            title: [records.pop(name) for name in names if name in records] for title, names in HEADINGS.items()
        }
        if sum(map(bool, groups.values())) < 2:
            super().format_options(ctx, formatter)
            return
        for title, rows in (*groups.items(), (OTHERS, list(records.values()))):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class Program(click.Group):
    """All commands, in the order in which they were added: that of the work. A wrong name suggests the nearest."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names in the order of the work."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of a name. Raises `UsageError`, with the nearest name there is."""
        known = [name for name, each in self.commands.items() if not each.hidden]
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            start = [name for name in known if name.startswith(args[0])]
            hint = f"; did you mean '{start[0]}'?" if start else nearest(args[0], known)
            ctx.fail(f"there is no command '{args[0]}'{hint or '.'}")
        return super().resolve_command(ctx, args)
