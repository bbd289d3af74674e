"""Events: what a stage emits, and how sinks share them."""

from __future__ import annotations

import pytest

from leadline.events import SILENT, Event, Fanout, stage


class Kept:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


def test_a_stage_emits_its_start_and_its_finish() -> None:
    kept = Kept()
    with stage(kept, "extract", "reading", total=12, unit="rows"):
        assert [event.kind for event in kept.events] == ["start"]
        kept.emit(Event("progress", "extract", done=5, total=12))
    start, progress, finish = kept.events
    assert (start.kind, start.stage, start.message, start.total, start.unit) == (
        "start",
        "extract",
        "reading",
        12,
        "rows",
    )
    assert progress.done == 5
    assert (finish.kind, finish.done, finish.total) == ("finish", 12, 12)
    assert finish.seconds is not None
    assert finish.seconds >= 0
    assert start.seconds is None


def test_a_stage_that_raises_does_not_finish() -> None:
    kept = Kept()
    with pytest.raises(KeyError), stage(kept, "extract"):
        raise KeyError("lost")
    assert [event.kind for event in kept.events] == ["start"]


def test_events_of_a_fanout_reach_every_sink_in_order() -> None:
    one, two = Kept(), Kept()
    fanout = Fanout(one, two)
    sent = [Event("note", "study", "a"), Event("warning", "study", "b")]
    for event in sent:
        fanout.emit(event)
    assert one.events == sent
    assert two.events == sent


def test_silence_takes_everything() -> None:
    with stage(SILENT, "sweep", total=3):
        SILENT.emit(Event("warning", "sweep", "unheard"))


def test_events_share_no_data() -> None:
    assert Event("note", "a").data is not Event("note", "a").data
