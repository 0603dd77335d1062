"""Damaged and hostile files for every reader, made from sound ones: by seed, so that a number names an input.

What is right: the reader gives something, or raises a `HoloError` of one line, and soon.
"""

import json
import os
import random
import re
import signal
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from holo_lite.errors import HoloError

SLOW = 10.0  # seconds of this process's own time for one input
NESTED = 100_000
HOSTILE_JSON = (
    *("1e400", "-1", "0", "1.5", "NaN", "Infinity", "-Infinity", "true", "null", '""', "[]", "{}", "[[]]"),
    *("9" * 25, "9" * 6000, str(2**63), str(-(2**63) - 1), '"\\ud800"', '"\\u0000"', '"\\u001b[2J"', '"a/../b"'),
    *('{"a": 1}', "[1, 2]", '"x"', "1e-320", "[" * NESTED, '{"a":' * NESTED, '"' + "x" * 100_000 + '"'),
)
HOSTILE_TOML = (
    *("nan", "inf", "-inf", "-1", "0", "1.5", "true", '""', "[]", "{}", "[[]]", "1979-05-27", "07:32:00"),
    *("9" * 25, "9" * 6000, "0x" + "f" * 5000, "0o7" * 3, str(2**63), '"\\u0000"', '"\\u001b[2J"', "{a = 1}"),
    *("[" * 5000, "{a=" * 5000, "1_000", '"' + "x" * 100_000 + '"', "'''", "[1, 2.0, 'x']"),
)
HOSTILE_TEXT = (
    *(
        "\x00",
        "\x1b[2J",
        "\u202e",
        "&#" + "9" * 5000 + ";",
        "&#x" + "f" * 5000,
        "&amp;#" + "9" * 6000,
        "[shot cut]",
    ),
    *("[global caption]", "[per shot caption]", "[GLOBAL CAPTION]", "\u2028", "{" * 1000, "\ufeff", "镜头", "\r\n"),
)
NUMBERS = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)


@dataclass(frozen=True)
class Reader:
    """A kind of file: its name, sound contents to damage, what reads one, and what kind of text it is, if any."""

    name: str
    file: str
    sound: tuple
    read: object
    kind: str = "bytes"


def damaged(reader, number):
    """The content with that number: the same for the same number, in any process."""
    chance = random.Random(f"{reader.name} {number}")
    content = chance.choice(reader.sound)
    ways = {"json": (_json, _json, _bytes), "toml": (_toml, _toml, _bytes), "text": (_text, _bytes)}
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        content = chance.choice(ways.get(reader.kind, (_bytes,)))(content, chance)
    return content


def _bytes(content, chance):
    """Change bytes, cut, repeat, or write a telling number over some."""
    found = bytearray(content)
    place = chance.randrange(len(found) + 1)
    match chance.randrange(7):
        case 0 if found:
            found[place - 1] ^= 1 << chance.randrange(8)
        case 1:
            del found[place:]
        case 2:
            found[place:place] = found[chance.randrange(len(found) + 1) :][: chance.randrange(200)]
        case 3:
            size = chance.choice((1, 2, 4, 8))
            found[place : place + size] = (chance.choice(NUMBERS) % 2 ** (8 * size)).to_bytes(size, "little")
        case 4:
            del found[place : place + chance.randrange(1, 50)]
        case 5:
            found[place : place + 4] = chance.randbytes(4)
        case _:
            found[place : place + chance.randrange(64)] = bytes(chance.randrange(64))
    return bytes(found)


def _json(content, chance):
    """Put something hostile in the place of a value, or a key beside it."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return _bytes(content, chance)
    places = list(_places(found))
    if not places:
        return chance.choice(HOSTILE_JSON).encode()
    holder, key = chance.choice(places)
    if chance.random() < 0.1 and isinstance(holder, dict):
        del holder[key]
    else:
        holder[key if chance.random() < 0.9 or isinstance(holder, list) else "un\u001bknown"] = "@hostile@"
    return json.dumps(found).replace('"@hostile@"', chance.choice(HOSTILE_JSON)).encode()


def _places(value):
    """Every place of a JSON value: what holds it, and its key or index."""
    rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in list(rows):
        yield value, key
        yield from _places(each)


def _toml(content, chance):
    """Put something hostile behind an equals sign, or as a line."""
    text = content.decode("utf-8", "replace")
    signs = [match.end() for match in re.finditer(r"= *", text)]
    if not signs or chance.random() < 0.1:
        return f"{chance.choice(('x', 'seed', 'shot', 'a.b.c'))} = {chance.choice(HOSTILE_TOML)}\n{text}".encode()
    place = chance.choice(signs)
    end = text.find("\n", place)
    return (text[:place] + chance.choice(HOSTILE_TOML) + text[end if end >= 0 else len(text) :]).encode()


def _text(content, chance):
    text = content.decode("utf-8", "replace")
    place = chance.randrange(len(text) + 1)
    return (text[:place] + chance.choice(HOSTILE_TEXT) + text[place:]).encode()


def stand_ins(path):
    """Things that are no files, put where a file is looked for; each is taken away again."""
    for make, unmake in (
        (os.mkfifo, os.unlink),
        (os.mkdir, os.rmdir),
        (lambda place: os.symlink("/dev/zero", place), os.unlink),
        (lambda place: os.symlink(place, place), os.unlink),
        (os.mknod, os.unlink),
    ):
        with suppress(FileNotFoundError):
            path.unlink()
        make(path)
        yield make
        with suppress(FileNotFoundError):  # an empty file in the cache is set aside
            unmake(path)


def fault(reader, path):
    """What is wrong with how a reader takes a file, or None."""
    try:
        with _in_time():
            reader.read(path)
    except HoloError as error:
        return None if str(error) and "\n" not in str(error) else f"more than one line: {error!r:.300}"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - everything else is what is looked for
        where = traceback.extract_tb(error.__traceback__)
        ours = [
            f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
            for frame in where
            if "holo_lite" in frame.filename
        ]
        return f"{type(error).__name__}: {str(error)[:120]} @ {ours[-1] if ours else '?'}"
    return None


class TooSlow(BaseException):
    """No reader catches it."""


@contextmanager
def _in_time():
    def late(*_):
        raise TooSlow

    before = signal.signal(signal.SIGVTALRM, late), signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, SLOW)
    signal.setitimer(signal.ITIMER_REAL, 12 * SLOW)  # for whoever waits and does nothing
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGVTALRM, before[0])
        signal.signal(signal.SIGALRM, before[1])
