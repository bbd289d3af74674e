"""Linear probes: arrays in, probes and out-of-fold scores out.

A family is a frozen specification (`Logistic`, `Ridge`, `LDA`, …); its `fit_site` fits every setting, fold and target
column of a site together and returns a `SiteFit`, and its `fit` does so on plain arrays, chooses a setting, and keeps a
`Probe`: a linear map in raw activation space, with its file format. Families that see more than labelled vectors
(pairs, trees, numbers on a circle) have a `fit` of their own. This room knows arrays alone: no model, no store, no
YAML.
"""

from leadline.probes.ccs import CCS
from leadline.probes.concept_rank import ConceptRank
from leadline.probes.crc import CRC
from leadline.probes.elastic_net import ElasticNet, SparseLogistic
from leadline.probes.fit import Family, SiteFit, Status
from leadline.probes.fitted import Fitted
from leadline.probes.k_sparse import KSparse
from leadline.probes.lat import LAT
from leadline.probes.lda import LDA
from leadline.probes.leave_one_out import LeaveOneOut
from leadline.probes.logistic import Logistic
from leadline.probes.mean_difference import MeanDifference
from leadline.probes.mlp import MLP
from leadline.probes.multinomial import Multinomial
from leadline.probes.nearest_centroid import NearestCentroid
from leadline.probes.ordinal import Ordinal
from leadline.probes.periodic import Fourier, Helix
from leadline.probes.probe import Probe, ProbeSet
from leadline.probes.ridge import Ridge
from leadline.probes.splits import make_folds
from leadline.probes.streamed_fits import fit_streamed
from leadline.probes.streaming import StreamedMoments
from leadline.probes.structural import DepthProbe, DistanceProbe
from leadline.probes.svm import LinearSVM
from leadline.probes.weights import balanced_sample

__all__ = [
    "CCS",
    "CRC",
    "FAMILIES",
    "LAT",
    "LDA",
    "MLP",
    "ConceptRank",
    "DepthProbe",
    "DistanceProbe",
    "ElasticNet",
    "Family",
    "Fitted",
    "Fourier",
    "Helix",
    "KSparse",
    "LeaveOneOut",
    "LinearSVM",
    "Logistic",
    "MeanDifference",
    "Multinomial",
    "NearestCentroid",
    "Ordinal",
    "Probe",
    "ProbeSet",
    "Ridge",
    "SiteFit",
    "SparseLogistic",
    "Status",
    "StreamedMoments",
    "balanced_sample",
    "fit_streamed",
    "make_folds",
]

FAMILIES = {
    "logistic": Logistic,
    "linear_svm": LinearSVM,
    "ridge": Ridge,
    "mean_difference": MeanDifference,
    "lda": LDA,
    "nearest_centroid": NearestCentroid,
    "elastic_net": ElasticNet,
    "sparse_logistic": SparseLogistic,
    "k_sparse": KSparse,
}
