"""A fitted eraser, an affine map of low rank that takes a concept out of activations, and its file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from leadline.errors import CausalError
from leadline.files import replace_atomic
from leadline.sites import Site

__all__ = ["FORMAT", "Eraser"]

FORMAT = "leadline-eraser-1"

Rows = TypeVar("Rows", np.ndarray, torch.Tensor)


@dataclass(frozen=True, eq=False)
class Eraser:
    """r(x) = x − P(x − μ), with P = left'·right of rank k kept as its factors.

    Parameters
    ----------
    left : (k, d) float64, what is taken out; right : (k, d) float64, what is read to know how much.
    mean : (d,) float64, μ: the point that stays where it is.
    site : where it belongs; None for activations that came without a place.
    label : what was erased, and how, for a reader.
    model_fingerprint : the model that it belongs to; None if unknown.

    Raises
    ------
    CausalError : shapes that do not fit each other, or values that are not finite.
    """

    left: np.ndarray
    right: np.ndarray
    mean: np.ndarray
    site: Site | None = None
    label: str = "a concept"
    model_fingerprint: str | None = None

    def __post_init__(self) -> None:
        for name in ("left", "right", "mean"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.float64))
        if self.site is not None:
            object.__setattr__(self, "site", Site.parse(self.site))
        left, right, mean = self.left, self.right, self.mean
        if left.ndim != 2 or left.shape != right.shape or mean.shape != left.shape[1:]:
            raise CausalError(
                f"got factors {left.shape} and {right.shape} and a mean {mean.shape}; expected (k, d), (k, d) and (d,)."
            )
        if not (np.isfinite(left).all() and np.isfinite(right).all() and np.isfinite(mean).all()):
            raise CausalError("an eraser holds a NaN or an infinity; fit it on finite activations.")

    @property
    def d(self) -> int:
        """The width of the activations that it takes."""
        return len(self.mean)

    @property
    def rank(self) -> int:
        """k, the number of dimensions that it takes out; 0 where there was nothing to erase."""
        return len(self.left)

    @property
    def matrix(self) -> np.ndarray:
        """(d, d) I − P."""
        return np.asarray(np.eye(self.d) - self.left.T @ self.right)

    def apply(self, h: Rows) -> Rows:
        """Erase.

        Parameters
        ----------
        h : (..., d) numpy array or tensor. Half precision is worked in float32, arrays in float64.

        Returns
        -------
        A new array or tensor of the same shape, floating type and device; `h` is not written to.

        Raises
        ------
        CausalError : another width.
        """
        if h.ndim < 1 or h.shape[-1] != self.d:
            raise CausalError(
                f"got activations of shape {tuple(h.shape)}; this eraser of {self.label} takes (..., {self.d})."
            )
        if isinstance(h, torch.Tensor):
            working = torch.float64 if h.dtype is torch.float64 else torch.float32
            left, right, mean = (
                torch.from_numpy(part).to(h.device, working) for part in (self.left, self.right, self.mean)
            )
            x = h.to(working)
            # Centred before it is read: a massive mean would cost the reading its digits.
            return (x - ((x - mean) @ right.T) @ left).to(h.dtype)
        x64 = np.asarray(h, dtype=np.float64)
        erased = x64 - ((x64 - self.mean) @ self.right.T) @ self.left
        return erased.astype(h.dtype) if np.issubdtype(h.dtype, np.floating) else erased

    def at(self, site: str | Site | None, model_fingerprint: str | None = None) -> Eraser:
        """The same eraser, bound to a site and a model."""
        return replace(self, site=None if site is None else Site.parse(site), model_fingerprint=model_fingerprint)

    def describe(self) -> str:
        """One clause for a person."""
        what = f"erase {self.label} (rank {self.rank} of {self.d})"
        return what if self.site is None else f"{what} at {self.site}"

    def write(self, path: str | Path) -> Path:
        """Write the eraser to one safetensors file, whole or not at all."""
        header = {
            "format": FORMAT,
            "site": None if self.site is None else self.site.name,
            "label": self.label,
            "model_fingerprint": self.model_fingerprint,
        }
        tensors = {"left": self.left, "right": self.right, "mean": self.mean}
        target = Path(path)
        with replace_atomic(target) as temporary:
            save_file(tensors, temporary, metadata={"leadline": json.dumps(header, sort_keys=True)})
        return target

    @classmethod
    def read(cls, path: str | Path) -> Eraser:
        """Read an eraser's file.

        Raises
        ------
        CausalError : no such file, or not an eraser of this format.
        """
        file = Path(path)
        if not file.is_file():
            raise CausalError(f"no eraser at '{file}'; expected a file that `Eraser.write` wrote. Check the path.")
        try:
            with safe_open(str(file), framework="numpy") as opened:
                header = json.loads((opened.metadata() or {}).get("leadline", "{}"))
                if header.get("format") != FORMAT:
                    raise CausalError(f"'{file}' is no eraser of format {FORMAT}; it says {header.get('format')}.")
                tensors = {name: opened.get_tensor(name) for name in ("left", "right", "mean")}
        except (SafetensorError, json.JSONDecodeError, OSError) as error:
            raise CausalError(f"'{file}' cannot be read as an eraser ({error}); write it again.") from error
        header.pop("format")
        site = header.pop("site")
        return cls(site=None if site is None else Site.parse(site), **tensors, **header)

    def __repr__(self) -> str:
        return f"Eraser({self.label!r} at {self.site}, rank {self.rank}, d={self.d})"
