"""A number's helix in activations, turned: each circle by its share of a period, the line by a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch

from leadline.errors import CausalError
from leadline.probes.periodic import NUMBERS, Fourier, Helix, PeriodicFit
from leadline.sites import Site

__all__ = ["HelixSubspace"]

Rows = TypeVar("Rows", np.ndarray, torch.Tensor)

_DEPENDENT = 1e-8
"""A relative singular value below which directions of the helix coincide."""


@dataclass(frozen=True, eq=False)
class HelixSubspace:
    """Activations h = C B(a) + origin + rest of numbers a, B(a) = [a, cos(2πa/T), sin(2πa/T), …] over periods T.

    Turning by b reads the coordinates β = C⁺(h − origin) and writes h + C(M_b β + s_b − β): M_b turns the plane of
    each period T by the angle 2πb/T, and s_b adds b to the linear coordinate. So the activation of a becomes that of
    a + b; what stands at right angles to the columns of C stays. Turns add up: by b and then c is by b + c.

    Parameters
    ----------
    C : (d, p) float64, columns as in `spec.columns`; origin : (d,). As in `PeriodicFit`.
    spec : the basis. numbers : the distinct numbers fitted, ascending; what `decode` chooses among.
    site, label, model_fingerprint : where it belongs, what it is, for whom; as in `Eraser`.

    Attributes
    ----------
    half : the periods of which the numbers show one direction alone, as of 2 in whole numbers (sin πa is 0): they turn
        by half periods T/2 only.

    Raises
    ------
    CausalError : shapes that do not fit, values that are not finite; a period whose plane is empty, or periods that
        coincide on the numbers fitted, so that nothing tells how they turn.

    References
    ----------
    S. Kantamneni and M. Tegmark (2025), Language Models Use Trigonometry to Do Addition, arXiv:2502.00873.

    Examples
    --------
    >>> a = np.arange(30.0)
    >>> X = Helix(periods=(10,)).basis(a) @ np.random.default_rng(0).normal(size=(3, 8))
    >>> helix = HelixSubspace.fit(X, a, periods=(10,))
    >>> bool(np.allclose(helix.rotate(X[:27], by=3), X[3:]))
    True
    """

    C: np.ndarray
    origin: np.ndarray
    spec: Helix
    numbers: np.ndarray
    site: Site | None = None
    label: str = "a number"
    model_fingerprint: str | None = None
    half: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        for name in ("C", "origin", "numbers"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.float64))
        if self.site is not None:
            object.__setattr__(self, "site", Site.parse(self.site))
        p = len(self.spec.columns)
        if self.C.ndim != 2 or self.C.shape[1] != p or self.origin.shape != self.C.shape[:1] or self.numbers.ndim != 1:
            raise CausalError(
                f"got C {self.C.shape}, origin {self.origin.shape} and numbers {self.numbers.shape}; expected "
                f"(d, {p}), (d,) and one axis."
            )
        if not all(np.isfinite(part).all() for part in (self.C, self.origin, self.numbers)):
            raise CausalError("a helix holds a NaN or an infinity; fit it on finite activations.")
        object.__setattr__(self, "half", self._check_planes())

    @classmethod
    def fit(
        cls,
        X: np.ndarray,
        values: np.ndarray,
        periods: Sequence[float] = NUMBERS,
        linear: bool = True,
        *,
        n_components: int = 100,
        site: str | Site | None = None,
        label: str = "a number",
        model_fingerprint: str | None = None,
    ) -> HelixSubspace:
        """Fit by least squares within the first principal components; see `leadline.probes.periodic.Helix`.

        Parameters
        ----------
        X : (n, d) raw activations. values : (n,) the number of each row.
        periods : T. linear : with the column a. n_components : of X, kept at most.

        Raises
        ------
        ProbeError : shapes, values or periods that do not fit, too few numbers. CausalError : as for the class.
        """
        kept = tuple(float(period) for period in periods)
        spec = Helix(kept, linear, n_components) if linear else Fourier(kept, n_components=n_components)
        fitted = spec.fit(X, values, n_folds=0)
        return cls.of(fitted, values, site=site, label=label, model_fingerprint=model_fingerprint)

    @classmethod
    def of(
        cls,
        fitted: PeriodicFit,
        values: np.ndarray,
        *,
        site: str | Site | None = None,
        label: str = "a number",
        model_fingerprint: str | None = None,
    ) -> HelixSubspace:
        """From a fit that exists, and the numbers (n,) that it was fitted on."""
        numbers = np.unique(np.asarray(values, dtype=np.float64))
        parsed = None if site is None else Site.parse(site)
        return cls(fitted.C, fitted.origin, fitted.spec, numbers, parsed, label, model_fingerprint)

    @property
    def d(self) -> int:
        """The width of the activations that it takes."""
        return len(self.origin)

    @property
    def basis(self) -> np.ndarray:
        """(k, d) orthonormal rows that span the helix, all that a turn can change."""
        scaled = self.C / self._column_scale()
        U, size, _ = np.linalg.svd(scaled, full_matrices=False)
        return np.asarray(U[:, size > _DEPENDENT * size[0]].T)

    def rotate(
        self,
        h: Rows,
        by: float | np.ndarray | torch.Tensor | None = None,
        *,
        to: float | np.ndarray | torch.Tensor | None = None,
        current: float | np.ndarray | torch.Tensor | None = None,
    ) -> Rows:
        """Turn activations by a step, or to a number.

        Parameters
        ----------
        h : (m, d) numpy array or tensor. Half precision is worked in float32, arrays in float64.
        by : the step, one or (m,); or
        to : the number to turn to, one or (m,), from `current`, one or (m,), and None for what `decode` reads.

        Returns
        -------
        A new array or tensor of the same shape, floating type and device; `h` is not written to.

        Raises
        ------
        CausalError : another width, not exactly one of `by` and `to`, a count of steps other than m, a step that is not
            finite, or no multiple of T/2 for a period in `half`.
        """
        if h.ndim != 2 or h.shape[1] != self.d:
            raise CausalError(f"got activations of shape {tuple(h.shape)}; this helix takes (m, {self.d}).")
        steps = self._steps(h, by, to, current)
        turn, shift = self._turn(steps)
        if isinstance(h, torch.Tensor):
            working = torch.float64 if h.dtype is torch.float64 else torch.float32

            def cast(part: np.ndarray) -> torch.Tensor:
                return torch.from_numpy(np.ascontiguousarray(part)).to(h.device, working)

            x = h.to(working)
            beta = (x - cast(self.origin)) @ cast(self._reader).T
            change = (cast(turn) @ beta[:, :, None])[:, :, 0] + cast(shift)
            return (x + change @ cast(self.C).T).to(h.dtype)
        x64 = np.asarray(h, dtype=np.float64)
        change64 = (turn @ self.coordinates(x64)[:, :, None])[:, :, 0] + shift
        moved = x64 + change64 @ self.C.T
        return moved.astype(h.dtype) if np.issubdtype(h.dtype, np.floating) else moved

    def coordinates(self, h: np.ndarray | torch.Tensor) -> np.ndarray:
        """(m, p) float64 β = C⁺(h − origin), by `spec.columns`, of activations (m, d)."""
        return np.asarray((_to_float64(h) - self.origin) @ self._reader.T)

    def decode(self, h: np.ndarray | torch.Tensor, candidates: np.ndarray | None = None) -> np.ndarray:
        """(m,) the candidate number a of least ‖C(β − B(a))‖ for activations (m, d); None for the numbers fitted."""
        choices = self.numbers if candidates is None else np.asarray(candidates, dtype=np.float64)
        if choices.ndim != 1 or not len(choices):
            raise CausalError(f"got candidates of shape {choices.shape}; expected one number or more (c,).")
        # Distances within the span of C, from its orthonormal coordinates.
        basis = self.basis
        seen = (_to_float64(h) - self.origin) @ basis.T
        known = self.spec.basis(choices) @ self.C.T @ basis.T
        distance = np.square(known).sum(axis=1) - 2 * seen @ known.T
        return np.asarray(choices[distance.argmin(axis=1)])

    def at(self, site: str | Site | None, model_fingerprint: str | None = None) -> HelixSubspace:
        """The same helix, bound to a site and a model."""
        return replace(self, site=None if site is None else Site.parse(site), model_fingerprint=model_fingerprint)

    def describe(self) -> str:
        """One clause for a person."""
        periods = ", ".join(f"{period:g}" for period in self.spec.periods)
        what = f"the helix of {self.label} ({'a line and ' if self.spec.linear else ''}periods {periods})"
        return what if self.site is None else f"{what} at {self.site}"

    def __repr__(self) -> str:
        return f"HelixSubspace({', '.join(self.spec.columns)} at {self.site}, d={self.d})"

    @cached_property
    def _reader(self) -> np.ndarray:
        """(p, d) C⁺."""
        scale = self._column_scale()
        return np.asarray(np.linalg.pinv(self.C / scale, rcond=_DEPENDENT) / scale[:, None])

    def _column_scale(self) -> np.ndarray:
        """(p,) the norm of each column, of a plane's two together: rounding must not be raised to its partner's."""
        size = np.linalg.norm(self.C, axis=0)
        start = int(self.spec.linear)
        size[start:] = np.repeat(np.linalg.norm(size[start:].reshape(-1, 2), axis=1), 2)
        return np.where(size > 0, size, 1.0)

    def _check_planes(self) -> tuple[float, ...]:
        """The periods of half a plane, once it is proved that every plane is there and that none coincide."""
        start = int(self.spec.linear)
        # How far each column moves an activation over the numbers fitted.
        moves = np.linalg.norm(self.C, axis=0)
        moves[:start] *= np.ptp(self.numbers) if len(self.numbers) else 0.0
        floor = 1e-10 * moves.max()
        if start and not moves[0] > floor:
            raise CausalError("the activations hold no line along the numbers; leave it out with linear=False.")
        half = []
        for index, period in enumerate(self.spec.periods):
            plane = np.linalg.svd(self.C[:, start + 2 * index : start + 2 * index + 2], compute_uv=False)
            if not plane[0] > floor:
                raise CausalError(
                    f"the activations hold nothing of period {period:g}, or the numbers fitted do not vary over it, so "
                    "that nothing can be turned; leave that period out."
                )
            if len(plane) < 2 or plane[1] <= _DEPENDENT * plane[0]:
                half.append(period)
        expected = start + 2 * len(self.spec.periods) - len(half)
        if len(self.basis) != expected:
            raise CausalError(
                f"the {len(self.spec.columns)} columns of the helix span {len(self.basis)} dimensions and not "
                f"{expected}: periods coincide on the numbers fitted, or the activations hold fewer dimensions. Give "
                "fewer periods, or more components."
            )
        return tuple(half)

    def _steps(
        self,
        h: np.ndarray | torch.Tensor,
        by: float | np.ndarray | torch.Tensor | None,
        to: float | np.ndarray | torch.Tensor | None,
        current: float | np.ndarray | torch.Tensor | None,
    ) -> np.ndarray:
        """(m,) or (1,) the steps asked for."""
        if (by is None) == (to is None) or (by is not None and current is not None):
            raise CausalError("give `by`, a step; or `to`, a number, with `current` where it is known.")
        given = [_to_float64(value) for value in (by, to, current) if value is not None]
        if any(value.shape not in ((), (1,), (len(h),)) for value in given):
            shapes = ", ".join(str(value.shape) for value in given)
            raise CausalError(f"got steps of shape {shapes}; expected one, or ({len(h)},), one a row.")
        if by is not None:
            steps = given[0]
        else:
            steps = given[0] - (given[1] if current is not None else self.decode(h))
        steps = np.atleast_1d(steps)
        if not np.isfinite(steps).all():
            raise CausalError("a step is NaN or infinite; give finite numbers.")
        for period in self.half:
            turns = 2 * steps / period
            if (np.abs(turns - np.round(turns)) > 1e-9 * np.maximum(1, np.abs(turns))).any():
                raise CausalError(
                    f"the numbers fitted show one direction of period {period:g} only, which turns by multiples of "
                    f"{period / 2:g}; got a step of {steps[np.abs(turns - np.round(turns)).argmax()]:g}. Give such a "
                    "step, or leave that period out."
                )
        return steps

    def _turn(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """M_b − I (m or 1, p, p) and s_b (m or 1, p)."""
        p, start = self.C.shape[1], int(self.spec.linear)
        turn, shift = np.zeros((len(steps), p, p)), np.zeros((len(steps), p))
        if start:
            shift[:, 0] = steps
        for index, period in enumerate(self.spec.periods):
            c = start + 2 * index
            # The remainder first, exact in floating point: whole periods turn nothing, not nearly nothing.
            angle = 2 * np.pi * np.remainder(steps, period) / period
            turn[:, c, c] = turn[:, c + 1, c + 1] = np.cos(angle) - 1
            turn[:, c + 1, c] = np.sin(angle)
            turn[:, c, c + 1] = -turn[:, c + 1, c]
        return turn, shift


def _to_float64(values: object) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().to("cpu", torch.float64).numpy()
    return np.asarray(values, dtype=np.float64)
