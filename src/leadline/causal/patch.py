"""Interchange: activations, or their component in a subspace, taken from another input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from leadline.causal.change import Change, check_width, on_device, set_fields, working_dtype
from leadline.causal.directions import basis_of, check_owner, name_of, site_of
from leadline.causal.places import check_tokens, positions_of, reads_text
from leadline.errors import ActivationsError, CausalError
from leadline.models.encoded import Encoded
from leadline.models.model import Model
from leadline.probes.probe import Probe
from leadline.sites import Site

__all__ = ["Patch"]

# A batch of sources, in tokens.
_BATCH_TOKENS = 4096


@dataclass(frozen=True, eq=False, init=False)
class Patch:
    """An interchange intervention: h + V Vᵀ(source − h), or the source in place of the whole activation.

    Parameters
    ----------
    values : the sources: (n, d), one for the one selected token of each of the n rows that the plan runs on; or n
        arrays (k_i, d), for the k_i tokens selected in row i, in their order.
    direction : what is exchanged: along a probe's vector, a vector (d,), or a subspace of vectors (k, d); None for
        the whole activation.
    site, tokens : where; by default the probe's site and the last token. Tokens of the prompt alone are exchanged.
    vector : of a probe, by default the one that it reads.

    Raises
    ------
    CausalError : values of another shape or not finite. In a pass: a row with another count of selected tokens than
        values; names the row.

    References
    ----------
    A. Geiger et al. (2021), Causal Abstractions of Neural Networks, arXiv:2106.02997; A. Geiger et al. (2024), Finding
    Alignments Between Interpretable Causal Variables and Distributed Neural Representations, arXiv:2303.02536.
    """

    values: tuple[np.ndarray, ...]
    direction: Probe | np.ndarray | None
    site: Site
    tokens: str
    vector: str
    ordered = True

    def __init__(
        self,
        values: np.ndarray | Sequence[np.ndarray],
        direction: Probe | np.ndarray | None = None,
        *,
        site: str | Site | None = None,
        tokens: str = "last",
        vector: str = "direction",
    ) -> None:
        source = direction if isinstance(direction, Probe) or direction is None else np.asarray(direction, np.float64)
        set_fields(
            self,
            values=_checked(values),
            direction=source,
            site=site_of(source, site, "what is to be exchanged"),
            tokens=check_tokens(tokens),
            vector=vector,
        )
        basis = self.basis
        if basis is not None and basis.shape[1] != self.width:
            raise CausalError(
                f"the values have {self.width} dimensions, the direction {basis.shape[1]}; give one space."
            )

    @classmethod
    def from_inputs(
        cls,
        model: Model,
        sources: Sequence[Any],
        site: str | Site | None = None,
        tokens: str = "last",
        *,
        source_tokens: str | None = None,
        direction: Probe | np.ndarray | None = None,
        vector: str = "direction",
        spans: np.ndarray | None = None,
        inputs: Sequence[Any] | None = None,
    ) -> Patch:
        """Read the values from paired inputs: row i of the plan gets what the model computes of `sources[i]`.

        Parameters
        ----------
        sources : n texts, chats or encoded rows, the counterfactuals.
        source_tokens : which of their tokens; by default `tokens`.
        spans : (n, 2) character ranges in the sources, for a selection `span:NAME`.
        inputs : the n rows that the plan will run on; with them a difference in token counts is found here.

        Raises
        ------
        CausalError : a source without such a token, or a row that has other counts of tokens; names the row.
        """
        place = site_of(direction, site, "what is to be exchanged")
        chosen = check_tokens(tokens if source_tokens is None else source_tokens)
        (place,) = model.sites([place])
        part = model.part_of([place])
        rows = _encoded(model, sources, part, chosen)
        where = [_where(chosen, row, i, spans) for i, row in enumerate(rows)]
        if inputs is not None and spans is None:
            own = check_tokens(tokens)
            counts = [len(_where(own, row, i, None)) for i, row in enumerate(_encoded(model, inputs, part, own))]
            _check_counts(counts, [len(at) for at in where])
        found: list[np.ndarray] = [np.empty(0)] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: -rows[i].length)
        start = 0
        while start < len(order):
            some = order[start : start + max(1, _BATCH_TOKENS // rows[order[start]].length)]
            x = model.read_rows([rows[i] for i in some], [place])[place]
            for k, i in enumerate(some):
                found[i] = x[k, torch.from_numpy(where[i]).to(x.device)].double().cpu().numpy()
            start += len(some)
        return cls(found, direction, site=place, tokens=tokens, vector=vector)

    @property
    def basis(self) -> np.ndarray | None:
        """(k, d) float64 orthonormal rows; None for the whole activation."""
        return None if self.direction is None else basis_of(self.direction, self.vector)

    @property
    def n_rows(self) -> int:
        """n."""
        return len(self.values)

    @property
    def width(self) -> int:
        """d."""
        return int(self.values[0].shape[1])

    def check(self, model: Model) -> None:
        """Refuse a model that it does not belong to."""
        check_width(model, self.site, self.width, "what is to be exchanged")
        check_owner(self.direction, model)

    def compile(self, model: Model) -> Change:
        """h, ids, nth → h with the row's nth source in it."""
        dtype, basis = working_dtype(model), self.basis
        counts = torch.tensor([len(own) for own in self.values])
        starts = (counts.cumsum(0) - counts).to(model.device)
        counts = counts.to(model.device)
        flat = on_device(np.concatenate(self.values), model)
        V = None if basis is None else on_device(basis, model)

        def exchange(h: torch.Tensor, ids: torch.Tensor, nth: torch.Tensor | None) -> torch.Tensor:
            assert nth is not None
            # The last token of each row.
            ends = torch.ones_like(nth, dtype=torch.bool)
            ends[:-1] = nth[1:] == 0
            selected, rows = nth[ends] + 1, ids[ends]
            if not torch.equal(selected, counts[rows]):
                wrong = int((selected != counts[rows]).nonzero()[0])
                raise _differs(int(rows[wrong]), int(selected[wrong]), int(counts[rows[wrong]]))
            source = flat[starts[ids] + nth]
            if V is None:
                return source
            x = h.to(dtype)
            return x + ((source - x) @ V.T) @ V

        return exchange

    def describe(self) -> str:
        """One clause for a person."""
        if self.direction is None:
            return f"put the activations of {self.n_rows} other inputs in their place"
        along = name_of(self.direction, self.vector if isinstance(self.direction, Probe) else None)
        return f"exchange {along} with {self.n_rows} other inputs"


def _checked(values: np.ndarray | Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    rows = [np.asarray(own, dtype=np.float64) for own in values]
    found = tuple(own[None] if own.ndim == 1 else own for own in rows)
    if not found or any(own.ndim != 2 or not own.size for own in found) or len({own.shape[1] for own in found}) > 1:
        shapes = ", ".join(sorted({str(own.shape) for own in rows})) or "none"
        raise CausalError(f"the values to exchange have the shapes {shapes}; expected (n, d), or n arrays (k, d).")
    bad = next((i for i, own in enumerate(found) if not np.isfinite(own).all()), None)
    if bad is not None:
        raise CausalError(f"the values for row {bad} hold a NaN or an infinity; give finite activations.")
    return found


def _encoded(model: Model, inputs: Sequence[Any], part: Any, tokens: str) -> list[Encoded]:
    if all(isinstance(row, Encoded) for row in inputs):
        return list(inputs)
    return model.encode_rows(inputs, part=part, offsets=reads_text(tokens))


def _where(tokens: str, row: Encoded, i: int, spans: np.ndarray | None) -> np.ndarray:
    try:
        found = positions_of(tokens, row, None if spans is None else (int(spans[i][0]), int(spans[i][1])))
    except ActivationsError as error:
        raise CausalError(f"row {i} of the sources: {error}") from error
    if not len(found):
        raise CausalError(f"'{tokens}' names no token of an input; select tokens of the prompt.")
    return found


def _check_counts(selected: list[int], given: list[int]) -> None:
    if len(selected) != len(given):
        raise CausalError(f"{len(selected)} inputs and {len(given)} sources were given; pair each input with one.")
    wrong = next((i for i, (a, b) in enumerate(zip(selected, given, strict=True)) if a != b), None)
    if wrong is not None:
        raise _differs(wrong, selected[wrong], given[wrong])


def _differs(row: int, selected: int, given: int) -> CausalError:
    return CausalError(
        f"row {row}: {selected} of its tokens are selected, but its source has {given}; pair inputs whose selected "
        f"tokens are as many, or select one, as in 'last'."
    )
