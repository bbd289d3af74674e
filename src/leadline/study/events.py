"""Sinks that a run writes or counts with."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TextIO

from leadline.errors import OutputError
from leadline.events import Event
from leadline.study.results import Stage

__all__ = ["EventLog", "StageClock"]


class EventLog:
    """Append events to a file, a JSON object a line; progress within a stage is left out."""

    def __init__(self, path: Path) -> None:
        try:
            self._file: TextIO = path.open("a", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write '{path}' ({error.strerror}); give another folder with --out.") from error

    def emit(self, event: Event) -> None:
        if event.kind != "progress":
            self._file.write(json.dumps(dataclasses.asdict(event), default=str) + "\n")
            self._file.flush()

    def close(self) -> None:
        self._file.close()


class StageClock:
    """Collect how long each stage took; stages of one name add up."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def emit(self, event: Event) -> None:
        if event.kind == "finish" and event.seconds is not None:
            self._seconds[event.stage] = self._seconds.get(event.stage, 0.0) + event.seconds

    def stages(self) -> list[Stage]:
        """The stages in the order in which they ended first."""
        return [Stage(name=name, seconds=round(seconds, 3)) for name, seconds in self._seconds.items()]
