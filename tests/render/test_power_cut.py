"""Nothing of a run is removed before what takes its place is on the disk."""

from durable import recorded

from holo_lite import ModelOptions, Options, Pipeline, Shot, Storyboard

BOARD = Storyboard("[character1] is a red circle.", (Shot("Wide shot of [character1]."), Shot("Close-up.")))
SMALL = Options(frames=5, height=16, width=16, steps=2, cfg=1.0)


def test_a_run_is_removed_once_its_video_and_sheet_are_on_the_disk(tmp_path, monkeypatch):
    video = tmp_path / "new" / "v.mp4"
    events = Pipeline.load(options=ModelOptions(device="cpu")).generate(
        BOARD, video, SMALL, run=tmp_path / "new" / "v.mp4.run"
    )
    calls = recorded(monkeypatch)
    list(events)
    written = calls.index("replace v.mp4"), calls.index("replace v.png")
    removed = min(place for place, call in enumerate(calls) if call == "unlink run.json" and place > written[0])
    for place in written:
        assert calls[place - 1 : place + 2] == ["fsync file", calls[place], "fsync folder"]
        assert place + 1 < removed
    assert not (tmp_path / "new" / "v.mp4.run").exists()
