"""Evidence: what a probe's out-of-fold scores are worth, and the controls they are held against.

Arrays and activation sources flow in; estimates with intervals, p-values, baselines and verdicts flow out. This room
knows no model, no file and no configuration.
"""

from leadline.evidence.baselines import Baseline
from leadline.evidence.bootstrap import Estimate
from leadline.evidence.labels import Labels, Source
from leadline.evidence.permutation import PermutationTest
from leadline.evidence.sweep import Sweep, sweep_target
from leadline.evidence.transfer import held_out_metrics
from leadline.evidence.verdict import CLAIMS, Verdict
from leadline.probes.splits import make_folds

__all__ = [
    "CLAIMS",
    "Baseline",
    "Estimate",
    "Labels",
    "PermutationTest",
    "Source",
    "Sweep",
    "Verdict",
    "held_out_metrics",
    "make_folds",
    "sweep_target",
]
