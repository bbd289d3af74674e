"""The program `leadline`: its verbs, its exit codes, and how an error reaches a person."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from cyclopts import App, CycloptsError, Parameter

from leadline import __version__
from leadline.cli import bench, causal, datasets, demo, doctor, extract, models, report, run, score, sweep, transfer
from leadline.cli.output import complain
from leadline.errors import LeadlineError

__all__ = ["main"]

OK, BUG, USER_ERROR, INTERRUPTED = 0, 1, 2, 130

_VERBS = (demo, run, extract, sweep, transfer, causal, score, report, models, datasets, bench, doctor)
# These keep what they finished and find it again.
_RESUMABLE = ("demo", "run", "extract")

_HELP = """Linear probes on a model's internal activations, with the evidence to believe them.

Start with `leadline demo`. Each command has examples: `leadline run --help`."""
_EPILOGUE = """Exit codes: 0 done, 1 a bug, 2 something that you can mend (a message says what), 130 interrupted."""


def _app() -> App:
    app = App(
        name="leadline",
        help=_HELP,
        help_epilogue=_EPILOGUE,
        help_format="markdown",
        version=f"leadline {__version__}",
        default_parameter=Parameter(negative=(), show_default=_default),
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for order, verb in enumerate(_VERBS):
        command: Callable[..., int] = verb.command
        name = verb.__name__.rpartition(".")[2]
        app.command(command, name=name, sort_key=order, help_epilogue=f"**Examples**\n\n{verb.EXAMPLES.strip()}")
    return app


def _default(value: Any) -> Any:
    """A default as one would type it; none for a flag and for what may be left out."""
    if value is None or value == () or isinstance(value, bool):
        return None
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    tokens : the words after `leadline`; those of this process by default.
    """
    words = list(sys.argv[1:] if tokens is None else tokens)
    options = words[: words.index("--")] if "--" in words else words
    debug = "--debug" in options
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows a question mark; it is no reason to lose a run.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        code = _app()(words)
        sys.stdout.flush()
        return code if isinstance(code, int) else OK
    except CycloptsError as error:
        verb = f" {words[0]}" if words and words[0] in [v.__name__.rpartition(".")[2] for v in _VERBS] else ""
        return _failed(USER_ERROR, f"{error} See `leadline{verb} --help`.", debug)
    except LeadlineError as error:
        return _failed(error.exit_code, str(error), debug)
    except KeyboardInterrupt:
        resume = "; what was finished is kept, and the same command goes on from there"
        return _failed(INTERRUPTED, f"interrupted{resume if words[:1] and words[0] in _RESUMABLE else ''}.", debug)
    except BrokenPipeError:
        # The reader (`| head`) has seen enough. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        if error.filename is None:
            return _failed(BUG, _bug(error), debug)
        return _failed(USER_ERROR, f"{error.strerror}: '{error.filename}'.", debug)
    except Exception as error:  # noqa: BLE001 the last resort: whatever gets here is a bug, and is told as one
        return _failed(BUG, _bug(error), debug)


def _bug(error: Exception) -> str:
    return (
        f"{type(error).__name__}: {error}\nThis is a bug in Leadline. Run the same command with --debug for the "
        f"traceback, and report it with what `leadline doctor` prints."
    )


def _failed(code: int, message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc(file=sys.stderr)
    complain(message)
    return code
