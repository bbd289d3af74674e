"""The nonlinearity gap: what a small network reads at a site that the linear probe there does not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp

from leadline.evidence.bootstrap import BootstrapDesign, Estimate, Selection, gain, metric_table, select
from leadline.evidence.metrics import PRIMARY
from leadline.probes.mlp import MLP

__all__ = ["NonlinearityGap", "network_for", "nonlinearity_gap"]

WEIGHT_DECAY = (0.3, 3.0, 10.0)


@dataclass(frozen=True)
class NonlinearityGap:
    """The network's metric, the linear probe's, and their paired difference.

    Attributes
    ----------
    gap : mlp − linear, in the primary `metric`. p_value : one-sided, against a network that reads no more.
    mlp, linear : each corrected for the choice of its own setting.
    weight_decay : the one that was best on all rows. weight_decays : those that were tried.
    selection : the network's, for its other metrics; None where it was not trained.
    reason : why there is no gap or no interval, or an empty string.
    """

    metric: str
    gap: Estimate
    p_value: float
    mlp: Estimate
    linear: Estimate
    weight_decay: float
    weight_decays: tuple[float, ...]
    selection: Selection | None
    reason: str = ""


def network_for(kind: str, n: int, seed: int = 0) -> MLP:
    """The network that `nonlinearity_gap` trains unless it is given one.

    32 hidden units, no early stopping, so that all training rows are trained on and no group is split; three weight
    decays, the choice among which is corrected. Small sets get more epochs and large ones larger batches, for some
    hundreds to two thousand steps at any n.
    """
    batch = int(np.clip(n // 40, 32, 256))
    return MLP(
        hidden=(32,),
        weight_decay=WEIGHT_DECAY,
        epochs=30 if n >= 1000 else 60,
        batch_size=batch,
        validation=0.0,
        kind="multiclass" if kind == "ordinal" else kind,
        seed=seed,
    )


def nonlinearity_gap(
    X: np.ndarray,
    Y: np.ndarray,
    kind: str,
    fold: np.ndarray,
    groups: np.ndarray | None,
    design: BootstrapDesign,
    linear: Selection,
    *,
    mlp: MLP | None = None,
    weights: np.ndarray | None = None,
    seed: int = 0,
) -> NonlinearityGap:
    """Train a network on the linear probe's own folds, and take the paired difference of the two.

    The gap is the network's metric less the linear probe's on the same rows, each corrected for its choice of setting
    (BBC-CV), with the interval of the paired replicates. A gap that is surely above 0 says that a part of what the site
    holds is out of a linear map's reach, or that the network learnt the task itself, which a control task tells apart.
    A gap at or below 0 says that a network of this size, trained on this many rows, finds no more: in many dimensions
    and with few rows it falls behind a linear probe, and the gap is then negative.

    Parameters
    ----------
    X : (n, d) raw activations of the site. Y : (n, m). kind : of the target. fold : (n,). groups : (n,) or None; kept
        whole where `mlp` holds rows out to stop early.
    design : the replicates that `linear` was judged by. linear : the linear probe's selection at this site.
    mlp : a network in place of `network_for(kind, n, seed)`; its `kind` is set here. An ordinal target is trained as
        classes, and scored by the log odds of y > k that the classes' probabilities give.
    weights : (n,) of the training rows, None for ones.

    Raises
    ------
    ProbeError : a class that the training rows of some fold lack, or no validation part, where `mlp` asks for one.

    References
    ----------
    J. Hewitt and P. Liang (2019), Designing and interpreting probes with control tasks, EMNLP, arXiv:1909.03368.
    T. Pimentel et al. (2020), Information-theoretic probing for linguistic structure, ACL, arXiv:2004.03061.
    """
    metric = PRIMARY[kind]
    network = network_for(kind, len(Y), seed) if mlp is None else mlp
    network = replace(network, kind="multiclass" if kind == "ordinal" else kind)
    fit = network.fit_site(X, Y, fold, weights=weights, groups=groups)
    scores = level_scores(fit.scores) if kind == "ordinal" else fit.scores
    trained = np.flatnonzero(np.isfinite(scores).all(axis=(1, 2)))
    none = Estimate(float("nan"))
    if not len(trained):
        reason = "the network's loss left floating point at every weight decay; scale the activations first"
        return NonlinearityGap(
            metric, none, float("nan"), none, linear.metrics[metric], float("nan"), network.grid, None, reason
        )
    found = select(metric_table(scores[trained], Y, kind, design), design)
    gap, p = gain(found, linear, metric, design)
    reason = design.reason
    if not reason and not np.isfinite(gap.low):
        reason = f"{metric} is undefined in more than a tenth of the replicates, which leaves no interval"
    return NonlinearityGap(
        metric=metric,
        gap=gap,
        p_value=p,
        mlp=found.metrics[metric],
        linear=linear.metrics[metric],
        weight_decay=float(fit.settings[trained[found.index]]),
        weight_decays=network.grid,
        selection=found,
        reason=reason,
    )


def level_scores(logits: np.ndarray) -> np.ndarray:
    """(…, C) logits of ordered classes to (…, C − 1) log odds of y > k, which fall with k."""
    n_classes = logits.shape[-1]
    wide = logits.astype(np.float64)
    columns = [
        logsumexp(wide[..., k + 1 :], axis=-1) - logsumexp(wide[..., : k + 1], axis=-1) for k in range(n_classes - 1)
    ]
    return np.stack(columns, axis=-1).astype(np.float32)
