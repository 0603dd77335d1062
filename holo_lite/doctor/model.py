"""A model's folder, whole or not, and the profile a run here would take."""

from __future__ import annotations

from pathlib import Path

from holo_lite.config import Attention
from holo_lite.doctor.facts import ModelFacts, ProfileFacts
from holo_lite.errors import CheckpointError
from holo_lite.plan.machine import Machine, this_machine


def machine() -> Machine:
    """The memory of this machine and its card."""
    return this_machine()


def model(folder: Path, attention: Attention | None = None) -> ModelFacts:
    """Open a folder as a run would, and check names, shapes and lengths of all its files."""
    from holo_lite.opening.checks import check_runnable, find_model
    from holo_lite.plan.opened import folder_sizes
    from holo_lite.weights.manifest import is_converted

    try:
        found = find_model(folder, attention)
        check_runnable(found)
        scheme = folder_sizes(found).scheme
    except CheckpointError as error:
        return ModelFacts(folder, problem=str(error))
    return ModelFacts(folder, found.attention, scheme, is_converted(found.high_noise))


def choice(folder: Path | None, attention: Attention | None = None) -> ProfileFacts:
    """What ``--profile auto`` takes for the model, or without one for the scheme that suits the machine."""
    from holo_lite.config import Defaults
    from holo_lite.plan.choose import choose_profile, pick_profile
    from holo_lite.plan.opened import folder_sizes
    from holo_lite.plan.phases import ClipRequest
    from holo_lite.plan.released import released_sizes
    from holo_lite.plan.search import Problem
    from holo_lite.story.shots import ShotLayout, even_cuts
    from holo_lite.system.device import pick_device

    if folder is not None:
        from holo_lite.opening.checks import find_model

        opened = find_model(folder, attention)
        sizes, clip = folder_sizes(opened), opened.defaults
        found = pick_profile("auto", pick_device("auto"), sizes)
        profile, room, why = found.profile, found.machine, found.why
    else:
        room, clip = this_machine(), Defaults()
        profile, why = choose_profile(room)
        sizes = released_sizes(profile.schemes[0])
    layout = ShotLayout.from_frames(clip.frames, even_cuts(clip.frames, 1), clip.height, clip.width)
    return ProfileFacts(why, Problem(profile, sizes, ClipRequest(layout), room).fits())
