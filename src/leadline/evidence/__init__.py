"""Evidence: what a probe's out-of-fold scores are worth, and the controls they are held against.

Arrays and activation sources flow in; estimates with intervals, p-values, baselines and verdicts flow out. This room
knows no model, no file and no configuration.
"""

from leadline.evidence.baselines import Baseline
from leadline.evidence.bootstrap import Estimate
from leadline.evidence.giveaway import giveaway_words, mask_texts
from leadline.evidence.labels import Labels, Source
from leadline.evidence.measures import DEFAULT_MEASURES, MEASURES, SAFEGUARDS, Masked, Measures
from leadline.evidence.permutation import PermutationTest
from leadline.evidence.sweep import Sweep, folds_of, sweep_target
from leadline.evidence.transfer import HeldOut, held_out_metrics, hold_out, mahalanobis_cosine
from leadline.evidence.transfer_matrix import TransferMatrix, transfer_matrix
from leadline.evidence.verdict import CLAIMS, Verdict
from leadline.probes.splits import make_folds

__all__ = [
    "CLAIMS",
    "DEFAULT_MEASURES",
    "MEASURES",
    "SAFEGUARDS",
    "Baseline",
    "Estimate",
    "HeldOut",
    "Labels",
    "Masked",
    "Measures",
    "PermutationTest",
    "Source",
    "Sweep",
    "TransferMatrix",
    "Verdict",
    "folds_of",
    "giveaway_words",
    "held_out_metrics",
    "hold_out",
    "mahalanobis_cosine",
    "make_folds",
    "mask_texts",
    "sweep_target",
    "transfer_matrix",
]
