"""What a structural probe's fit yields: its map, its held-out predictions and their scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from leadline.errors import ProbeError
from leadline.probes.fit import Status
from leadline.probes.structural_metrics import DepthScores, DistanceScores

if TYPE_CHECKING:
    from leadline.probes.structural import DepthProbe, DistanceProbe

__all__ = ["RankSweep", "StructuralFit"]


@dataclass(frozen=True, eq=False)
class StructuralFit:
    """A structural probe fitted on sentences.

    Attributes
    ----------
    spec : what was fitted.
    map : (k, d) float64, B for raw activations, of the refit (of the only fit where `test` was given).
    offset : (k,) b of a depth probe with an offset, zeros for every other.
    fold_maps : (K, k, d) and fold_offsets : (K, k), of the folds' fits.
    judged : (J,) indices of the sentences with a prediction by a fit that did not train on them.
    predicted : J arrays, (T, T) squared distances or (T,) squared norms, by that fit.
    scores : of those predictions against the trees; None where nothing was held out.
    status : (F,) int8 of `Status`, epochs : (F,) int, for the folds and then the refit. CONVERGED says that the step
        fell to its end without a better loss on held-out sentences; the problem is not convex, and nothing bounds what
        a better fit could gain.
    train_loss, held_out_loss : (F,) the objective over the sentences trained on, and over the tenth of the training
        sentences by which the step is set and the shrinkage chosen.
    shrinkage : (F,) the one with the smallest held-out loss.
    """

    spec: DistanceProbe | DepthProbe
    map: np.ndarray
    offset: np.ndarray
    fold_maps: np.ndarray
    fold_offsets: np.ndarray
    judged: np.ndarray
    predicted: tuple[np.ndarray, ...]
    scores: DistanceScores | DepthScores | None
    status: np.ndarray
    epochs: np.ndarray
    train_loss: np.ndarray
    held_out_loss: np.ndarray
    shrinkage: np.ndarray

    @property
    def converged(self) -> bool:
        """Whether every fit did; `Status.explanation` says why one did not."""
        return bool((self.status == Status.CONVERGED).all())

    def predict(self, sentence: np.ndarray) -> np.ndarray:
        """Squared distances (T, T) or squared norms (T,) of a sentence's raw activations (T, d).

        Raises
        ------
        ProbeError : another width than the probe's.
        """
        words = np.asarray(sentence, dtype=np.float64)
        if words.ndim != 2 or words.shape[1] != self.map.shape[1]:
            raise ProbeError(f"got a sentence of shape {words.shape}; this probe reads (T, {self.map.shape[1]}).")
        return self.spec.predict_from(words, self.map, self.offset)

    def __repr__(self) -> str:
        found = "" if self.scores is None else f", {self.spec.figure} {getattr(self.scores, self.spec.figure)}"
        return f"StructuralFit({self.spec.name}, rank {len(self.map)}{found})"


@dataclass(frozen=True, eq=False)
class RankSweep:
    """The same probe at several ranks, trained on the same batches."""

    fits: tuple[StructuralFit, ...]

    @cached_property
    def table(self) -> pl.DataFrame:
        """A row a rank: the scores with their intervals (null where nothing was held out), losses, and how it ended."""
        rows = []
        for fit in self.fits:
            row: dict[str, object] = {"rank": len(fit.map)}
            for name in (fit.spec.figure, "spearman"):
                found = getattr(fit.scores, name, None)
                for part in ("value", "low", "high"):
                    title = name if part == "value" else f"{name}_{part}"
                    row[title] = None if found is None else getattr(found, part)
            row |= {
                "train_loss": float(fit.train_loss[-1]),
                "held_out_loss": float(fit.held_out_loss[-1]),
                "shrinkage": float(fit.shrinkage[-1]),
                "status": Status(int(fit.status.max())).name.lower(),
                "epochs": int(fit.epochs.max()),
            }
            rows.append(row)
        return pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.selectors.float().fill_nan(None))

    def __getitem__(self, index: int) -> StructuralFit:
        return self.fits[index]

    def __len__(self) -> int:
        return len(self.fits)
