"""Losses on scores `[num_queries, num_candidates]`, in `keras.ops`: any Keras 3 backend."""

from tfrs_croloss.losses.base import Aggregate, RetrievalLoss, Row, RowInput
from tfrs_croloss.losses.bilateral_softmax_loss import BilateralSoftmaxLoss
from tfrs_croloss.losses.candidate_weighted import CandidateWeighted
from tfrs_croloss.losses.channels import Channel
from tfrs_croloss.losses.cro_loss import CROLoss
from tfrs_croloss.losses.engine import embedding_loss
from tfrs_croloss.losses.kernels import (
    Exponential,
    Hinge,
    Identity,
    Kernel,
    LogKernel,
    MultiHinge,
    Sigmoid,
    SigmoidHinge,
    Softplus,
    SplitSigmoid,
    Step,
)
from tfrs_croloss.losses.multi_margin_loss import CosineContrastiveLoss, MultiMarginLoss
from tfrs_croloss.losses.pairwise_softmax_loss import PairwiseSoftmaxLoss
from tfrs_croloss.losses.presets import BPRLoss, SoftmaxLoss, TripletLoss
from tfrs_croloss.losses.rank_weights import (
    ExponentialDecay,
    FunctionWeight,
    Gamma,
    LogNormal,
    PowerLaw,
    RankWeight,
)
from tfrs_croloss.losses.sampled_softmax_loss import SampledSoftmaxLoss
from tfrs_croloss.losses.softmax_loss_at_k import SoftmaxLossAtK
from tfrs_croloss.losses.structures import Candidates
from tfrs_croloss.losses.surrogates import (
    AtanPower,
    LogisticPower,
    ReluPower,
    Surrogate,
    TanhPower,
)
from tfrs_croloss.losses.talos_loss import TalosLoss

__all__ = [
    "Aggregate",
    "AtanPower",
    "BPRLoss",
    "BilateralSoftmaxLoss",
    "CROLoss",
    "CandidateWeighted",
    "Candidates",
    "Channel",
    "CosineContrastiveLoss",
    "Exponential",
    "ExponentialDecay",
    "FunctionWeight",
    "Gamma",
    "Hinge",
    "Identity",
    "Kernel",
    "LogKernel",
    "LogNormal",
    "LogisticPower",
    "MultiHinge",
    "MultiMarginLoss",
    "PairwiseSoftmaxLoss",
    "PowerLaw",
    "RankWeight",
    "ReluPower",
    "RetrievalLoss",
    "Row",
    "RowInput",
    "SampledSoftmaxLoss",
    "Sigmoid",
    "SigmoidHinge",
    "SoftmaxLoss",
    "SoftmaxLossAtK",
    "Softplus",
    "SplitSigmoid",
    "Step",
    "Surrogate",
    "TalosLoss",
    "TanhPower",
    "TripletLoss",
    "embedding_loss",
]
