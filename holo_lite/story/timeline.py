"""When each shot begins: from durations, from cuts, or from an even split.

There are three ways to time a storyboard, and one is used at a time: a duration on every shot, a list
of cut frames, or nothing. The model begins a shot only at a frame of the form 4t+1 (see ``shots``), so
what was requested is rounded, and every rounding is reported in a note. The reference drops cuts that are out
of range or fall together, and the video then has fewer shots than captions; here that is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from holo_lite.errors import StoryboardError
from holo_lite.story.shots import FRAMES_PER_LATENT, even_cuts, latent_frames, round_frames
from holo_lite.story.storyboard import Shot, Storyboard, naming

TRAINED_FRAMES = 241
MOST_FRAMES = 14_401  # 16 minutes: six million tokens at 832×480, beyond any one card
SAFE_SPACING = 5  # two cuts this far apart never round to one; four apart may (7 and 11 both give 9)


@dataclass(frozen=True)
class Timeline:
    """The length and the cuts as the model will have them, and what was changed to get there.

    ``num_frames`` and every cut are of the form 4t+1; a cut is the first frame of a shot, counted
    from 0. ``notes`` are for the person, one line each. ``asked`` is the length and the cuts before
    they were rounded; cuts of an even split were not asked for.
    """

    num_frames: int
    cuts: tuple[int, ...]
    notes: tuple[str, ...]
    asked: tuple[int, ...] = field(default=(), compare=False)

    @property
    def shot_frames(self) -> list[tuple[int, int]]:
        """First frame and the one after the last, of each shot."""
        return list(pairwise((0, *self.cuts, self.num_frames)))


def resolve_timeline(
    storyboard: Storyboard,
    *,
    default_frames: int,
    fps: float,
    frames: int | None = None,
    cuts: tuple[int, ...] | None = None,
) -> Timeline:
    """Decide the length in frames and the first frame of every shot.

    ``frames`` and ``cuts`` come from the command line and go before the storyboard's own;
    ``default_frames`` is the length if none is given; ``fps`` turns seconds into frames.

    Raises:
        StoryboardError: two ways of timing at once, durations on some shots only, or frames, cuts
            and captions that do not fit together.
    """
    with naming(storyboard.source):
        if any(shot.frames is not None or shot.seconds is not None for shot in storyboard.shots):
            if cuts is not None or storyboard.cuts is not None:
                raise StoryboardError("there are both cuts and durations on the shots; remove one of the two")
            length, asked = _from_durations(storyboard.shots, fps)
            _check_agreement(length, frames, "--frames")
            _check_agreement(length, storyboard.frames, "frames")
            _check_durations(storyboard.shots, fps, length, asked)
            return _timeline(length, asked, storyboard.shot_count, fps)
        length = _first_given(frames, storyboard.frames, default_frames)
        return _timeline(length, storyboard.cuts if cuts is None else cuts, storyboard.shot_count, fps)


def asked_durations(storyboard: Storyboard, fps: float) -> tuple[float, ...]:
    """How many frames each shot is asked to last, not rounded; nothing if the shots have no durations.

    Raises:
        StoryboardError: only some shots have a duration, or one is impossible.
    """
    if all(shot.frames is None and shot.seconds is None for shot in storyboard.shots):
        return ()
    return tuple(_frames_of(shot, number, fps) for number, shot in enumerate(storyboard.shots, start=1))


def _first_given(*lengths: int | None) -> int:
    return next(length for length in lengths if length is not None)


def _from_durations(shots: tuple[Shot, ...], fps: float) -> tuple[int, tuple[int, ...]]:
    """Return the length and the cuts that the shots' durations add up to, not rounded to 4t+1 yet.

    Fractions of a frame are carried along and rounded once a cut, so they do not pile up.
    """
    if not (math.isfinite(fps) and fps > 0):
        raise StoryboardError(f"fps {fps} cannot time the shots; set it to 15, for example")
    durations = [_frames_of(shot, number, fps) for number, shot in enumerate(shots, start=1)]
    *cuts, length = (round(end) for end in accumulate(durations))
    return length, tuple(cuts)


def _frames_of(shot: Shot, number: int, fps: float) -> float:
    if shot.frames is not None and shot.seconds is not None:
        raise StoryboardError(f"shot {number} has both frames and seconds; keep one")
    if shot.frames is None and shot.seconds is None:
        raise StoryboardError(
            f"shot {number} has neither frames nor seconds but others have; give every shot one, or none"
        )
    if shot.frames is not None:
        _check_length(shot.frames, f"frames of shot {number}")
        return shot.frames
    assert shot.seconds is not None
    return _frames_in(shot.seconds, number, fps)


def _frames_in(seconds: float, number: int, fps: float) -> float:
    longest = MOST_FRAMES / fps
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not (1 / fps <= seconds <= longest):
        shortest = f"{1 / fps:.3g} (one frame at {fps:g} fps)"
        raise StoryboardError(
            f"seconds of shot {number} is {_short(seconds)}; give a number from {shortest} to {longest:g}"
        )
    return seconds * fps


def _check_length(value: object, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_FRAMES:
        raise StoryboardError(f"{name} is {_short(value)}; give a whole number from 1 to {MOST_FRAMES}")


def _short(value: object) -> str:
    """Show a value in a message without printing thousands of digits."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge number"
    return repr(value)


def _check_agreement(total: int, frames: int | None, name: str) -> None:
    if frames is None:
        return
    _check_length(frames, name)
    if round_frames(total) != round_frames(frames):
        raise StoryboardError(
            f"the shots last {total} frames together but {name} is {frames}; "
            f"remove {name}, or the frames and seconds of the shots"
        )


def _check_durations(shots: tuple[Shot, ...], fps: float, length: int, cuts: tuple[int, ...]) -> None:
    """Refuse a shot so short that no latent frame is left for it, by its number and what is written there."""
    _check_length(length, "the length in frames")
    edges = (0, *map(round_frames, cuts), round_frames(length))
    for number, (shot, (begin, end)) in enumerate(zip(shots, pairwise(edges), strict=True), start=1):
        if begin >= end:
            raise StoryboardError(
                f"shot {number} lasts {_duration(shot, number, fps)}, too short to keep a frame of its own once "
                f"its ends are rounded to 1, 5, 9, 13, …; give it at least {SAFE_SPACING} frames "
                f"({SAFE_SPACING / fps:.2g} s)"
            )


def _duration(shot: Shot, number: int, fps: float) -> str:
    """A shot's duration as it is written, and in frames."""
    frames = _frames_of(shot, number, fps)
    said = "1 frame" if frames == 1 else f"{frames:.3g} frames"
    return said if shot.seconds is None else f"{shot.seconds:g} s ({said} at {fps:g} fps)"


def _timeline(length: int, asked: tuple[int, ...] | None, shots: int, fps: float) -> Timeline:
    """Round the length and the cuts asked for (None: an even split), check them, and note changes."""
    _check_length(length, "the length in frames")
    num_frames = round_frames(length)
    _check_room(num_frames, shots)
    cuts = _even(num_frames, shots) if asked is None else _rounded(asked, num_frames, shots)
    before = (length, *(asked or ()))
    return Timeline(num_frames, cuts, tuple(_notes(before, num_frames, cuts, fps)), before)


def _notes(asked: tuple[int, ...], num_frames: int, cuts: tuple[int, ...], fps: float) -> Iterator[str]:
    """What was rounded, on one line, and a length beyond the trained one."""
    length, *before = asked
    changed = [f"length {length} → {num_frames}"] if num_frames != length else []
    changed += [f"cut {old} → {new}" for old, new in zip(before, cuts, strict=False) if old != new]
    if changed:
        yield f"rounded {', '.join(changed)}: cuts and length must be 1, 5, 9, 13, …"
    if num_frames > TRAINED_FRAMES:
        yield f"{num_frames} frames are longer than the model was trained for ({trained_text(fps)})"


def trained_text(fps: float) -> str:
    """The trained length in frames and seconds: ``241 frames, 16.1 s at 15 fps``."""
    return f"{TRAINED_FRAMES} frames, {TRAINED_FRAMES / fps:.1f} s at {fps:g} fps"


def _check_room(num_frames: int, shots: int) -> None:
    if shots > latent_frames(num_frames):
        raise StoryboardError(
            f"{shots} shots do not fit into {num_frames} frames ({latent_frames(num_frames)} latent frames, "
            f"and each shot needs one); use fewer shots or at least {roomy_frames(shots)} frames"
        )


def roomy_frames(shots: int) -> int:
    """Return a length 4t+1 into which `shots` shots fit evenly."""
    return FRAMES_PER_LATENT * math.ceil((SAFE_SPACING * shots - 1) / FRAMES_PER_LATENT) + 1


def _even(num_frames: int, shots: int) -> tuple[int, ...]:
    cuts = even_cuts(num_frames, shots)
    if any(a >= b for a, b in pairwise((0, *cuts, num_frames))):
        raise StoryboardError(
            f"{shots} shots cannot be spread evenly over {num_frames} frames: some cuts would be the same; "
            f"use fewer shots, at least {roomy_frames(shots)} frames, or your own cuts"
        )
    return cuts


def _rounded(asked: tuple[int, ...], num_frames: int, shots: int) -> tuple[int, ...]:
    """Return the cuts rounded to 4t+1, once they are in order, inside the video and apart."""
    if len(asked) != shots - 1:
        raise StoryboardError(
            f"{shots} shots need {shots - 1} cuts but there are {len(asked)}; "
            f"a cut is the first frame of each shot after shot 1"
        )
    for cut in asked:
        _check_cut(cut, num_frames)
    for earlier, later in pairwise(asked):
        _check_order(earlier, later)
    cuts = tuple(round_frames(cut) for cut in asked)
    for number, (a, b) in enumerate(pairwise(cuts), start=2):
        if a == b:
            raise StoryboardError(
                f"cuts {asked[number - 2]} and {asked[number - 1]} both round to {a}, which leaves shot "
                f"{number} without frames; give it at least {SAFE_SPACING} frames"
            )
    return cuts


def _check_cut(cut: object, num_frames: int) -> None:
    if isinstance(cut, bool) or not isinstance(cut, int):
        raise StoryboardError(f"cut {cut!r} is not a whole number; a cut is the first frame of a shot")
    last = num_frames - FRAMES_PER_LATENT
    if not 0 < cut < num_frames or round_frames(cut) > last:
        raise StoryboardError(
            f"cut {_short(cut)} leaves a shot without frames in a video of {num_frames}; cuts go from 1 to {last}"
        )


def _check_order(earlier: int, later: int) -> None:
    if earlier == later:
        raise StoryboardError(f"cut {later} is given twice; every shot begins at its own frame")
    if earlier > later:
        raise StoryboardError(f"cut {later} comes after {earlier}; write the cuts in ascending order")
