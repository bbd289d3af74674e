"""Linear probes: arrays in, probes and out-of-fold scores out.

A family is a frozen specification (`Logistic`, `Ridge`, `MeanDifference`); its `fit_site` fits every penalty, fold and
target column of a site together and returns a `SiteFit`. A `Probe` is what is kept of it: a linear map in raw
activation space, with its file format. This room knows arrays alone: no model, no store, no YAML.
"""

from leadline.probes.fit import Family, SiteFit, Status
from leadline.probes.fitted import Fitted
from leadline.probes.logistic import Logistic
from leadline.probes.mean_difference import MeanDifference
from leadline.probes.multinomial import Multinomial
from leadline.probes.ordinal import Ordinal
from leadline.probes.probe import Probe, ProbeSet
from leadline.probes.ridge import Ridge
from leadline.probes.splits import make_folds
from leadline.probes.svm import LinearSVM
from leadline.probes.weights import balanced_sample

__all__ = [
    "FAMILIES",
    "Family",
    "Fitted",
    "LinearSVM",
    "Logistic",
    "MeanDifference",
    "Multinomial",
    "Ordinal",
    "Probe",
    "ProbeSet",
    "Ridge",
    "SiteFit",
    "Status",
    "balanced_sample",
    "make_folds",
]

FAMILIES = {"logistic": Logistic, "ridge": Ridge, "mean_difference": MeanDifference}
