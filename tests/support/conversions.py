"""A small source to convert, in the shapes that people's files have, and conversions of it, for tests."""

import shutil
from pathlib import Path

import gguf_blocks
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants
from safetensors.torch import load_file, save_file
from small_model import random_model
from whole_models import PUBLISHED as SIZES, write_vocabulary

from holo_lite.weights.converted import ConvertedFile
from holo_lite.weights.folder import open_folder
from quantize import job
from quantize.inputs import ROLES, plan_conversion
from quantize.recipe import Recipe

DATA = Path(__file__).parents[1] / "parity_data"
CPU = torch.device("cpu")
BLOCKS = SIZES.num_layers
EXPERTS = ("high_noise", "low_noise")


def expert_weights(seed=0, dtype=torch.bfloat16, sizes=SIZES):
    return {name: tensor.contiguous() for name, tensor in random_model(sizes, seed, dtype).state_dict().items()}


def encoder_weights():
    return {name: tensor.bfloat16() for name, tensor in load_file(DATA / "text_encoder.safetensors").items()}


def vae_weights():
    return load_file(DATA / "vae.safetensors")


def write_source(folder, variant="sparse"):
    """The released files by name, all of them small."""
    folder.mkdir(parents=True)
    for seed, noise in enumerate(EXPERTS):
        save_file(expert_weights(seed), folder / f"{variant}_{noise}.safetensors")
    torch.save(encoder_weights(), folder / "models_t5_umt5-xxl-enc-bf16.pth")
    torch.save(vae_weights(), folder / "Wan2.1_VAE.pth")
    write_vocabulary(folder / "tokenizer.json", len(encoder_weights()["token_embedding.weight"]))
    return folder


def is_linear(name, tensor):
    """A Linear of a block, said in other words than the converter's."""
    return (
        tensor.ndim == 2 and name.endswith(".weight") and "block" in name and "relative_attention_bias" not in name
    )


def write_gguf(path, weights):
    """The linear layers of the first block in Q8_0 and Q4_K, where the rows are long enough, the rest as it was."""
    writer, numbers = GGUFWriter(path, "wan"), {}
    for name, tensor in weights.items():
        values = tensor.float().numpy()
        kind = GGMLQuantizationType.F32
        if is_linear(name, tensor) and name.startswith("blocks.0."):
            kind = GGMLQuantizationType.Q4_K if "cross_attn" in name else GGMLQuantizationType.Q8_0
        if kind == GGMLQuantizationType.Q4_K:
            data = gguf_blocks.encode(values, "Q4_K")
        else:
            data = quants.quantize(values, kind)
        writer.add_tensor(name, data, raw_dtype=kind)
        numbers[name] = torch.from_numpy(quants.dequantize(data, kind).reshape(values.shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return numbers


def plan(source, out, scheme="nf4", *, recipe=None, attention=None, loras=None, roles=ROLES):
    folder = open_folder(source, attention)
    return plan_conversion(folder, out, recipe or Recipe(scheme), device=CPU, loras=loras, roles=roles)


def convert(source, out, scheme="nf4", **options):
    """Carry a conversion out; returns its events."""
    return list(job.run_conversion(plan(source, out, scheme, **options)))


def contents(folder):
    """Every file under a folder, by its name in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stored(out, role):
    """Everything a component stores."""
    file = ConvertedFile(out / role)
    return {name: file.load(name) for name in file.entries}


def notes(events):
    return [event.text for event in events if type(event).__name__ == "Note"]


def copied(source, to):
    return Path(shutil.copytree(source, to))
