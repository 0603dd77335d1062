"""Two videos as one, frame by frame as they are encoded: nothing is decoded, and nothing lost.

Both must come from the same encoder with the same settings, as videos of one size and rate do here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av

from holo_lite.errors import OutputError
from holo_lite.film.video import reading, writing
from holo_lite.system.whole_files import draft

FASTSTART = {"movflags": "faststart"}


def join_videos(first: Path, second: Path, out: Path, metadata: str) -> None:
    """Write one video behind another, with `metadata` as its own, whole or not at all.

    `out` may be one of the two. Raises `OutputError` for videos that do not fit together, or a place that cannot be
    written.
    """
    with reading(first) as one, reading(second) as other:
        streams = [container.streams.video[0] for container in (one, other)]
        _check_alike(first, second, *streams)
        with (
            draft(out) as partial,
            writing(out),
            av.open(str(partial), "w", format="mp4", options=FASTSTART) as film,
        ):
            film.metadata["comment"] = metadata
            stream = film.add_stream_from_template(streams[0])
            begin = 0
            for container, source in zip((one, other), streams, strict=True):
                begin = _append(film, stream, container, source, begin)


def _append(film: Any, stream: Any, container: Any, source: Any, begin: int) -> int:
    """Copy all packets of a video to behind `begin`, in the time base they share. Returns where it ends."""
    end = begin
    for packet in container.demux(source):
        if packet.dts is None:
            continue  # the end, which is no packet
        packet.pts, packet.dts = packet.pts + begin, packet.dts + begin
        end = max(end, packet.pts + packet.duration)
        packet.stream = stream
        film.mux(packet)
    return end


def _check_alike(first: Path, second: Path, one: Any, other: Any) -> None:
    """Raise `OutputError` for videos whose packets cannot follow each other."""
    facts = [
        (s.codec_context.name, s.width, s.height, s.pix_fmt, s.average_rate, s.time_base) for s in (one, other)
    ]
    if facts[0] != facts[1] or one.codec_context.extradata != other.codec_context.extradata:
        raise OutputError(
            f"{first}: cannot be joined with {second.name} as it is: another size, rate or encoder; "
            "join them with a video editor"
        )
