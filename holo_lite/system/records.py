"""Records: what the program writes and reads again, today's or another version's.

A record is a frozen dataclass with a field `origin`. Its `Codec` writes it as a JSON table with two more keys, the
`version` of its shape and `runs_from`, the lowest version whose readers may run from it, and reads what any version
wrote:

    older        brought up to date, a version at a time, by the codec's `upgrades`
    this one     checked strictly: types, lengths of tuples, choices, bounds
    later        may be looked at; whoever goes on from it must be `runs_from` or later

Keys that are not known here are kept in `origin.unknown`, shown by `inspect`, and written again where they were.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import msgspec

from holo_lite.errors import HoloError, LaterRecordError, RecordError
from holo_lite.reading.trees import JsonPath, check, fault, inside, parse, path_text
from holo_lite.system.record_faults import located

Table = dict[str, Any]
Upgrade = Callable[[Table], Table]
RUNS_FROM = "runs_from"


@dataclass(frozen=True)
class Origin:
    """The version of a record, the lowest that may run from it, and what is not known here, by its path."""

    version: int
    runs_from: int
    unknown: tuple[tuple[JsonPath, Any], ...] = ()

    def lines(self) -> Iterator[str]:
        """What is not known here, as a person may read it."""
        for path, value in self.unknown:
            yield f"{path_text(path)} = {json.dumps(value)}"


FIRST = Origin(version=1, runs_from=1)


class Stored(Protocol):
    """A dataclass that has an origin."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def origin(self) -> Origin:
        """Where it comes from."""


T = TypeVar("T")
S = TypeVar("S", bound=Stored)


def convert(found: object, kind: type[T], at: JsonPath = ()) -> T:
    """Build a dataclass of what JSON made of it, strictly; keys it does not know are passed over.

    Raises `RecordError` with the path of the fault, which begins with `at`.
    """
    try:
        built = msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        why, path = located(found, kind, str(error))
        raise fault(why, (*at, *path)) from error
    except UnicodeEncodeError as error:  # where it is no text that is due
        raise fault("half of a character", at) from error
    except HoloError as error:  # of a class that checks what it is made of
        raise fault(str(error), at) from error
    _set_defaults(built)
    return built


def plain(value: object) -> Any:
    """What JSON can hold of a dataclass."""
    return msgspec.to_builtins(value, enc_hook=_as_text)


def _as_text(value: Any) -> str:
    """A path, or a text of some class of its own, as PyTorch's version is."""
    return str.__str__(value) if isinstance(value, str) else os.fspath(value)


@dataclass(frozen=True)
class Codec(Generic[S]):
    """How one kind of record is written and read.

    key: of the version; upgrades: by version, what makes the next version's table of one; parts: fields that are
    records of their own; required: fields that must be there in spite of a default; sound: raises a `HoloError` for
    a record of the right types that cannot be; finite and surrogates: as for `check`. The current version is that
    of `kind`'s default origin.
    """

    kind: type[S]
    key: str = "version"
    upgrades: Mapping[int, Upgrade] = field(default_factory=lambda: MappingProxyType({}))
    parts: Mapping[str, Codec[Any]] = field(default_factory=lambda: MappingProxyType({}))
    required: tuple[str, ...] = ()
    sound: Callable[[S], object] = lambda _: None
    finite: bool = True
    surrogates: bool = False

    @property
    def current(self) -> Origin:
        """The origin of what this version writes."""
        origin = self.kind.__dataclass_fields__["origin"].default
        assert isinstance(origin, Origin), f"{self.kind.__name__} has no default origin"
        return origin

    def write(self, record: S, indent: int | None = None) -> str:
        """The record as JSON: on one line, or indented for people."""
        separators = (",", ":") if indent is None else None
        return json.dumps(self.table(record), ensure_ascii=False, indent=indent, separators=separators)

    def table(self, record: S) -> Table:
        """The record as a table, with everything that was not known when it was read."""
        found: Table = plain(dataclasses.replace(record, origin=FIRST))
        del found["origin"]
        found |= {name: codec.table(getattr(record, name)) for name, codec in self.parts.items()}
        for path, value in record.origin.unknown:
            _put(found, path, value)
        return {self.key: record.origin.version, RUNS_FROM: record.origin.runs_from, **found}

    def read(self, text: str | bytes, *, to_run: bool = True) -> S:
        """Read a record: to run from it, or only to look at it.

        Raises `LaterRecordError` for one that this version may not run from, or cannot even look at, and
        `RecordError` for what is none.
        """
        return self.of_table(parse(text), to_run=to_run)

    def of_table(self, found: object, at: JsonPath = (), *, to_run: bool = True) -> S:
        """Read a record of the table that JSON made of it, which stands at a path. Raises as `read`."""
        if not isinstance(found, dict):
            raise fault("expected a table", at)
        check(found, at, finite=self.finite, surrogates=self.surrogates)
        origin = self._origin(found, at)
        late = LaterRecordError(
            f"was written by a later holo-lite (record version {origin.version}); update holo-lite to go on with "
            "it; it can still be inspected"
        )
        if to_run and origin.runs_from > self.current.version:
            raise late
        try:
            return self._build(self._upgraded(found, origin.version), origin, at, to_run=to_run)
        except RecordError as error:
            if origin.version > self.current.version:
                raise late from error
            raise

    def _origin(self, found: Table, at: JsonPath) -> Origin:
        version = _version(found, self.key, at)
        named = RUNS_FROM in found  # the first records named none
        return Origin(version, _version(found, RUNS_FROM, at) if named else version)

    def _upgraded(self, found: Table, version: int) -> Table:
        """The table in this version's shape, without its versions. An upgrade may trust nothing in it."""
        for older in range(version, self.current.version):
            try:
                found = self.upgrades[older](found)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raise fault(f"not of version {older} ({error!r})", ()) from error
        return {key: value for key, value in found.items() if key not in {self.key, RUNS_FROM}}

    def _build(self, table: Table, origin: Origin, at: JsonPath, *, to_run: bool) -> S:
        built = {
            name: codec.of_table(table[name], (*at, name), to_run=to_run)
            for name, codec in self.parts.items()
            if name in table
        }
        known = {key: value for key, value in table.items() if key != "origin"}
        known |= {name: self.parts[name].table(part) for name, part in built.items()}
        for name in self.required:
            if name not in known:
                raise fault(f"object missing required field '{name}'", at)
        record = convert(known, self.kind, at)
        try:
            self.sound(record)
        except HoloError as error:
            raise fault(str(error), at) from error
        kept = {**plain(record), **{name: table[name] for name in built}}
        unknown = tuple(_unknown(table, {key: value for key, value in kept.items() if key != "origin"}))
        version, runs_from = self.current.version, self.current.runs_from
        if origin.version > version:
            version, runs_from = origin.version, origin.runs_from
        return dataclasses.replace(record, origin=Origin(version, runs_from, unknown), **built)


def _version(found: Table, key: str, at: JsonPath) -> int:
    version = found.get(key)
    if type(version) is int and version > 0:
        return version
    raise fault(f"{version!a:.40} is no version" if key in found else f"there is no '{key}'", at)


def _set_defaults(built: object) -> None:
    """Give dataclasses their own copy of each default: msgspec leaves it to the class, where `vars` misses it."""
    if dataclasses.is_dataclass(built):
        for each in dataclasses.fields(built):
            value = getattr(built, each.name)
            vars(built).setdefault(each.name, value)
            _set_defaults(value)
    for _, value in inside(built):
        _set_defaults(value)


def _unknown(found: object, known: object, path: JsonPath = ()) -> Iterator[tuple[JsonPath, Any]]:
    """What a table holds that a record made of it does not."""
    kept = dict(inside(known))
    for key, value in inside(found):
        if key in kept:
            yield from _unknown(value, kept[key], (*path, key))
        else:
            yield (*path, key), value


def _put(table: Table, path: JsonPath, value: object) -> None:
    """Put a value back to where it was, if the table around it is still there."""
    *way, last = path
    place: object = table
    for key in way:
        place = dict(inside(place)).get(key)
    if isinstance(place, dict):
        place.setdefault(last, value)
