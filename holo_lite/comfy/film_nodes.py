"""Nodes that make films: a storyboard's, one with a shot made again, and one that continues another."""

from __future__ import annotations

from comfy_api.latest import io

from . import folders
from .films import made
from .foreseeing import queued_inputs, refused
from .handles import Film, Model, NodeError, Story
from .orders import Wishes, board_order, extend_order, file_stem, only_said, retake_order
from .seeds import seeds_from
from .sharing import SESSION
from .sizes import film_outputs, seed_input, size_inputs, watching_inputs
from .stories import numbers_of
from .wires import CATEGORY, FILM, MODEL, STORY


class HoloCineGenerate(io.ComfyNode):
    """A video of a storyboard."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Its inputs and outputs."""
        return io.Schema(
            node_id="HoloCineGenerate",
            display_name="HoloCine Generate",
            category=CATEGORY,
            description="Renders all shots of a storyboard in one pass. An interrupted run goes on when the same "
            "graph is queued again.",
            inputs=[
                MODEL.Input("model", tooltip="The model that renders."),
                STORY.Input("storyboard", tooltip="What the video shows."),
                seed_input("The noise that the video comes from. The same seed gives the same video."),
                *size_inputs(),
                io.Float.Input(
                    "cfg",
                    default=0.0,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="How closely captions are followed. 0: the model's own. 1: no guidance, half the time.",
                ),
                io.String.Input(
                    "negative", default="", tooltip="What should not be seen. Empty: the model's own words."
                ),
                io.Boolean.Input(
                    "draft",
                    default=False,
                    tooltip="A quarter of the steps at half the size, to see cuts and framing.",
                ),
                *watching_inputs(),
            ],
            outputs=film_outputs(),
            is_output_node=True,
        )

    @classmethod
    async def validate_inputs(cls, storyboard: object = None) -> bool | str:  # noqa: ARG003 - comes with the graph
        """Whether the run fits and its file can have the name, before anything runs.

        ComfyUI writes what is said to every input that is asked for, so it is asked for one.
        """
        try:
            file_stem(str(queued_inputs().get("name", "holocine")))
        except NodeError as error:
            return str(error)
        return await refused()

    @classmethod
    def execute(
        cls,
        model: Model,
        storyboard: Story,
        seed: int,
        width: int,
        height: int,
        steps: int,
        cfg: float,
        negative: str,
        draft: bool,
        preview_every: int,
        name: str,
        seeds: int = 1,
    ) -> io.NodeOutput:
        """Render."""
        options = only_said(width=width, height=height, steps=steps, cfg=cfg, negative=negative.strip())
        wishes, places = Wishes(options, name, preview_every, draft), folders.places()
        orders = [board_order(model, storyboard, wishes.of(each), places) for each in seeds_from(seed, seeds)]
        return made(SESSION, model, orders)


class HoloCineRetake(io.ComfyNode):
    """A video with one shot made again."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Its inputs and outputs."""
        return io.Schema(
            node_id="HoloCineRetake",
            display_name="HoloCine Retake",
            category=CATEGORY,
            description="Makes one shot of a film again; all others stay as they are. For several shots, connect "
            "one node's film to the next.",
            inputs=[
                FILM.Input("film", tooltip="The film that the shot is in."),
                io.Int.Input("shot", default=1, min=1, max=999, tooltip="Which shot, counted from 1."),
                io.String.Input(
                    "caption", default="", multiline=True, tooltip="What it shows now. Empty: what it showed."
                ),
                seed_input(
                    "The noise of the new shot. -1: the film's, or the next one where the caption stays.", -1
                ),
                *watching_inputs(),
            ],
            outputs=film_outputs(),
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        """Whether a file can have the name, before anything runs."""
        return _named(name)

    @classmethod
    def execute(
        cls, film: Film, shot: int, caption: str, seed: int, preview_every: int, name: str, seeds: int = 1
    ) -> io.NodeOutput:
        """Render the shot."""
        again, places = {shot: " ".join(caption.split()) or None}, folders.places()
        own = film.seed if again[shot] else film.seed + 1  # or nothing would change
        wishes = Wishes({}, name, preview_every)
        orders = [retake_order(film, again, wishes.of(each), places) for each in seeds_from(seed, seeds, own)]
        return made(SESSION, film.model, orders)


class HoloCineExtend(io.ComfyNode):
    """New shots that continue a film."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Its inputs and outputs."""
        return io.Schema(
            node_id="HoloCineExtend",
            display_name="HoloCine Extend",
            category=CATEGORY,
            description="Continues the story of a film with new shots, which are a video of their own. The model "
            "remembers the film's shots.",
            inputs=[
                FILM.Input("film", tooltip="The film that is continued."),
                STORY.Input("storyboard", tooltip="The new shots. Use the same [character1], … as before."),
                io.String.Input(
                    "remember",
                    default="",
                    tooltip="Shots of the film to remember, such as 1, 4. Empty: as many as fit.",
                ),
                seed_input("The noise of the new shots. -1: the film's.", -1),
                *watching_inputs(),
            ],
            outputs=film_outputs(),
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, remember: str | None = None) -> bool | str:
        """Whether shots are numbers, before anything runs."""
        try:
            numbers_of("remember", remember or "")
        except NodeError as error:
            return str(error).removeprefix("remember: ")
        return True

    @classmethod
    def execute(
        cls,
        film: Film,
        storyboard: Story,
        remember: str,
        seed: int,
        preview_every: int,
        name: str,
        seeds: int = 1,
    ) -> io.NodeOutput:
        """Render the new shots."""
        shots, wishes, places = numbers_of("remember", remember), Wishes({}, name, preview_every), folders.places()
        wished = [wishes.of(each) for each in seeds_from(seed, seeds, film.seed)]
        return made(SESSION, film.model, [extend_order(film, storyboard, shots, each, places) for each in wished])


def _named(name: str | None) -> bool | str:
    try:
        file_stem(name if name is not None else "holocine")
    except NodeError as error:
        return str(error).removeprefix("name: ")
    return True
