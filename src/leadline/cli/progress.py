"""Progress on stderr: bars with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

from leadline.cli.output import plain
from leadline.events import Event, EventSink

__all__ = ["Bars", "Lines", "progress"]

# A log gets a line of progress of one stage at most this often, in seconds.
_EVERY = 10.0


@contextmanager
def progress(quiet: bool = False) -> Iterator[EventSink]:
    """Yield the sink that fits stderr; warnings pass even when it is quiet."""
    if quiet:
        yield Lines(warnings_only=True)
    elif sys.stderr.isatty():
        with Bars(Console(stderr=True, highlight=False)) as bars:
            yield bars
    else:
        yield Lines()


def _amount(event: Event) -> str:
    """`120 of 1,496 rows`, or what of it is known."""
    if event.total:
        return f"{event.done:,} of {event.total:,} {event.unit}".rstrip()
    return f"{event.done:,} {event.unit}".rstrip() if event.done else ""


def _length(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _finished(event: Event) -> str:
    total = f"{event.total:,} {event.unit}".rstrip() if event.total else ""
    parts = [total, _length(event.seconds) if event.seconds is not None else ""]
    return ", ".join(part for part in parts if part) or "done"


class Lines:
    """A line an event, for logs: a stage's start, its progress now and then with the time left, its end."""

    def __init__(self, write: Callable[[str], object] | None = None, *, warnings_only: bool = False) -> None:
        self._write = write if write is not None else lambda line: print(line, file=sys.stderr, flush=True)
        self._warnings_only = warnings_only
        self._began: dict[str, tuple[float, int]] = {}
        self._said: dict[str, float] = {}

    def emit(self, event: Event) -> None:
        """Write the event's line, if it is due."""
        if event.kind == "warning":
            self._write(f"warning: {event.stage}: {plain(event.message)}")
        if self._warnings_only or event.kind == "warning":
            return
        about = f": {plain(event.message)}" if event.message else ""
        if event.kind == "start":
            self._began[event.stage] = (event.time, event.done)
            self._said[event.stage] = event.time
            self._write(f"{event.stage}{about or ': started'}")
        elif event.kind == "progress":
            if event.time - self._said.setdefault(event.stage, event.time) >= _EVERY:
                self._said[event.stage] = event.time
                self._write(f"{event.stage}: {_amount(event)}{self._left(event)}")
        elif event.kind == "finish":
            self._write(f"{event.stage}: finished ({_finished(event)})")
        elif event.message:
            self._write(f"{event.stage}{about}")

    def _left(self, event: Event) -> str:
        time, done = self._began.get(event.stage, (event.time, event.done))
        if not event.total or event.done <= done or event.time <= time:
            return ""
        return f", about {_length((event.total - event.done) * (event.time - time) / (event.done - done))} left"


class _Time(ProgressColumn):
    """How long a stage has run, and how long it still will."""

    def render(self, task: Task) -> Text:
        """`20 s, 1 min 00 s left`."""
        elapsed = task.elapsed or 0.0
        text = _length(elapsed)
        # rich forgets how fast a stage was after half a minute without news, and a site of a large model takes longer.
        if task.total and task.completed:
            text += f", {_length(elapsed * (task.total - task.completed) / task.completed)} left"
        return Text(text, style="cyan")


class Bars:
    """A bar a running stage, with the time left; a finished stage leaves one line."""

    def __init__(self, console: Console, clock: Callable[[], float] | None = None) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[amount]}", markup=False),
            _Time(),
            console=console,
            transient=True,
            get_time=clock,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def emit(self, event: Event) -> None:
        """Move, add or finish the stage's bar, or print a note above the bars."""
        if event.kind in ("warning", "note"):
            if event.message:
                mark = ("warning: ", "yellow") if event.kind == "warning" else ("", "")
                self._print(Text.assemble(mark, f"{event.stage}: {plain(event.message)}"))
            return
        if event.kind == "finish":
            task = self._tasks.pop(event.stage, None)
            if task is not None:
                self._bars.remove_task(task)
            self._print(Text.assemble((f"{event.stage:<14}", "bold"), _finished(event)))
            return
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bars.add_task(event.stage, total=event.total, amount="")
        self._bars.update(self._tasks[event.stage], completed=event.done, total=event.total, amount=_amount(event))

    def _print(self, text: Text) -> None:
        self._bars.console.print(text, soft_wrap=True)
