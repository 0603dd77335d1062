"""The node that chooses a model, and how it is opened."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import folders
from .handles import Model, NodeError
from .wires import CATEGORY, MODEL

PROFILES = ("auto", "6gb", "8gb", "12gb", "16gb", "24gb", "32gb", "cpu")
KERNELS = ("auto", "sdpa", "cudnn", "flash", "efficient", "flash-attn-2", "flash-attn-3", "flash-attn-4", "sage")
COMPUTE = ("auto", "bf16", "fp8", "int8")
EXPERTS = ("high", "low")


class HoloCineModel(io.ComfyNode):
    """A model that renders in a process of its own."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Its inputs and outputs."""
        return io.Schema(
            node_id="HoloCineModel",
            display_name="HoloCine Model",
            category=CATEGORY,
            description="Chooses a HoloCine model. Nothing is loaded here: a process of its own renders.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=folders.model_names(),
                    default=folders.BUILT_IN,
                    tooltip="A folder with a model.json in models/holocine. holo-tiny is small and comes along.",
                ),
                io.Combo.Input(
                    "profile",
                    options=list(PROFILES),
                    default="auto",
                    tooltip="What the run may spend of this machine's memory. auto: what this card has.",
                ),
                io.Combo.Input(
                    "kernel",
                    options=list(KERNELS),
                    default="auto",
                    tooltip="What computes attention. auto: the fastest here that keeps every bit of quality.",
                ),
                io.Combo.Input(
                    "compute",
                    options=list(COMPUTE),
                    default="auto",
                    tooltip="The numbers that matrices are multiplied in. auto: what the model was stored for.",
                ),
                io.String.Input(
                    "adapters",
                    default="",
                    multiline=True,
                    tooltip="LoRAs, one a line: high=NAME.safetensors or low=NAME.safetensors:0.8. Names are those "
                    "of ComfyUI's LoRA folders, or whole paths.",
                ),
                io.Int.Input(
                    "keep_open",
                    default=120,
                    min=0,
                    max=86400,
                    tooltip="Seconds for which the model stays open after a render. Then the card is free again.",
                ),
                io.String.Input(
                    "devices",
                    default="",
                    optional=True,
                    tooltip="Cards that make one film together, such as cuda:0,cuda:1; auto: all. Empty: one card.",
                ),
            ],
            outputs=[
                MODEL.Output(
                    display_name="model", tooltip="For every node that looks at a model or renders with it."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, adapters: str | None = None) -> bool | str:
        """Whether adapters can be read, before anything runs."""
        try:
            adapters_of(adapters or "")
        except NodeError as error:
            return str(error).removeprefix("adapters: ")  # ComfyUI names the input
        return True

    @classmethod
    def fingerprint_inputs(cls, model: str, adapters: str | None = None, **_: Any) -> str:
        """Another one when the model's files are others."""
        try:
            return folders.mark_of(_files(folders.model_folder(model), adapters_of(adapters or "")))
        except NodeError as error:
            return str(error)

    @classmethod
    def execute(cls, model: str, adapters: str, keep_open: int, devices: str = "", **how: str) -> io.NodeOutput:
        """Hand on what was chosen."""
        return io.NodeOutput(chosen_model(model, adapters, keep_open, devices, **how))


def chosen_model(model: str, adapters: str, keep_open: int, devices: str = "", **how: str) -> Model:
    """The model of some inputs. Raises `NodeError`."""
    folder, lora = folders.model_folder(model), adapters_of(adapters)
    options = {**how, "lora": lora, **_together(devices)}
    return Model(folder, options, keep_open, folders.mark_of(_files(folder, lora)))


def adapters_of(text: str) -> dict[str, list[tuple[str, float]]]:
    """Adapters by expert, with their strengths, as an order has them. Raises `NodeError`."""
    found: dict[str, list[tuple[str, float]]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        expert, _, rest = line.partition("=")
        if expert not in EXPERTS or not rest:
            raise NodeError(f"adapters: {line!r}: write high=NAME.safetensors or low=NAME.safetensors:0.8")
        name, strength = _strength(rest)
        found.setdefault(f"{expert}_noise", []).append((folders.adapter_file(name), strength))
    return found


def _together(devices: str) -> dict[str, list[str]]:
    """Devices by their names. None are no part of an order: a film without them keeps its name."""
    names = list(filter(None, map(str.strip, devices.split(","))))
    return {"devices": names} if names else {}


def _strength(text: str) -> tuple[str, float]:
    name, colon, number = text.rpartition(":")
    try:
        return (name, float(number)) if colon and name else (text, 1.0)
    except ValueError:  # the colon of a drive
        return text, 1.0


def _files(folder: str | None, lora: dict[str, list[tuple[str, float]]]) -> list[str]:
    manifest = [f"{folder}/{folders.MANIFEST}"] if folder is not None else []
    return [*manifest, *(file for each in lora.values() for file, _ in each)]
