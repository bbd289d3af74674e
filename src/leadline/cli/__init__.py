"""The command line: one thin file a verb, and the only place that prints.

What flows in is a line of words; what flows out is text on stdout (JSON alone, with `--json`), progress and errors on
stderr, and an exit code. A verb checks its options, calls the public function behind it, and words what came back; it
imports that function when it runs, so that `leadline --help` imports no torch.
"""

from __future__ import annotations

from leadline.cli.app import main

__all__ = ["main"]
