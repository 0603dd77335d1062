"""What a person wants to see: a storyboard of shots, and the one string the model reads.

HoloCine was trained on prompts of one shape, and finds in them what each shot may read:

    [global caption] … [per shot caption] shot 1 [shot cut] shot 2 [shot cut] …

The global caption is read by every shot, a shot's own caption only by that shot. A storyboard holds
either the captions in parts, from which ``prompt`` builds the string, or the string itself, ``raw``.
A storyboard that exists is well formed: the checks run when it is made. When its shots begin and how
long they last is decided in ``timeline``, since the command line has a say in it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from holo_lite.errors import HoloError, PromptError, StoryboardError
from holo_lite.reading import values
from holo_lite.story.prompt import CUT_TAG, GLOBAL_TAG, PER_SHOT_TAG, TAG, caption_spans, clean, misspelt_tag

T = TypeVar("T")
N = TypeVar("N", "Shot", "Reference")
FOLDERS = re.compile(r".*[/\\]", re.DOTALL)
COUNTED = re.compile(r"This scene contains \d+ shots?\b")
Readers = Mapping[str, Callable[[str, object, type[HoloError]], object]]
_READERS: Readers = {
    **dict.fromkeys(("height", "width", "steps", "seed"), values.whole),
    **dict.fromkeys(("fps", "cfg"), values.real),
    **dict.fromkeys(("global_caption", "raw", "title", "negative", "source"), values.text),
    "cuts": values.several,  # what is wrong with one, or with a length, the timeline says
}


@dataclass(frozen=True)
class Shot:
    """One shot: what is seen in it, and how long it lasts in ``frames`` or in ``seconds``, or neither.

    ``image`` is the path of a picture with which it begins; in its place ``video`` names a video, as ``Reference``
    does, with whose picture it begins.

    Raises:
        StoryboardError: the caption is not a text, or both a picture and a video are given.
    """

    caption: str
    frames: int | None = None
    seconds: float | None = None
    image: str | None = None
    video: str | None = None

    def __post_init__(self) -> None:
        values.text("caption", self.caption, StoryboardError)
        _check_files(self.image, self.video, "a shot begins with one picture")

    @property
    def remembered(self) -> Reference | None:
        """The shot of memory that holds the picture with which this one begins."""
        if self.image is None and self.video is None:
            return None
        return Reference(self.caption, self.image, self.video)


@dataclass(frozen=True)
class Reference:
    """A shot that the model sees and the video does not show, to show it how somebody looks.

    ``image`` is the path of a picture, or ``video`` that of a video: ``old.mp4#2`` is its second shot,
    ``old.mp4#m1`` the first of those that it was made from and does not show, ``old.mp4`` alone its beginning.
    ``caption`` says what is seen.

    Raises:
        StoryboardError: the caption is not a text, or not exactly one of picture and video is given.
    """

    caption: str
    image: str | None = None
    video: str | None = None

    def __post_init__(self) -> None:
        values.text("caption", self.caption, StoryboardError)
        _check_files(self.image, self.video, "a reference is one picture")
        if self.image is None and self.video is None:
            raise StoryboardError("a reference has neither a picture nor a video; give image = or video =")

    @property
    def file(self) -> str:
        """What is given, a picture or a video with its shot."""
        return self.image or self.video or ""


@dataclass(frozen=True)
class Storyboard:
    """The shots of one scene, their timing, and the other settings it gives (None: not given).

    ``global_caption`` is read by all shots. ``cuts`` are the first frames of all shots but the first,
    counted from 0; ``frames`` is the length of the whole video. ``raw`` is a whole prompt in place of
    captions. ``title`` is for people; ``height`` and ``width`` are pixels, ``fps`` frames a second,
    ``steps``, ``cfg``, ``seed`` and ``negative`` as in ``Options``, which goes before them. ``references`` are
    shots that the model sees and the video does not show. ``source`` is the file it came from: paths of pictures
    are relative to its folder, and messages name it.

    Raises:
        StoryboardError: a caption is empty or holds a tag, there is no shot or no global caption, or
            the tags of ``raw`` are in no order the model knows; or a value is of another type.
    """

    global_caption: str | None
    shots: tuple[Shot, ...]
    cuts: tuple[int, ...] | None = None
    frames: int | None = None
    raw: str | None = None
    title: str | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None
    steps: int | None = None
    cfg: float | None = None
    seed: int | None = None
    negative: str | None = None
    references: tuple[Reference, ...] = ()
    source: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        # callers without a type checker may pass lists
        object.__setattr__(self, "shots", _all_of(Shot, 'shots such as Shot("A fox runs.")', self.shots))
        example = 'references such as Reference("A fox.", image="fox.png")'
        object.__setattr__(self, "references", _all_of(Reference, example, self.references))
        _read(self, _READERS)
        for text in (self.title, self.negative):
            _check_characters(text or "")
        for number, reference in enumerate(self.references, start=1):
            _check_caption(reference.caption, f"reference {number}")
        if self.raw is None:
            _check_captions(self.global_caption, self.shots)
            _split_prompt(self.prompt)  # cleaned as a whole, a caption of broken Unicode can vanish yet
        elif self.shots or self.global_caption is not None:
            raise StoryboardError("a whole prompt and separate captions are given; keep one of the two")
        else:
            _split_prompt(self.raw)

    @property
    def prompt(self) -> str:
        """The string the model reads: captions of the memory first; with ``raw`` alone, that as it was given."""
        memory = self.memory
        if self.raw is not None and not memory:
            return self.raw
        captions = [*(_one_line(reference.caption) for reference in memory), *self.shot_captions()]
        scene = _counting(self.scene, len(captions)) if memory else self.scene
        if "This scene contains" not in scene:
            scene += f" This scene contains {len(captions)} shots."
        return f"{GLOBAL_TAG} {scene} {PER_SHOT_TAG} " + f" {CUT_TAG} ".join(captions)

    @property
    def untagged(self) -> str:
        """The text of all captions without any tag, for a model that knows none: the scene, then the shots."""
        if self.raw is not None and not _split_prompt(self.raw)[1]:
            return self.scene
        return " ".join([self.scene, *self.shot_captions()])

    @property
    def memory(self) -> tuple[Reference, ...]:
        """All shots that the model sees before the first: references, then the pictures with which shots begin."""
        return *self.references, *(shot.remembered for shot in self.shots if shot.remembered is not None)

    @property
    def scene(self) -> str:
        """What all shots share, on one line: the global caption, or a prompt's text without any tag."""
        return _one_line(self.global_caption or "") if self.raw is None else _split_prompt(self.raw)[0]

    @property
    def shot_count(self) -> int:
        """How many shots the captions describe."""
        return len(self.shot_captions())

    def shot_captions(self) -> list[str]:
        """Return one caption a shot on one line each; for a prompt without shots, the text itself."""
        if self.raw is None:
            return [_one_line(shot.caption) for shot in self.shots]
        scene, captions = _split_prompt(self.raw)
        return captions or [scene]

    def with_images(self, images: Mapping[int, str]) -> Storyboard:
        """The same with pictures with which shots begin, by the numbers of these, from 1. A prompt is taken apart.

        Raises `StoryboardError` for a shot that is not there, or has a picture already.
        """
        if not images:
            return self
        shots = list(self.shots or (Shot(caption) for caption in self.shot_captions()))
        for number, path in images.items():
            if not 1 <= number <= len(shots):
                raise StoryboardError(f"shot {number} is to begin with {path}, and there are {len(shots)} shots")
            if shots[number - 1].remembered is not None:
                raise StoryboardError(f"shot {number} has two pictures; keep one")
            shots[number - 1] = dataclasses.replace(shots[number - 1], image=path)
        return dataclasses.replace(self, global_caption=self.scene, shots=tuple(shots), raw=None)

    def without_folders(self) -> Storyboard:
        """The same with bare names for its files and no source: where they lie is nobody else's business."""
        shots = tuple(_bare(shot) for shot in self.shots)
        return dataclasses.replace(self, shots=shots, references=tuple(map(_bare, self.references)), source=None)

    def with_captions(self, captions: Sequence[str]) -> Storyboard:
        """The same with other captions of its shots, one each; of a whole prompt the rest stays as it is.

        Raises `StoryboardError` for a caption that no shot can have.
        """
        assert len(captions) == self.shot_count, f"{len(captions)} captions for {self.shot_count} shots"
        if self.raw is None:
            shots = (dataclasses.replace(s, caption=c) for s, c in zip(self.shots, captions, strict=True))
            return dataclasses.replace(self, shots=tuple(shots))
        for number, caption in enumerate(captions, start=1):
            _check_caption(caption, f"shot {number}")
        told = f" {CUT_TAG} ".join(_one_line(caption) for caption in captions)
        return dataclasses.replace(self, raw=f"{GLOBAL_TAG} {self.scene} {PER_SHOT_TAG} {told}")


def _read(record: object, readers: Readers) -> None:
    """Give a record's fields the types they must have; None stays. Raises `StoryboardError`."""
    for name, read in readers.items():
        if (value := getattr(record, name)) is not None:
            object.__setattr__(record, name, read(name, value, StoryboardError))


def _all_of(kind: type[T], example: str, found: object) -> tuple[T, ...]:
    each = tuple(found) if isinstance(found, Iterable) else (found,)
    for one in each:
        if not isinstance(one, kind):
            raise values.wrong(example.split()[0], one, example, StoryboardError)
    return each


def _bare(named: N) -> N:
    """A shot or reference with the names of its files alone."""
    image, video = (path and FOLDERS.sub("", path) for path in (named.image, named.video))
    return dataclasses.replace(named, image=image, video=video)


def _check_files(image: object, video: object, rule: str) -> None:
    """Raise `StoryboardError` for a path that is no text, and where both a picture and a video are named."""
    for name, path in (("image", image), ("video", video)):
        if path is not None and not values.text(name, path, StoryboardError).strip():
            raise StoryboardError(f"{name} is empty; name a file")
    if image is not None and video is not None:
        raise StoryboardError(f"both image and video are given, but {rule}; keep one")


def _counting(scene: str, shots: int) -> str:
    """A global caption that counts so many shots, where it counts them."""
    return COUNTED.sub(f"This scene contains {shots} shots", scene)


@contextmanager
def naming(source: str | None) -> Iterator[None]:
    """Put the name of the file before the message of any StoryboardError raised inside."""
    try:
        yield
    except StoryboardError as error:
        if source is None:
            raise
        raise StoryboardError(f"{_one_line(source)}: {error}") from None


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _check_captions(scene: str | None, shots: tuple[Shot, ...]) -> None:
    if not shots:
        raise StoryboardError("there are no shots; add a [[shot]] with a caption for each")
    if scene is None or not scene.strip():
        raise StoryboardError(
            "there is no global caption; add global = '…' with the characters and the place all shots share"
        )
    _check_caption(scene, "the global caption")
    for number, shot in enumerate(shots, start=1):
        _check_caption(shot.caption, f"shot {number}")


def _check_caption(caption: str, owner: str) -> None:
    _check_characters(caption)
    text = clean(_one_line(caption))
    if not text:
        raise StoryboardError(f"{owner} has an empty caption; describe what is seen in it")
    tag, slip = TAG.search(text), misspelt_tag(text)
    if tag or slip:
        held = tag[0] if tag else slip[0] if slip else ""
        raise StoryboardError(f"{owner} contains the tag {held}; remove it, tags are added for you")


def _check_characters(text: str) -> None:
    """Refuse a lone surrogate, half a character: JSON can spell one, but no file can hold it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        raise StoryboardError(f"the text contains {half}, half of a character; remove or complete it") from None


def _split_prompt(raw: str) -> tuple[str, list[str]]:
    """Take a whole prompt apart into the text all shots share and one caption a shot.

    Text without tags, and a global caption alone, have no captions and are one shot.
    """
    _check_characters(raw)
    cleaned = clean(raw)
    if not cleaned:
        raise StoryboardError("the prompt is empty; describe the scene")
    try:
        spans = caption_spans(cleaned)
    except PromptError as error:
        raise StoryboardError(str(error)) from None
    if spans is None:
        return cleaned, []
    scene, *captions = (
        TAG.sub("", cleaned[start:end]).strip() for start, end in (spans.global_span, *spans.shot_spans)
    )
    if not scene:
        raise StoryboardError(f"{GLOBAL_TAG} has no text after it; write what all shots share")
    return scene, captions
