"""Linear probes: arrays in, probes and out-of-fold scores out.

A family is a frozen specification (`Logistic`, `Ridge`, `LDA`, …); its `fit_site` fits every setting, fold and target
column of a site together and returns a `SiteFit`, and its `fit` does so on plain arrays, chooses a setting, and keeps a
`Probe`: a linear map in raw activation space, with its file format. Families that see more than labelled vectors
(pairs, trees, numbers on a circle) have a `fit` of their own. This room knows arrays alone: no model, no store, no
YAML.
"""

from leadline.probes.ccs import CCS
from leadline.probes.concept_rank import ConceptRank, RankFit
from leadline.probes.crc import CRC
from leadline.probes.elastic_net import ElasticNet, SparseLogistic
from leadline.probes.fit import Family, SiteFit, Status
from leadline.probes.fitted import Fitted
from leadline.probes.intervals import Estimate, draw_groups, percentile
from leadline.probes.k_sparse import KSparse, KSparseFit
from leadline.probes.lat import LAT
from leadline.probes.lda import LDA
from leadline.probes.leave_one_out import LeaveOneOut
from leadline.probes.logistic import Logistic
from leadline.probes.mean_difference import MeanDifference
from leadline.probes.mlp import MLP, MLPFit
from leadline.probes.multinomial import Multinomial
from leadline.probes.nearest_centroid import NearestCentroid
from leadline.probes.ordinal import Ordinal
from leadline.probes.pairs import FittedPairs, PairFit
from leadline.probes.periodic import DAYS, MONTHS, NUMBERS, Fourier, Helix, PeriodicFit, spectrum
from leadline.probes.probe import Probe, ProbeSet
from leadline.probes.ridge import Ridge
from leadline.probes.splits import make_folds
from leadline.probes.streamed_fits import fit_streamed
from leadline.probes.streaming import StreamedMoments
from leadline.probes.structural import DepthProbe, DistanceProbe, score_random_map
from leadline.probes.structural_fit import RankSweep, StructuralFit
from leadline.probes.structural_metrics import score_chain
from leadline.probes.svm import LinearSVM
from leadline.probes.trees import check_heads
from leadline.probes.weights import balanced_sample

__all__ = [
    "CCS",
    "CRC",
    "DAYS",
    "FAMILIES",
    "LAT",
    "LDA",
    "MLP",
    "MONTHS",
    "NUMBERS",
    "ConceptRank",
    "DepthProbe",
    "DistanceProbe",
    "ElasticNet",
    "Estimate",
    "Family",
    "Fitted",
    "FittedPairs",
    "Fourier",
    "Helix",
    "KSparse",
    "KSparseFit",
    "LeaveOneOut",
    "LinearSVM",
    "Logistic",
    "MLPFit",
    "MeanDifference",
    "Multinomial",
    "NearestCentroid",
    "Ordinal",
    "PairFit",
    "PeriodicFit",
    "Probe",
    "ProbeSet",
    "RankFit",
    "RankSweep",
    "Ridge",
    "SiteFit",
    "SparseLogistic",
    "Status",
    "StreamedMoments",
    "StructuralFit",
    "balanced_sample",
    "check_heads",
    "draw_groups",
    "fit_streamed",
    "make_folds",
    "percentile",
    "score_chain",
    "score_random_map",
    "spectrum",
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
