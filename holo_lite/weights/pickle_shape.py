"""What a pickle would build, worked out without building it.

A checkpoint is a dict of tensors: flat, with keys that are texts. A few bytes of a pickle can ask for much else:
for nesting that no parser survives, or for a key whose hash takes until the end of the world, by naming what came
before twice, sixty times over. So its opcodes are walked first, and a value is no more than how deep and how large
it is.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass

DEEPEST = 64  # a tensor in a dict in a dict has ten
MOST_PARTS = 50_000_000  # of all values, with what they name written out; a model of 14B has a hundred thousand
MOST_STEPS = 10_000_000
LARGEST = 64 * 2**20  # bytes of a pickle; those of models have less than one
TEXTS = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
PLAIN = TEXTS | {
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT"),
    *("BINFLOAT", "BINBYTES", "SHORT_BINBYTES", "GLOBAL", "EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "PERSID"),
}
FIXED_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
NOTHING = {"PROTO", "FRAME"}


@dataclass
class Value:
    """A value as the walk knows it. Containers grow."""

    depth: int = 1
    parts: int = 1
    is_text: bool = False

    def take(self, *others: Value) -> Value:
        """Hold other values, too."""
        self.depth = max(self.depth, *(1 + other.depth for other in others), 1) if others else self.depth
        self.parts += sum(other.parts for other in others)
        return self


class _Mark(Value):
    """Where a row of values begins on the stack."""


def check_pickle(content: bytes) -> None:
    """Raise `ValueError` for a pickle that holds more than texts, numbers, tensors and flat containers."""
    if len(content) > LARGEST:
        raise ValueError("is larger than that of any model")
    walk = _Walk()
    for step, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if step > MOST_STEPS:
            raise ValueError("has more steps than that of any model")
        walk.step(opcode.name, argument)


class _Walk:
    """The stack and the memory of an unpickler, with values that are only measured."""

    def __init__(self) -> None:
        self.stack: list[Value] = []
        self.memo: dict[int, Value] = {}

    def step(self, name: str, argument: object) -> None:
        """One opcode. Raises `ValueError`, or `LookupError` for a stack that is too short."""
        if name in NOTHING or name == "STOP":
            return
        if name in PLAIN:
            self.stack.append(Value(is_text=name in TEXTS))
        elif name == "MARK":
            self.stack.append(_Mark())
        elif name in {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}:
            self.memo[len(self.memo) if name == "MEMOIZE" else _number(argument)] = self.stack[-1]
        elif name in {"GET", "BINGET", "LONG_BINGET"}:
            self.stack.append(self.memo[_number(argument)])
        else:
            self._build(name)

    def _build(self, name: str) -> None:
        if name in FIXED_TUPLES or name in {"TUPLE", "LIST", "DICT"}:
            held = self._pop(FIXED_TUPLES[name]) if name in FIXED_TUPLES else self._row()
            self._check_keys(held if name == "DICT" else [])
            self._push(Value().take(*held))
        elif name in {"APPEND", "APPENDS", "SETITEM", "SETITEMS"}:
            held = self._row() if name.endswith("S") else self._pop(2 if name == "SETITEM" else 1)
            self._check_keys(held if name.startswith("SET") else [])
            self._push(self._pop(1)[0].take(*held))
        elif name in {"REDUCE", "NEWOBJ", "BUILD", "BINPERSID"}:  # what may be called is the unpickler's business
            held = self._pop(1 if name == "BINPERSID" else 2)
            self._push(held[0].take(*held[1:]) if name == "BUILD" else Value().take(*held))
        elif name in {"POP", "POP_MARK", "DUP"}:
            self._shuffle(name)
        else:
            raise ValueError(f"has the step {name}, which no dict of tensors needs")

    def _shuffle(self, name: str) -> None:
        if name == "POP_MARK":
            self._row()
        elif name == "POP":
            self._pop(1)
        else:
            self.stack.append(self.stack[-1])

    def _push(self, value: Value) -> None:
        if value.depth > DEEPEST or value.parts > MOST_PARTS:
            raise ValueError("holds values inside values without end")
        self.stack.append(value)

    def _pop(self, count: int) -> list[Value]:
        if len(self.stack) < count:
            raise ValueError("takes what it never put down")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def _row(self) -> list[Value]:
        """All values down to the last mark."""
        for place in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[place], _Mark):
                row = self.stack[place + 1 :]
                del self.stack[place:]
                return row
        raise ValueError("takes a row that was never begun")

    def _check_keys(self, pairs: list[Value]) -> None:
        if not all(key.is_text for key in pairs[::2]):
            raise ValueError("has keys that are no texts")


def _number(argument: object) -> int:
    if not isinstance(argument, int):
        raise ValueError("names what came before by no number")
    return argument
