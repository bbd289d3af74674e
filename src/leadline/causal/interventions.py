"""Interventions along directions: add, ablate, clamp. Those that exchange or map activations have files of their own.

Each is a frozen description with a site and a token selection; `Plan.bind` checks it against a model and puts its
vectors on the model's device, once. Half-precision activations are changed in float32 and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from leadline.causal.change import (
    Change,
    Intervention,
    at_rows,
    check_width,
    number,
    on_device,
    set_fields,
    working_dtype,
)
from leadline.causal.directions import basis_of, check_owner, name_of, row_values, site_of, unit_vector, vector_of
from leadline.causal.maps import Erase, Rotate
from leadline.causal.patch import Patch
from leadline.causal.places import check_tokens
from leadline.errors import CausalError
from leadline.models.model import Model
from leadline.probes.probe import Probe
from leadline.sites import Site

__all__ = ["Ablate", "Add", "Clamp", "Erase", "Intervention", "Patch", "Rotate"]

# Moved along u, a score changes by w·u a unit; at a smaller cosine rounding decides where a clamp ends.
_LEAST_COSINE = 1e-6


@dataclass(frozen=True, eq=False, init=False)
class Add:
    """Steer: h + α v̂, with α = strength · ‖h‖ in doses, or α = strength in activation units.

    Parameters
    ----------
    direction : a probe, or a vector (d,), which is made unit and needs `site`.
    strength : one number, or (n,), one for each of the rows that the plan runs on. 0 changes nothing.
    site : where; by default the probe's.
    tokens : which tokens, by default all, generated ones among them.
    vector : of a probe, `"pattern"` (how the concept is written) or `"direction"` (what the probe reads).
    unit : `"dose"`, relative to each token's own norm, so that strength is ‖αv̂‖/‖h‖; or `"raw"`, in activation units.

    Raises
    ------
    CausalError : a direction, strength, name or selection that is none of these.
    """

    direction: Probe | np.ndarray
    strength: float | np.ndarray
    site: Site
    tokens: str
    vector: str
    unit: str
    ordered = False

    def __init__(
        self,
        direction: Probe | np.ndarray,
        strength: float | np.ndarray,
        *,
        site: str | Site | None = None,
        tokens: str = "all",
        vector: str = "pattern",
        unit: str = "dose",
    ) -> None:
        if unit not in ("dose", "raw"):
            raise CausalError(f"unknown unit '{unit}'; expected 'dose' (strength × ‖h‖) or 'raw' (activation units).")
        set_fields(
            self,
            direction=direction if isinstance(direction, Probe) else unit_vector(direction),
            strength=row_values(strength, "the strength"),
            site=site_of(direction, site, name_of(direction)),
            tokens=check_tokens(tokens),
            vector=vector,
            unit=unit,
        )
        # A probe may lack the vector that is asked for.
        self.unit_vector  # noqa: B018

    @property
    def unit_vector(self) -> np.ndarray:
        """(d,) float64 v̂."""
        return vector_of(self.direction, self.vector)

    @property
    def n_rows(self) -> int | None:
        """For how many rows it holds strengths; None where all have one."""
        return None if isinstance(self.strength, float) else len(self.strength)

    @property
    def width(self) -> int:
        """d."""
        return len(self.unit_vector)

    def check(self, model: Model) -> None:
        """Refuse a model that it does not belong to."""
        check_width(model, self.site, self.width, name_of(self.direction, self.vector))
        check_owner(self.direction, model)

    def compile(self, model: Model) -> Change:
        """h, ids → h + α v̂."""
        v, dtype, strength = on_device(self.unit_vector, model), working_dtype(model), at_rows(self.strength, model)
        if isinstance(self.strength, float):
            alpha, step = self.strength, v * self.strength

            def same(h: torch.Tensor, ids: torch.Tensor, nth: torch.Tensor | None) -> torch.Tensor:
                if self.unit == "raw":
                    return h.to(dtype) + step
                x = h.to(dtype)
                # This stands in every step of generation: two operations.
                return torch.addcmul(x, torch.linalg.vector_norm(x, dim=-1, keepdim=True), v, value=alpha)

            return same

        def by_row(h: torch.Tensor, ids: torch.Tensor, nth: torch.Tensor | None) -> torch.Tensor:
            x = h.to(dtype)
            norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True) if self.unit == "dose" else 1.0
            return x + strength(ids) * norm * v

        return by_row

    def describe(self) -> str:
        """One clause for a person."""
        along = name_of(self.direction, self.vector)
        size = f"{number(self.strength)} × ‖h‖" if self.unit == "dose" else f"{number(self.strength)} activation units"
        return f"add {size} along {along}"


@dataclass(frozen=True, eq=False, init=False)
class Ablate:
    """Project out: h − V(Vᵀh − c), V an orthonormal basis (d, k) of one direction or of a subspace.

    Parameters
    ----------
    direction : a probe, a vector (d,), vectors (k, d) that span a subspace, or None for the whole activation.
    to : c. `"zero"`; `"mean"`, Vᵀ`mean`; or, for one direction, the value that v̂·h gets.
    mean : (d,) for `"mean"`, as of the activations that a probe was fitted on.
    site, tokens, vector : as for `Add`; by default the vector that a probe reads.

    Raises
    ------
    CausalError : a direction, value, name or selection that is none of these, or `"mean"` without a mean.
    """

    direction: Probe | np.ndarray | None
    to: str | float
    mean: np.ndarray | None
    site: Site
    tokens: str
    vector: str
    ordered = False
    n_rows = None

    def __init__(
        self,
        direction: Probe | np.ndarray | None = None,
        *,
        to: str | float = "zero",
        mean: np.ndarray | None = None,
        site: str | Site | None = None,
        tokens: str = "all",
        vector: str = "direction",
    ) -> None:
        if isinstance(to, str) and to not in ("zero", "mean"):
            raise CausalError(f"cannot ablate to '{to}'; expected 'zero', 'mean', or a number for one direction.")
        if (to == "mean") != (mean is not None):
            raise CausalError(
                "'mean' needs mean=, the mean activation (d,), and nothing else takes one; give both or neither."
            )
        if not isinstance(to, str):
            to = row_values(to, "the value to ablate to")  # type: ignore[assignment]
            if (
                not isinstance(to, float)
                or direction is None
                or not (isinstance(direction, Probe) or np.ndim(direction) == 1)
            ):
                raise CausalError("a number to ablate to is the projection on one direction; give one of each.")
        if mean is not None:
            mean = np.asarray(mean, dtype=np.float64)
            if mean.ndim != 1 or not np.isfinite(mean).all():
                raise CausalError(f"the mean has the shape {mean.shape}; expected finite numbers (d,).")
        source = direction if isinstance(direction, Probe) or direction is None else np.asarray(direction, np.float64)
        set_fields(
            self,
            direction=source,
            to=to,
            mean=mean,
            site=site_of(source, site, "what is to be ablated"),
            tokens=check_tokens(tokens),
            vector=vector,
        )
        basis = self.basis
        if basis is not None and mean is not None and len(mean) != basis.shape[1]:
            raise CausalError(f"the mean has {len(mean)} dimensions, the direction {basis.shape[1]}; give one space.")

    @property
    def basis(self) -> np.ndarray | None:
        """(k, d) float64 orthonormal rows; None for the whole activation."""
        return None if self.direction is None else basis_of(self.direction, self.vector)

    @property
    def width(self) -> int | None:
        """d; None where the whole activation is set to zero."""
        if self.mean is not None:
            return len(self.mean)
        basis = self.basis
        return None if basis is None else basis.shape[1]

    def check(self, model: Model) -> None:
        """Refuse a model that it does not belong to."""
        check_width(model, self.site, self.width, self.describe())
        check_owner(self.direction, model)

    def compile(self, model: Model) -> Change:
        """h, ids → h − V(Vᵀh − c)."""
        basis, dtype = self.basis, working_dtype(model)
        if basis is None:
            mean = None if self.mean is None else on_device(self.mean, model)

            def whole(h: torch.Tensor, ids: torch.Tensor, nth: torch.Tensor | None) -> torch.Tensor:
                return torch.zeros_like(h) if mean is None else mean.expand(h.shape).clone()

            return whole
        given = 0.0 if isinstance(self.to, str) else self.to
        value = basis @ self.mean if self.mean is not None else np.full(len(basis), given)
        V, c = on_device(basis, model), on_device(value, model)
        Vt = V.T.contiguous()

        def project(h: torch.Tensor, ids: torch.Tensor, nth: torch.Tensor | None) -> torch.Tensor:
            x = h.to(dtype)
            return x + (c - x @ Vt) @ V

        return project

    def describe(self) -> str:
        """One clause for a person."""
        what = (
            "the whole activation"
            if self.direction is None
            else name_of(self.direction, self.vector if isinstance(self.direction, Probe) else None)
        )
        to = "to the mean" if self.to == "mean" else "to zero" if self.to == "zero" else f"to {self.to:.4g}"
        return f"ablate {what} {to}"


@dataclass(frozen=True, eq=False, init=False)
class Clamp:
    """Hold a probe's score: h + (score − (w·h + b)) / (w·û) û.

    Parameters
    ----------
    probe : whose score; or a vector (d,), whose score is v̂·h.
    score : what it becomes; one number, or (n,), one for each of the rows that the plan runs on.
    along : û. A probe's `"pattern"` or `"direction"`, or a vector (d,); for a plain vector always itself.
    site, tokens : as for `Add`.

    Raises
    ------
    CausalError : values or names that are none of these, or a û along which the score does not change.
    """

    probe: Probe | np.ndarray
    score: float | np.ndarray
    along: str | np.ndarray
    site: Site
    tokens: str
    ordered = False

    def __init__(
        self,
        probe: Probe | np.ndarray,
        score: float | np.ndarray,
        along: str | np.ndarray = "pattern",
        *,
        site: str | Site | None = None,
        tokens: str = "all",
    ) -> None:
        set_fields(
            self,
            probe=probe if isinstance(probe, Probe) else unit_vector(probe),
            score=row_values(score, "the score"),
            along=along if isinstance(along, str) else unit_vector(along, "the vector to move along"),
            site=site_of(probe, site, name_of(probe)),
            tokens=check_tokens(tokens),
        )
        w, u = self.reader[0], self.unit_vector
        if len(w) != len(u):
            raise CausalError(f"the probe has {len(w)} dimensions, the vector to move along {len(u)}; give one space.")
        if not abs(w @ u) > _LEAST_COSINE * np.linalg.norm(w):
            raise CausalError(
                f"the score of {name_of(probe)} does not change along the vector to move along (cosine "
                f"{w @ u / max(float(np.linalg.norm(w)), 1e-300):.2g}); choose another, as along='direction'."
            )

    @property
    def reader(self) -> tuple[np.ndarray, float]:
        """(d,) float64 w, and b."""
        if isinstance(self.probe, Probe):
            return np.asarray(self.probe.coef, dtype=np.float64), float(self.probe.intercept)
        return self.probe, 0.0

    @property
    def unit_vector(self) -> np.ndarray:
        """(d,) float64 û."""
        if not isinstance(self.along, str):
            return self.along
        return vector_of(self.probe, self.along)

    @property
    def n_rows(self) -> int | None:
        """For how many rows it holds scores; None where all have one."""
        return None if isinstance(self.score, float) else len(self.score)

    @property
    def width(self) -> int:
        """d."""
        return len(self.unit_vector)

    def check(self, model: Model) -> None:
        """Refuse a model that it does not belong to."""
        check_width(model, self.site, self.width, name_of(self.probe))
        check_owner(self.probe, model)

    def compile(self, model: Model) -> Change:
        """h, ids → h with the score."""
        (w, b), u = self.reader, self.unit_vector
        dtype, target = working_dtype(model), at_rows(self.score, model)
        reads, step = on_device(w, model), on_device(u / (w @ u), model)

        def clamp(h: torch.Tensor, ids: torch.Tensor, nth: torch.Tensor | None) -> torch.Tensor:
            x = h.to(dtype)
            return x + (target(ids) - b - (x @ reads).unsqueeze(-1)) * step

        return clamp

    def describe(self) -> str:
        """One clause for a person."""
        if not isinstance(self.probe, Probe):
            return f"hold the projection on the given direction at {number(self.score)}"
        along = f"its {self.along}" if isinstance(self.along, str) else "the given vector"
        return f"hold the score of {name_of(self.probe)} at {number(self.score)} along {along}"
