"""A fitted linear probe, and its file: safetensors with a JSON header, never pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from leadline.errors import ProbeError
from leadline.files import replace_atomic
from leadline.probes.blocks import RowSource, blocks
from leadline.sites import Site

__all__ = ["FORMAT", "Probe", "ProbeSet"]

FORMAT = "leadline-probe-1"


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear map from raw activations at one site to a score.

    Parameters
    ----------
    site : where it reads; None for activations that came without a place.
    coef : (d,) float64; intercept : float. score = activations @ coef + intercept.
    pattern : (d,) float64, Σ·coef scaled to unit length (Σ the covariance of the fitted rows): how the concept shows
        in activations, and what one steers with; `direction` is the unit vector along `coef`, which reads.
    family, kind, target, negative, positive : what it was fitted as, and on; a score above 0 decides for `positive`.
    tokens : the token selection that it reads.
    model, model_fingerprint : the model that it belongs to; None if unknown.
    l2 : the penalty, None if the family has none.
    metrics : figures for a reader of the file, as in `{"auroc": {"value": .9, "low": .88, "high": .92}}`.
    extra : anything else that JSON holds.

    References
    ----------
    S. Haufe et al. (2014), On the interpretation of weight vectors of linear models, NeuroImage 87: the pattern.
    """

    site: Site | None
    coef: np.ndarray
    intercept: float
    pattern: np.ndarray
    family: str
    kind: str
    target: str
    negative: str | None = None
    positive: str | None = None
    tokens: str = "last"
    model: str | None = None
    model_fingerprint: str | None = None
    l2: float | None = None
    metrics: dict[str, object] = field(default_factory=dict)
    extra: dict[str, object] = field(default_factory=dict)

    @property
    def d(self) -> int:
        """The width of the activations that it reads."""
        return len(self.coef)

    @property
    def direction(self) -> np.ndarray:
        """(d,) unit vector along `coef`, pointing to the positive class."""
        norm = float(np.linalg.norm(self.coef))
        return self.coef / norm if norm > 0 else self.coef

    def score(self, source: object, inputs: Sequence[object] | None = None) -> np.ndarray:
        """Score activations, or a model's reading of texts.

        Parameters
        ----------
        source : (n, d) activations; or a model (as `load_model` gives), and then
        inputs : n texts or chats.

        Returns
        -------
        (n,) float64.

        Raises
        ------
        ProbeError : a width, or a model, other than the probe's.
        """
        if inputs is None:
            X = np.asarray(source, dtype=np.float64)
            if X.ndim != 2 or X.shape[1] != self.d:
                raise ProbeError(f"got activations of shape {X.shape}; this probe of {self.site} reads (n, {self.d}).")
            return np.asarray(X @ self.coef + self.intercept)
        if self.site is None:
            raise ProbeError("this probe was fitted on activations of no stated site, so no model can be read for it.")
        print_of = getattr(source, "fingerprint", None)
        read = getattr(source, "activations_of", None)
        if read is None:
            raise ProbeError(f"cannot read texts with a {type(source).__name__}; give a model from `load_model`.")
        if self.model_fingerprint is not None and print_of != self.model_fingerprint:
            raise ProbeError(
                f"this probe was fitted on {self.model or 'a model'} with fingerprint {self.model_fingerprint}; "
                f"the model given has {print_of}. Load the same model, in the same dtype."
            )
        return self.score(read(list(inputs), self.site, self.tokens))

    def write(self, path: str | Path) -> Path:
        """Write the probe to one safetensors file, whole or not at all."""
        header = {
            "format": FORMAT,
            "site": None if self.site is None else self.site.name,
            "family": self.family,
            "kind": self.kind,
            "target": self.target,
            "negative": self.negative,
            "positive": self.positive,
            "tokens": self.tokens,
            "model": self.model,
            "model_fingerprint": self.model_fingerprint,
            "l2": self.l2,
            "metrics": self.metrics,
            "extra": self.extra,
        }
        tensors = {
            "coef": np.ascontiguousarray(self.coef, dtype=np.float64),
            "intercept": np.array([self.intercept], dtype=np.float64),
            "direction": np.ascontiguousarray(self.direction, dtype=np.float64),
            "pattern": np.ascontiguousarray(self.pattern, dtype=np.float64),
        }
        target = Path(path)
        with replace_atomic(target) as temporary:
            save_file(tensors, temporary, metadata={"leadline": json.dumps(header, sort_keys=True)})
        return target

    @classmethod
    def read(cls, path: str | Path) -> Probe:
        """Read a probe's file.

        Raises
        ------
        ProbeError : no such file, or not a probe of this format.
        """
        file = Path(path)
        if not file.is_file():
            raise ProbeError(f"no probe at '{file}'; a study leaves its probes under RUN/probes/.")
        try:
            with safe_open(str(file), framework="numpy") as opened:
                header = json.loads((opened.metadata() or {}).get("leadline", "{}"))
                if header.get("format") != FORMAT:
                    raise ProbeError(f"'{file}' is no probe file of format {FORMAT}; it says {header.get('format')}.")
                tensors = {name: opened.get_tensor(name) for name in ("coef", "intercept", "pattern")}
        except (SafetensorError, json.JSONDecodeError, OSError) as error:
            raise ProbeError(f"'{file}' cannot be read as a probe ({error}); write it again.") from error
        header.pop("format")
        return cls(
            site=None if (site := header.pop("site")) is None else Site.parse(site),
            coef=tensors["coef"],
            intercept=float(tensors["intercept"][0]),
            pattern=tensors["pattern"],
            **header,
        )

    def __repr__(self) -> str:
        return f"Probe({self.family} for {self.target!r} at {self.site}, d={self.d})"


@dataclass(frozen=True, eq=False)
class ProbeSet:
    """Probes at one site for the columns of one target, in the columns' order."""

    probes: tuple[Probe, ...]

    @property
    def site(self) -> Site | None:
        """The site that all of them read."""
        return self.probes[0].site

    def score(self, source: object, inputs: Sequence[object] | None = None) -> np.ndarray:
        """(n, m) scores, a column a probe; see `Probe.score`."""
        return np.stack([probe.score(source, inputs) for probe in self.probes], axis=1)

    def __len__(self) -> int:
        return len(self.probes)

    def __iter__(self) -> Iterator[Probe]:
        return iter(self.probes)

    def __getitem__(self, index: int) -> Probe:
        return self.probes[index]


def pattern_of(X: RowSource, coef: np.ndarray) -> np.ndarray:
    """(d,) unit vector along Σ·coef, with Σ the covariance of the rows of `X` (n, d), read a block at a time."""
    n, d = X.shape
    mean = sum((part.sum(axis=0, dtype=np.float64) for _, part in blocks(X)), np.zeros(d)) / n
    pattern = np.zeros(d)
    for _, part in blocks(X):
        centred = part - mean
        pattern += centred.T @ (centred @ coef)
    norm = float(np.linalg.norm(pattern))
    return np.asarray(pattern / norm if norm > 0 else pattern)
