"""Where a probe's score comes from: the exact share of the embedding, of every head and of every MLP.

What enters a site is a sum of what the components before it wrote, so a linear score of it is the sum of their scores:

    w·h + b = w·embed + Σ_heads w·head_out + Σ_layers w·mlp_out + biases + b

Where a norm stands in between, its statistics are held as they were, which makes it affine and the sum exact still. A
component's term is what it writes into the score itself, not what later components make of its output.

References
----------
N. Elhage et al. (2021), A mathematical framework for transformer circuits: direct contributions to the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from leadline.activations.tokens import Selection
from leadline.causal.chain import Chain
from leadline.causal.decomposition import Decomposition
from leadline.causal.examples import Examples
from leadline.errors import CausalError, ProbeError
from leadline.events import SILENT, Event, EventSink
from leadline.models.encoded import Encoded
from leadline.probes.probe import Probe
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.models.model import Model

__all__ = ["decompose"]

_STAGE = "decompose"
# What is kept of a batch at once, in numbers.
_KEPT = 1 << 26
# How far the terms may be from the score, as a share of the sum of their magnitudes, before the result is refused.
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 5e-2


def decompose(
    model: Model,
    inputs: Examples | Sequence[Encoded] | Sequence[Any],
    probe: Probe | np.ndarray,
    tokens: str | Selection | None = None,
    *,
    site: str | Site | None = None,
    spans: np.ndarray | None = None,
    y: Sequence[float] | np.ndarray | None = None,
    groups: Sequence[Any] | np.ndarray | None = None,
    batch_tokens: int = 4096,
    events: EventSink = SILENT,
) -> Decomposition:
    """Decompose a probe's score into what the embedding, each head, each MLP and each bias gives to it, exactly.

    Parameters
    ----------
    inputs : n texts, chats or other inputs of the model; encoded rows; or `Examples`, which bring y, groups and spans.
    probe : with a site; or a (d,) vector, and then `site`.
    tokens : which tokens, and how they are pooled: `last`, `first` or `mean`; the probe's own by default.
    spans : (n, 2) ranges of characters, for a selection that reads a span.
    y : (n,) labels: 0 and 1, or numbers; NaN for rows without. groups : (n,) of rows that err together.
    batch_tokens : the most tokens of a batch, padding included.

    Raises
    ------
    CausalError : a site whose activation is no sum of what blocks write, a selection that keeps the maximum or every
        token, or terms that do not add up to the score (an intervention is open on the model?).
    ProbeError : a probe of another model or width. SiteError, DataError, ActivationsError : as in `Model`.
    """
    vector, intercept, where = _target(model, probe, site)
    part = model.part_of([where])
    if part is None:
        raise CausalError(f"'{where.name}' is a named module, of which it is not known what writes into it.")
    chosen = tokens if tokens is not None else (probe.tokens if isinstance(probe, Probe) else "last")
    selection = Selection.parse(chosen)
    if selection.pool not in ("last", "first", "mean"):
        raise CausalError(
            f"the selection '{selection.name}' gives no sum over tokens; expected last, first or mean of some tokens."
        )
    if isinstance(inputs, Examples):
        spans = inputs.spans if spans is None else spans
        y = inputs.y if y is None and np.isfinite(inputs.y).any() else y
        groups = inputs.groups if groups is None else groups
        inputs = inputs.rows
    rows: list[Encoded] = list(inputs)
    if rows and not isinstance(rows[0], Encoded):
        rows = model.encode_rows(rows, part=part, offsets=selection.needs_offsets)
    if not rows:
        raise CausalError("there are no rows to decompose; give some texts.")
    chain = Chain(part, where, vector)
    ends = {"last": slice(-1, None), "first": slice(0, 1), "mean": slice(None)}[selection.pool]
    positions = [
        selection.positions(row, _span(spans, i) if selection.span is not None else None)[ends]
        for i, row in enumerate(rows)
    ]
    found = _Sums(len(rows), chain, vector)
    total = sum(row.length for row in rows)
    done = 0
    for some in _batches(rows, positions, batch_tokens, len(chain.ports) * part.d_model):
        held = _read(model, chain, where, [rows[i] for i in some], [positions[i] for i in some])
        found.add(some, [len(positions[i]) for i in some], held)
        done += sum(rows[i].length for i in some)
        events.emit(Event("progress", _STAGE, done=done, total=total, unit="tokens"))
    label = None if y is None else np.asarray(y, dtype=np.float64)
    codes = None if groups is None else np.asarray(groups)
    for name, column in (("y", label), ("groups", codes)):
        if column is not None and column.shape != (len(rows),):
            raise CausalError(f"got {name} of shape {column.shape} for {len(rows)} rows; give one a row.")
    result = Decomposition(
        site=where,
        tokens=selection.name,
        components=chain.components,
        terms=found.terms,
        intercept=intercept,
        scores=found.scores + intercept,
        y=label,
        groups=codes,
        means=found.means(),
    )
    limit = _TOLERANCE if model.dtype == torch.float32 else _HALF_TOLERANCE
    worst = float(result.error.max())
    if not worst <= limit:
        raise CausalError(
            f"the terms do not add up to the score at '{where.name}': off by {worst:.2g} of their magnitudes, at most "
            f"{limit:g} was expected. Is an intervention open on the model? Close it, and decompose the plain model."
        )
    return result


class _Sums:
    """Terms and scores row by row, and the means of what was read."""

    def __init__(self, n: int, chain: Chain, vector: np.ndarray) -> None:
        self.terms = np.zeros((n, len(chain.components)))
        self.scores = np.zeros(n)
        self._n, self._chain, self._vector = n, chain, torch.from_numpy(vector)
        self._sums: dict[str, np.ndarray] = {}

    def add(self, rows: Sequence[int], counts: Sequence[int], held: dict[str, torch.Tensor]) -> None:
        """Add the tensors of some rows, (tokens, width) each, with so many tokens a row."""
        owner = np.repeat(np.arange(len(rows)), counts)
        share = torch.from_numpy(1 / np.asarray(counts, dtype=np.float64)[owner])
        index = torch.from_numpy(owner)

        def pooled(values: torch.Tensor) -> torch.Tensor:
            out = torch.zeros(len(rows), values.shape[1], dtype=torch.float64)
            return out.index_add_(0, index, values.double() * share[:, None])

        self.terms[rows] = pooled(self._chain.terms(held)).numpy()
        self.scores[rows] = pooled((held[""].double() @ self._vector)[:, None])[:, 0].numpy()
        for name in held:
            if name and not name.startswith(("before ", "behind ")):
                total = pooled(held[name]).sum(0).numpy()
                self._sums[name] = self._sums.get(name, 0) + total

    def means(self) -> dict[str, np.ndarray]:
        """For each component that has a site, the mean of what it holds; of a head, of its z."""
        found = {}
        for component in self._chain.components:
            if component.site is None:
                continue
            if component.name in self._sums:
                found[component.name] = self._sums[component.name] / self._n
            else:
                z = self._sums[f"z {component.site.layer}"] / self._n
                size = len(z) // self._chain.part.n_heads
                assert component.site.head is not None
                found[component.name] = z[component.site.head * size : (component.site.head + 1) * size]
        return found


def _target(model: Model, probe: Probe | np.ndarray, site: str | Site | None) -> tuple[np.ndarray, float, Site]:
    """The vector that scores, the intercept, and the one site where they do."""
    if isinstance(probe, Probe):
        if probe.model_fingerprint is not None and probe.model_fingerprint != model.fingerprint:
            raise ProbeError(
                f"this probe was fitted on {probe.model or 'a model'} with fingerprint {probe.model_fingerprint}; the "
                f"model given has {model.fingerprint}. Load the same model, in the same dtype."
            )
        vector, intercept = np.asarray(probe.coef, dtype=np.float64), float(probe.intercept)
        given: str | Site | None = site if site is not None else probe.site
    else:
        vector, intercept, given = np.asarray(probe, dtype=np.float64), 0.0, site
    if given is None:
        raise CausalError("it is not known where the vector stands; give site=, as in site='resid_post.8'.")
    found = model.sites([given])
    if len(found) != 1 or found[0].kind == "module":
        raise CausalError(f"'{given}' is not one site in a stack of blocks; give one, as in 'resid_post.8'.")
    width = model.width(found[0])
    if vector.shape != (width,) or not np.isfinite(vector).all():
        raise ProbeError(
            f"got a vector of shape {vector.shape}; expected ({width},) finite numbers, the width at '{found[0].name}'."
        )
    return vector, intercept, found[0]


def _span(spans: np.ndarray | None, row: int) -> tuple[int, int]:
    if spans is None:
        raise CausalError("the selection reads a span; give spans=, the (start, end) of each row's span in its text.")
    return int(spans[row][0]), int(spans[row][1])


def _batches(rows: list[Encoded], positions: list[np.ndarray], batch_tokens: int, width: int) -> list[list[int]]:
    """Rows of like length together, the longest first, within the tokens and within what may be kept."""
    order = sorted(range(len(rows)), key=lambda i: -rows[i].length)
    found: list[list[int]] = []
    kept = 0
    for i in order:
        full = found and (
            (len(found[-1]) + 1) * rows[found[-1][0]].length > batch_tokens or kept + len(positions[i]) * width > _KEPT
        )
        if not found or full:
            found.append([])
            kept = 0
        found[-1].append(i)
        kept += len(positions[i]) * width
    return found


def _read(
    model: Model, chain: Chain, site: Site, rows: list[Encoded], positions: list[np.ndarray]
) -> dict[str, torch.Tensor]:
    """By name the tensors (tokens, width) at the tokens of some rows; `""` is the site's own."""
    batch = model.batch(rows, chain.part)
    b = torch.from_numpy(np.repeat(np.arange(len(rows)), [len(own) for own in positions])).to(model.device)
    s = torch.from_numpy(np.concatenate(positions)).to(model.device)
    held: dict[str, torch.Tensor] = {}

    def keep(name: str, tensor: torch.Tensor) -> None:
        held[name] = tensor[b, s].cpu()

    # The site is listened to last, since the pass ends there.
    with chain.reading(keep), model.reading([site], lambda _, tensor: keep("", tensor)):
        model.run(batch, chain.part)
    return held
