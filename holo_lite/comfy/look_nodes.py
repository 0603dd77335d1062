"""Nodes that look before anything is rendered: what a run will need, and what may go wrong with a storyboard."""

from __future__ import annotations

from comfy_api.latest import io

from . import folders, host
from .command import spoken
from .foreseeing import PlannedRun, asked_plan, refused
from .handles import Model, NodeError, Story
from .orders import only_said, storyboard_file
from .sharing import SESSION
from .sizes import size_inputs
from .wires import CATEGORY, MODEL, STORY

ALONE = "Counted without what other programs hold, and ComfyUI's models: they leave the card before a render."
REFUSED = 2  # the exit code of `check` for what no video can be made of


class HoloCinePlan(io.ComfyNode):
    """What a run will take, in words."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Its inputs and outputs."""
        return io.Schema(
            node_id="HoloCinePlan",
            display_name="HoloCine Plan",
            category=CATEGORY,
            description="Says whether a run fits this machine, what memory it takes and about how long it lasts. "
            "Red, where it does not fit. Loads no weights.",
            inputs=[
                MODEL.Input("model", tooltip="The model to plan for."),
                STORY.Input("storyboard", tooltip="What the video shows."),
                *size_inputs(),
            ],
            outputs=[io.String.Output(display_name="plan", tooltip="What the run will take.")],
            is_output_node=True,
        )

    @classmethod
    async def validate_inputs(cls, storyboard: object = None) -> bool | str:  # noqa: ARG003 - comes with the graph
        """Whether the run fits, before anything runs, where the graph says all that a plan needs."""
        return await refused()

    @classmethod
    def execute(cls, model: Model, storyboard: Story, width: int, height: int, steps: int) -> io.NodeOutput:
        """Ask for the plan. Raises `NodeError` where it does not fit."""
        found = asked_plan(
            PlannedRun(model, storyboard, only_said(width=width, height=height, steps=steps)), host.check
        )
        if found["state"] != "fits":
            raise NodeError(found["why"])
        text = "\n".join([ALONE, *found["lines"]])
        return io.NodeOutput(text, ui={"text": (text,)})


class HoloCineCheck(io.ComfyNode):
    """A storyboard's timeline, and what may go wrong with it, in words."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Its inputs and outputs."""
        return io.Schema(
            node_id="HoloCineCheck",
            display_name="HoloCine Check",
            category=CATEGORY,
            description="Draws the timeline of a storyboard and says what may go wrong with it. Loads no weights.",
            inputs=[
                STORY.Input("storyboard", tooltip="What is looked at."),
                MODEL.Input("model", tooltip="The model that will read it: its tokens are counted."),
            ],
            outputs=[io.String.Output(display_name="report", tooltip="The timeline, and what was found.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, storyboard: Story, model: Model) -> io.NodeOutput:
        """Ask for the report. Raises `NodeError` where no video can be made of it."""
        python = SESSION.interpreters.choose()
        words = ["check", str(storyboard_file(storyboard, folders.places()))]
        words += ["--model", model.folder or str(folders.BUILT_IN_FOLDER)]
        code, out, errors = spoken(python, words, host.check)
        if code >= REFUSED or not out:
            raise NodeError(errors.strip().splitlines()[-1] if errors.strip() else "the check said nothing")
        return io.NodeOutput(out.rstrip(), ui={"text": (out.rstrip(),)})
