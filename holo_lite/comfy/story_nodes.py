"""Nodes for what a video shows: captions, a whole storyboard in TOML, and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from . import folders, frames
from .growing import caption_inputs, captions_in_order
from .handles import NodeError, Picture, Story
from .stories import captions_of, fault_of, numbers_of, story_of, story_of_toml
from .wires import CATEGORY, PICTURES, STORY

SCENE = "[character1] is a red square. [character2] is a cyan circle. The setting is a striped grey wall."
SHOTS = """Wide shot of [character1] and [character2], still.

Close-up of [character1], moving up.

Medium shot of [character2], moving right."""
TOML = f"""global = "{SCENE}"
frames = 33

[[shot]]
caption = "Wide shot of [character1] and [character2], still."

[[shot]]
caption = "Close-up of [character1], moving up."
"""
FIRST_FRAME, REFERENCE = "first frame of a shot", "reference"


def _pictures() -> Any:
    return PICTURES.Input("pictures", optional=True, tooltip="Pictures to begin shots with, and references.")


class HoloCineStoryboard(io.ComfyNode):
    """Captions of a scene and of its shots."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Its inputs and outputs."""
        return io.Schema(
            node_id="HoloCineStoryboard",
            display_name="HoloCine Storyboard",
            category=CATEGORY,
            description="A scene, and what each of its shots shows.",
            inputs=[
                io.String.Input(
                    "scene",
                    default=SCENE,
                    multiline=True,
                    tooltip="What all shots share: people and how they look, the place, the light, the style.",
                ),
                io.String.Input(
                    "shots",
                    default=SHOTS,
                    multiline=True,
                    tooltip="What each shot shows. Leave an empty line between two shots.",
                ),
                io.Int.Input(
                    "frames", default=0, min=0, max=14401, tooltip="Length of the video. 0: the model's own length."
                ),
                io.String.Input(
                    "cuts",
                    default="",
                    tooltip="First frames of all shots but the first, such as 49, 97. Empty: shots of one length.",
                ),
                _pictures(),
                *caption_inputs(),
            ],
            outputs=[STORY.Output(display_name="storyboard", tooltip="For Plan, Check, Generate and Extend.")],
        )

    @classmethod
    def validate_inputs(cls, cuts: str | None = None, captions: object = None) -> bool | str:  # noqa: ARG003
        """Whether cuts are numbers, before anything runs. ComfyUI hands in inputs that grow, asked for or not."""
        try:
            numbers_of("cuts", cuts or "")
        except NodeError as error:
            return str(error).removeprefix("cuts: ")  # ComfyUI names the input
        return True

    @classmethod
    def execute(
        cls,
        scene: str,
        shots: str,
        frames: int,
        cuts: str,
        pictures: tuple[Picture, ...] = (),
        captions: Mapping[str, str | None] | None = None,
    ) -> io.NodeOutput:
        """Hand on the storyboard."""
        return io.NodeOutput(typed_story(scene, shots, frames, cuts, pictures, captions))


def typed_story(
    scene: str,
    shots: str,
    frames: int,
    cuts: str,
    pictures: tuple[Picture, ...] = (),
    captions: Mapping[str, str | None] | None = None,
) -> Story:
    """The storyboard of some inputs. Raises `NodeError`."""
    return story_of(scene, captions_of(shots, captions_in_order(captions)), frames, cuts, pictures)


class HoloCineStoryboardTOML(io.ComfyNode):
    """A storyboard as it is written for the command line."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Its inputs and outputs."""
        return io.Schema(
            node_id="HoloCineStoryboardTOML",
            display_name="HoloCine Storyboard (TOML)",
            category=CATEGORY,
            description="A whole storyboard in TOML, with everything that docs/storyboards.md names.",
            inputs=[
                io.String.Input(
                    "toml",
                    default=TOML,
                    multiline=True,
                    tooltip="The text of a storyboard file. Pictures that it names are in ComfyUI's input folder.",
                ),
                _pictures(),
            ],
            outputs=[STORY.Output(display_name="storyboard", tooltip="For Plan, Check, Generate and Extend.")],
        )

    @classmethod
    def validate_inputs(cls, toml: str | None = None) -> bool | str:
        """Whether the text is TOML, before anything runs."""
        return toml is None or fault_of(toml) or True

    @classmethod
    def execute(cls, toml: str, pictures: tuple[Picture, ...] = ()) -> io.NodeOutput:
        """Hand on the storyboard."""
        return io.NodeOutput(story_in_toml(toml, pictures))


def story_in_toml(toml: str, pictures: tuple[Picture, ...] = ()) -> Story:
    """The storyboard of some inputs. Raises `NodeError`."""
    return story_of_toml(toml, folders.input_folder(), pictures)


class HoloCinePicture(io.ComfyNode):
    """A picture for the model to see. Several are put one behind the other."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Its inputs and outputs."""
        return io.Schema(
            node_id="HoloCinePicture",
            display_name="HoloCine Picture",
            category=CATEGORY,
            description="A picture with which a shot begins, or that shows how somebody looks. For several, "
            "connect one node's pictures to the next.",
            inputs=[
                io.Image.Input("image", tooltip="The picture. Of a batch, each is a reference of its own."),
                io.Combo.Input(
                    "use",
                    options=[REFERENCE, FIRST_FRAME],
                    default=REFERENCE,
                    tooltip="reference: the model sees it, and the video does not show it.",
                ),
                io.Int.Input("shot", default=1, min=1, max=999, tooltip="The shot that begins with it."),
                io.String.Input(
                    "caption",
                    default="Close-up of [character1], still.",
                    tooltip="What a reference shows, in the words of a shot.",
                ),
                PICTURES.Input("before", optional=True, tooltip="The pictures before this one."),
            ],
            outputs=[PICTURES.Output(display_name="pictures", tooltip="This picture and those before it.")],
        )

    @classmethod
    def execute(
        cls, image: Any, use: str, shot: int, caption: str, before: tuple[Picture, ...] = ()
    ) -> io.NodeOutput:
        """Write the picture to a file, and hand on all of them."""
        places, begins = folders.places(), use == FIRST_FRAME
        files = [places.scratched("picture.png", frames.png_of(each)) for each in image[:1] if begins]
        files += [places.scratched("picture.png", frames.png_of(each)) for each in image if not begins]
        added = tuple(Picture(file, shot if begins else None, caption) for file in files)
        return io.NodeOutput((*before, *added))
