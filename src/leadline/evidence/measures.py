"""Further evidence on a sweep, at its chosen site: which measures there are, and taking those that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.errors import EvidenceError, did_you_mean
from leadline.events import EventSink
from leadline.evidence.bootstrap import BootstrapDesign
from leadline.evidence.labels import Source
from leadline.evidence.site_fits import SiteFits

if TYPE_CHECKING:
    from leadline.evidence.sweep import Sweep

__all__ = ["DEFAULT_MEASURES", "MEASURES", "SAFEGUARDS", "Masked", "Measures", "check_measures", "take_measures"]

MEASURES: dict[str, str] = {}
SAFEGUARDS: tuple[str, ...] = ()
DEFAULT_MEASURES: tuple[str, ...] = ()


@dataclass(frozen=True)
class Masked:
    """The rows after masking what gives the label away."""


@dataclass(frozen=True)
class Measures:
    """What was measured; None where a measure was not asked for."""

    control_task: Any = None
    code_length: Any = None

    @property
    def leaks(self) -> tuple[str, ...]:
        return ()

    @property
    def random_labels_sentence(self) -> str:
        return ""


def check_measures(names: Sequence[str]) -> None:
    """Raise for a name that is no measure."""
    for name in names:
        if name not in MEASURES:
            raise EvidenceError(
                f"unknown measure '{name}'; expected some of {', '.join(MEASURES)}." + did_you_mean(name, MEASURES)
            )


def take_measures(
    names: Sequence[str],
    source: Source,
    sweep: Sweep,
    fits: SiteFits,
    design: BootstrapDesign,
    *,
    masked: Masked | None = None,
    weights: np.ndarray | None = None,
    events: EventSink,
) -> Measures:
    """Take some measures."""
    return Measures()
