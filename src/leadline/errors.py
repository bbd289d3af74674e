"""The error tree.

Every message says what was given, what was expected and what to do next. The command line prints it without a
traceback and exits with `exit_code`; `--debug` shows the traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ActivationsError",
    "ArchitectureError",
    "CausalError",
    "ConfigError",
    "DataError",
    "EvidenceError",
    "LeadlineError",
    "ModelError",
    "OutputError",
    "ProbeError",
    "SiteError",
    "StoreError",
    "did_you_mean",
]


class LeadlineError(Exception):
    """Base of every error that Leadline raises on purpose: a user can act on it."""

    exit_code = 2


class DataError(LeadlineError):
    """A data set that cannot be read, or that no probe could be judged on."""


class ModelError(LeadlineError):
    """A model or tokenizer that cannot be found or loaded."""


class ArchitectureError(ModelError):
    """A model whose residual equation is unknown, or was disproved at load."""


class SiteError(LeadlineError):
    """A site name outside the grammar, or one that this model does not offer."""


class ActivationsError(LeadlineError):
    """Activations that do not fit what was asked of them."""


class StoreError(ActivationsError):
    """A damaged, incomplete or foreign activation store."""


class ProbeError(LeadlineError):
    """A probe that cannot be fitted, read from its file, or applied here."""


class EvidenceError(LeadlineError):
    """A statistic that the given data cannot carry."""


class CausalError(LeadlineError):
    """An intervention, or a question about its effect, that this model or these inputs cannot carry."""


class ConfigError(LeadlineError):
    """A study file or an option with a wrong key or value."""


class OutputError(LeadlineError):
    """A folder or file that cannot be written."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the nearest of `known`, or an empty string.

    >>> did_you_mean("resid_pots", ["resid_post", "embed"])
    " Did you mean 'resid_post'?"
    """
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""
