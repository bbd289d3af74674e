"""Interventions on a model along a probe's direction, what they change, and which components write the direction.

A probe shows what can be read; an intervention shows what is used. In come a loaded model, encoded texts and a probe
(or any vector); out come effects with intervals, beside the effects of random directions of the same norm, and the
exact shares of the model's components in the probe's score. Nothing here knows studies, data sets or reports.
"""

from leadline.causal.eraser import Eraser
from leadline.causal.erasure import LeaceFitter, Whitening, leace, mean_difference_eraser
from leadline.causal.helix import HelixSubspace
from leadline.causal.inlp import inlp
from leadline.causal.interventions import Ablate, Add, Clamp, Erase, Intervention, Patch, Rotate
from leadline.causal.plan import Bound, Plan

__all__ = [
    "Ablate",
    "Add",
    "Bound",
    "Clamp",
    "Erase",
    "Eraser",
    "HelixSubspace",
    "Intervention",
    "LeaceFitter",
    "Patch",
    "Plan",
    "Rotate",
    "Whitening",
    "inlp",
    "leace",
    "mean_difference_eraser",
]
