"""Progress events: the library emits them, the command line draws them.

A function that works for long takes `events: EventSink = SILENT` and emits. A sink must be cheap and must not raise.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["SILENT", "Event", "EventSink", "Fanout", "stage"]


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Parameters
    ----------
    kind : `"start"`, `"progress"`, `"finish"` (of a stage), `"note"` or `"warning"`.
    stage : the stage's name, as in `"extract"`.
    message : for a person.
    done, total, unit : how far a stage is, as in 120 of 1,496 `rows`; `total` is None where it is not known.
    seconds : how long a finished stage took.
    data : further figures, ready for JSON.
    """

    kind: str
    stage: str
    message: str = ""
    done: int = 0
    total: int | None = None
    unit: str = ""
    seconds: float | None = None
    data: dict[str, object] = field(default_factory=dict)
    time: float = field(default_factory=time.time)


class EventSink(Protocol):
    """What receives events."""

    def emit(self, event: Event) -> None:
        """Take one event; quickly, and without raising."""
        ...


class _Silent:
    def emit(self, event: Event) -> None:
        pass


SILENT: EventSink = _Silent()


class Fanout:
    """A sink that passes each event on to several."""

    def __init__(self, *sinks: EventSink) -> None:
        self.sinks = sinks

    def emit(self, event: Event) -> None:
        for sink in self.sinks:
            sink.emit(event)


@contextmanager
def stage(events: EventSink, name: str, message: str = "", total: int | None = None, unit: str = "") -> Iterator[None]:
    """Emit `start` and, unless the body raises, `finish` with the seconds between."""
    began = time.perf_counter()
    events.emit(Event("start", name, message, total=total, unit=unit))
    yield
    events.emit(
        Event("finish", name, message, done=total or 0, total=total, unit=unit, seconds=time.perf_counter() - began)
    )
