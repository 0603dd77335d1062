"""Compiles Triton's kernels for cards that are not here, and reads what the compiler says of them."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import triton
from thorough import THOROUGH
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

# Compute capabilities: A100, RTX 40, H100, B200, RTX 50. An RTX 30 has the instructions of an A100 and the shared
# memory of an RTX 40.
CARDS = (80, 89, 90, 100, 120, *((86,) if THOROUGH else ()))
TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"


@dataclass(frozen=True)
class Made:
    """A compiled kernel: its instructions for a virtual machine, what it is for the card, and its shared memory."""

    ptx: str
    cubin: bytes
    shared: int

    def widths(self, access):
        """The bytes of each access of a kind, `ld.global` or `st.global`."""
        found = re.findall(rf"{re.escape(access)}\S*?(?:\.v(\d))?\.[bfsu](\d+)\s", self.ptx)
        return [int(count or 1) * int(bits) // 8 for count, bits in found]

    def usage(self):
        """Registers of a thread, and bytes of memory that take what did not fit into them."""
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(self.cubin)
            file.flush()
            command = [TOOLS / "cuobjdump", "-res-usage", file.name]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = re.search(r"REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)", said)
        assert found, said
        registers, stack, local = map(int, found.groups())
        return registers, stack + local


def compiled(kernel, types, constants, capability, **options):
    """A kernel for a card. types: of what is no constant; pointers, strides and numbers are multiples of 16."""
    names = kernel.arg_names
    absent = {name: None for name in names if name not in types and name not in constants}
    constants = constants | absent
    aligned = [name for name in names if name not in constants and types[name] != "fp32"]
    source = ASTSource(
        fn=kernel,
        signature={name: "constexpr" if name in constants else types[name] for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return Made(made.asm["ptx"], made.asm["cubin"], made.metadata.shared)
