"""A small network as the control for linearity: what can it read that no linear probe does?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from leadline.errors import EvidenceError, ProbeError
from leadline.probes.fit import Status
from leadline.probes.fitted import prepare
from leadline.probes.folds import check_design, check_labels, fold_moments, training_rows, varying_features
from leadline.probes.losses import LOSSES
from leadline.probes.solvers.mlp import ACTIVATIONS, POINT_LOSSES, MLPSolution, Schedule, forward, train_mlps
from leadline.probes.splits import make_folds

__all__ = ["DEFAULT_WEIGHT_DECAY", "MLP", "MLPFit"]

DEFAULT_WEIGHT_DECAY = (0.01, 1.0, 10.0)

_LOSS_NAMES = {"binary": "log_loss", "multiclass": "multiclass_log_loss", "continuous": "squared_error"}
# Stacked first layers, their gradients and Adam's two moments; sites beyond this many bytes are trained in turn.
_PARAMETER_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class MLPFit:
    """Every network at one site: L weight decays × (K folds + the refit on all rows) × p problems. No linear map.

    Attributes
    ----------
    settings : (L,) the weight decays.
    scores : (L, n, c) float32, out of fold: row i is scored by the network that did not train on its fold. Log odds for
        a binary target, logits for classes, values for a continuous one. NaN without folds.
    loss : (L,) the mean out-of-fold loss; NaN without folds. chosen : index of its smallest, 0 without folds.
    train_loss, validation_loss : (L, K + 1, p, E) of each epoch; a continuous target's in units of its variance; the
        latter NaN if `validation` is 0.
    best_epoch : (L, K + 1, p) the epoch, from 0, that was kept.
    status : (L, K + 1, p) int8 of `Status`: `ITERATION_LIMIT` if the best validation loss (without a validation part,
        the training loss) still fell by 5 % or more over the second half of the epochs, `NOT_FINITE` if a loss left
        floating point, else `CONVERGED`. Nothing certifies a minimum, and a network that has not begun to learn looks
        like one that has ended; more epochs tell them apart.
    """

    settings: np.ndarray
    scores: np.ndarray
    loss: np.ndarray
    chosen: int
    train_loss: np.ndarray
    validation_loss: np.ndarray
    best_epoch: np.ndarray
    status: np.ndarray
    _refit: _Refit

    @property
    def converged(self) -> np.ndarray:
        """(L, K + 1, p) bool."""
        return np.asarray(self.status == Status.CONVERGED)

    def score(self, X: np.ndarray, index: int | None = None) -> np.ndarray:
        """(n, c) float32 scores of raw activations X (n, d) by the refit, at the chosen setting or at `index`.

        Raises
        ------
        ProbeError : a width other than the fitted one.
        """
        return self._refit.score(X, self.chosen if index is None else index)


@dataclass(frozen=True, eq=False)
class _Refit:
    """The refit's networks of one site: (1, L·p, …) parameters, and how features and scores are scaled."""

    parameters: list[tuple[Tensor, Tensor]]
    mean: np.ndarray
    scale: np.ndarray
    shift: Tensor
    gain: Tensor
    activation: str
    unit: np.ndarray
    origin: np.ndarray

    def score(self, X: np.ndarray, index: int) -> np.ndarray:
        X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] != len(self.mean):
            raise ProbeError(f"got activations of shape {X.shape}; this probe reads (n, {len(self.mean)}).")
        p = len(self.unit)
        own = slice(index * p, (index + 1) * p)
        parameters = [(w[:, own], b[:, own]) for w, b in self.parameters]
        parts = []
        for start in range(0, len(X), 4096):
            Z = _features(X[start : start + 4096], self.mean, self.scale, self.shift.device)[None]
            with torch.no_grad():
                f = forward(Z, parameters, self.shift[:, own], self.gain[:, own], ACTIVATIONS[self.activation])[0]
            parts.append(f.permute(1, 0, 2).flatten(1).cpu().numpy())
        return np.asarray(np.concatenate(parts) * self.unit + self.origin, dtype=np.float32)


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron on standardised features: minimises the mean loss by AdamW, from one start, by one seed.

    It has the splits and the scaling of a linear probe: features are standardised by each fold's training rows, and a
    row is scored by the network that did not train on its fold. Where it reads no more than a linear probe, the concept
    is linear as far as this network can tell; where it reads more, either the concept is not linear or the network
    learns the task itself, which a control task tells apart. The loss is the log-loss for binary targets (a network for
    each column), cross-entropy for classes, and ½·(y − f)² in units of the target's variance for continuous ones.
    All folds and settings of a site, and several sites (`fit_sites`), are trained at once.

    Parameters
    ----------
    hidden : widths of the hidden layers.
    weight_decay : AdamW's, on weights and not on biases: one, several (one is then chosen by out-of-fold loss), or None
        for 0.01, 1, 10. 0 is none. A step shrinks the weights by learning rate × weight decay.
    epochs : at most. patience : epochs without a better validation loss after which a network's best is kept.
    batch_size : rows a step; None for all. With all rows a step, a weight of 2 equals a row that stands twice.
    learning_rate : at the start; it falls to 0 along a cosine over `epochs`.
    dropout : the share of hidden units that are left out in a step.
    validation : the share of each fold's training rows that decides when to stop, in whole groups; 0 for none, and
        then the last epoch is kept.
    activation : `"gelu"` or `"relu"`.
    kind : `"binary"`, `"multiclass"` or `"continuous"`.
    seed : of the start, the batches, the dropout and the validation parts. No global random state is touched.
    device : where to train, as torch names it.

    Raises
    ------
    ProbeError : a parameter outside its range, targets of another kind, or training rows too few for a validation part.

    References
    ----------
    J. Hewitt and P. Liang (2019), Designing and interpreting probes with control tasks, EMNLP, arXiv:1909.03368.
    T. Pimentel et al. (2020), Information-theoretic probing for linguistic structure, ACL, arXiv:2004.03061.
    I. Loshchilov and F. Hutter (2019), Decoupled weight decay regularization, ICLR, arXiv:1711.05101.

    Examples
    --------
    >>> import numpy as np
    >>> from leadline.probes.mlp import MLP
    >>> X = np.random.default_rng(0).normal(size=(400, 4))
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(float)
    >>> fit = MLP(weight_decay=0.01).fit_site(X, y[:, None], np.arange(400) % 4)
    >>> bool(((fit.scores[0, :, 0] > 0) == y).mean() > 0.8)
    True
    """

    hidden: tuple[int, ...] = (64,)
    weight_decay: float | tuple[float, ...] | None = None
    epochs: int = 60
    patience: int = 10
    batch_size: int | None = 128
    learning_rate: float = 5e-3
    dropout: float = 0.0
    validation: float = 0.1
    activation: str = "gelu"
    kind: str = "binary"
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        checks = (
            (bool(self.hidden) and all(h >= 1 for h in self.hidden), "hidden", "one or several widths, as in (64,)"),
            (self.epochs >= 1, "epochs", "1 or more"),
            (self.patience >= 1, "patience", "1 or more"),
            (self.batch_size is None or self.batch_size >= 1, "batch_size", "1 or more, or None for all rows"),
            (0 < self.learning_rate < np.inf, "learning_rate", "a positive number"),
            (0 <= self.dropout < 1, "dropout", "a share from 0 to below 1"),
            (0 <= self.validation <= 0.5, "validation", "a share from 0 to 0.5"),
            (self.activation in ACTIVATIONS, "activation", f"one of {', '.join(ACTIVATIONS)}"),
            (self.kind in _LOSS_NAMES, "kind", f"one of {', '.join(_LOSS_NAMES)}"),
            (
                bool(self.grid) and all(0 <= x < np.inf for x in self.grid),
                "weight_decay",
                "one or several numbers, none below 0",
            ),
        )
        for good, field, expected in checks:
            if not good:
                raise ProbeError(f"{field} of an MLP is {getattr(self, field)!r}; expected {expected}.")

    @property
    def name(self) -> str:
        return "mlp"

    @property
    def kinds(self) -> tuple[str, ...]:
        return (self.kind,)

    @property
    def parameter(self) -> str:
        return "weight_decay"

    @property
    def loss(self) -> str:
        return _LOSS_NAMES[self.kind]

    @property
    def grid(self) -> tuple[float, ...]:
        """The weight decays that are tried."""
        if self.weight_decay is None:
            return DEFAULT_WEIGHT_DECAY
        given = self.weight_decay
        return (float(given),) if isinstance(given, int | float) else tuple(float(x) for x in given)

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        *,
        n_folds: int = 5,
        fold: np.ndarray | None = None,
        groups: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        balance: bool = False,
        seed: int = 0,
    ) -> MLPFit:
        """Train on plain arrays, with the splits that a linear family's `fit` makes of the same arguments.

        Parameters and errors are those of `leadline.probes.fitted.fit_family`; `seed` is of the folds and of the
        balanced draw, the network's own is a field.
        """
        X, Y, fold, weights = prepare(
            self.name,
            self.kinds,
            X,
            y,
            n_folds=n_folds,
            fold=fold,
            groups=groups,
            weights=weights,
            balance=balance,
            seed=seed,
        )
        return self.fit_site(X, Y, fold, weights=weights, groups=groups)

    def fit_site(
        self,
        X: np.ndarray,
        Y: np.ndarray,
        fold: np.ndarray,
        *,
        weights: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> MLPFit:
        """Train at one site; see `fit_sites`."""
        return self.fit_sites([X], Y, fold, weights=weights, groups=groups)[0]

    def fit_sites(
        self,
        X: Sequence[np.ndarray],
        Y: np.ndarray,
        fold: np.ndarray,
        *,
        weights: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> list[MLPFit]:
        """Train at several sites of one width at once; each comes out as if it were trained alone.

        Parameters
        ----------
        X : for each site (n, d) raw activations, of the same rows. Y : (n, m), as `kinds` says.
        fold : (n,) the fold that tests a row; −1 everywhere for the refit alone.
        weights : (n,) ≥ 0, None for ones; 0 leaves a row out, in the scaling too.
        groups : (n,) labels; a group is trained on or validated on as a whole.
        """
        if Y.ndim != 2:
            raise ProbeError(f"got Y of shape {Y.shape}; expected (n, m), or use fit(X, y).")
        if not X or any(x.shape != X[0].shape for x in X):
            raise ProbeError(
                f"got sites of shapes {[x.shape for x in X]}; train sites of one width and one n together."
            )
        size = 16 * X[0].shape[1] * self.hidden[0] * len(self.grid) * (int(fold.max()) + 2) * Y.shape[1]
        at_once = max(1, _PARAMETER_BYTES // size)
        fits: list[MLPFit] = []
        for start in range(0, len(X), at_once):
            fits += self._train(X[start : start + at_once], Y, fold, weights, groups)
        return fits

    def _train(
        self,
        X: Sequence[np.ndarray],
        Y: np.ndarray,
        fold: np.ndarray,
        weights: np.ndarray | None,
        groups: np.ndarray | None,
    ) -> list[MLPFit]:
        for x in X:
            n_folds = check_design(x, Y, fold, weights)
        n_classes = check_labels(Y, self.kind, "MLP", fold, weights)
        moments = [fold_moments(x, fold, n_folds, weights) for x in X]
        counted = np.ones(len(Y)) if weights is None else weights
        n, m = Y.shape
        shape = (len(self.grid), n_folds + 1, m)
        device = torch.device(self.device)

        def each(values: np.ndarray) -> Tensor:
            """(K + 1, m, …) to one entry a network, in the order of `shape`."""
            stacked = np.broadcast_to(values, (len(self.grid), *values.shape)).reshape(-1, *values.shape[2:])
            return torch.from_numpy(np.ascontiguousarray(stacked, dtype=np.float32)).to(device)

        train, held_out = self._parts(Y, fold, n_folds, counted, groups)
        share = train / train.sum(axis=-1, keepdims=True)
        held_sum = held_out.sum(axis=-1, keepdims=True)
        held_share = np.divide(held_out, held_sum, out=np.zeros_like(held_out), where=held_sum > 0)
        origin, unit = np.zeros((n_folds + 1, m)), np.ones((n_folds + 1, m))
        if self.kind == "continuous":
            origin = np.einsum("kmn,nm->km", share, Y)
            spread = np.sqrt(np.einsum("kmn,kmn->km", share, np.square(Y.T - origin[..., None])))
            unit = np.where(spread > 0, spread, 1.0)
        targets = (Y.T - origin[..., None]) / unit[..., None]
        shift, gain = [], []
        for x, own in zip(X, moments, strict=True):
            used = varying_features(x, fold, own, counted > 0)
            shift.append(each(np.repeat(((own.fold_mean - own.mean) / own.scale)[:, None], m, axis=1)))
            gain.append(each(np.repeat((used * own.scale / own.fold_scale)[:, None], m, axis=1)))
        Z = torch.stack([_features(x, own.mean, own.scale, device) for x, own in zip(X, moments, strict=True)])
        shifts, gains = torch.stack(shift), torch.stack(gain)
        decay = torch.tensor(self.grid, device=device).repeat_interleave((n_folds + 1) * m)
        outputs = n_classes if self.kind == "multiclass" else 1
        schedule = Schedule(
            tuple(self.hidden),
            self.activation,
            self.dropout,
            self.epochs,
            self.batch_size,
            self.learning_rate,
            self.patience,
            self.seed,
        )
        solution = train_mlps(
            Z,
            shifts,
            gains,
            each(targets)[..., None],
            each(share),
            each(held_share),
            decay,
            POINT_LOSSES[self.kind],
            outputs,
            schedule,
        )
        status = self._status(solution)
        fits = []
        for site, (x, own) in enumerate(zip(X, moments, strict=True)):
            scores = np.full((len(self.grid), n, m * outputs), np.nan, dtype=np.float32)
            for k in range(n_folds + 1):
                networks = torch.from_numpy(np.arange(np.prod(shape)).reshape(shape)[:, k].ravel()).to(device)
                refit = _Refit(
                    [(w[site : site + 1, networks], b[site : site + 1, networks]) for w, b in solution.parameters],
                    own.mean,
                    own.scale,
                    shifts[site : site + 1, networks],
                    gains[site : site + 1, networks],
                    self.activation,
                    unit[k],
                    origin[k],
                )
                if k < n_folds:
                    for index in range(len(self.grid)):
                        scores[index, fold == k] = refit.score(x[fold == k], index)
            loss = np.full(len(self.grid), np.nan)
            if n_folds:
                each_loss = np.stack([LOSSES[self.loss](f.astype(np.float64), Y) for f in scores])
                loss = np.einsum("n,lnp->l", counted / counted.sum() / each_loss.shape[2], each_loss)
            fits.append(
                MLPFit(
                    settings=np.array(self.grid),
                    scores=scores,
                    loss=loss,
                    chosen=int(np.nanargmin(loss)) if np.isfinite(loss).any() else 0,
                    train_loss=solution.train_loss[site].cpu().numpy().reshape(*shape, -1),
                    validation_loss=solution.validation_loss[site].cpu().numpy().reshape(*shape, -1),
                    best_epoch=solution.best_epoch[site].cpu().numpy().reshape(shape),
                    status=status[site].reshape(shape),
                    _refit=refit,
                )
            )
        return fits

    def _parts(
        self, Y: np.ndarray, fold: np.ndarray, n_folds: int, counted: np.ndarray, groups: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(K + 1, m, n) weights of the rows that are trained on, and of those held out for stopping."""
        n, m = Y.shape
        train, held_out = np.zeros((n_folds + 1, m, n)), np.zeros((n_folds + 1, m, n))
        for k in range(n_folds + 1):
            rows = np.flatnonzero(training_rows(fold, k) & (counted > 0))
            for column in range(m):
                train[k, column, rows] = counted[rows]
                if self.validation == 0:
                    continue
                try:
                    part = make_folds(
                        Y[rows, column],
                        None if groups is None else np.asarray(groups)[rows],
                        round(1 / self.validation),
                        stratify=self.kind != "continuous",
                        seed=self.seed,
                    )
                except EvidenceError as error:
                    where = f"fold {k}'s training rows" if k < n_folds else "all rows"
                    raise ProbeError(
                        f"no validation part of {self.validation:g} can be taken from {where} ({error}) "
                        "Give validation=0 to train for all epochs, or a larger share."
                    ) from error
                held = rows[part == 0]
                train[k, column, held] = 0.0
                held_out[k, column, held] = counted[held]
        return train, held_out

    def _status(self, solution: MLPSolution) -> np.ndarray:
        """(S, N) int8."""
        watched = solution.validation_loss if self.validation > 0 else solution.train_loss
        curve = np.minimum.accumulate(watched.cpu().numpy(), axis=-1)
        last = curve.shape[-1] - 1
        before = curve[..., max(0, last - max(1, self.epochs // 2))]
        falling = (last == self.epochs - 1) & (curve[..., -1] < 0.95 * before)
        if self.validation > 0:
            # Others may have kept a network going whose patience had run out.
            falling &= solution.best_epoch.cpu().numpy() + self.patience >= self.epochs - 1
        status = np.where(falling, Status.ITERATION_LIMIT, Status.CONVERGED)
        return np.where(solution.finite.cpu().numpy(), status, Status.NOT_FINITE).astype(np.int8)


def _features(X: np.ndarray, mean: np.ndarray, scale: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(((X - mean) / scale).astype(np.float32)).to(device)
