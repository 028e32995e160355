"""Learning rules for any PyTorch model: Direct Feedback Alignment and others that need no weight transport.

>>> from dfa_bench.feedback import DirectFeedback, FeedbackPath
>>> attached = DirectFeedback(seed=0).attach(model, [FeedbackPath(points=["layers.*.activation"], error_at="head")])
>>> loss(model(inputs), targets).backward()   # an ordinary training loop
>>> attached.remove()                         # the model is as before

`rule.py` says how to add a rule.
"""

from dfa_bench.feedback.alignment import Alignment, RowAlignment, WeightAlignment, alignment
from dfa_bench.feedback.attachment import Attachment, LearningHook, attachment_of
from dfa_bench.feedback.backprop import Backprop
from dfa_bench.feedback.callbacks import LightningCallback, TrainerCallback
from dfa_bench.feedback.check import Check
from dfa_bench.feedback.describe import Description
from dfa_bench.feedback.direct import DirectFeedback
from dfa_bench.feedback.direct_kolen_pollack import DirectKolenPollack
from dfa_bench.feedback.errors import (
    AlreadyAttached,
    CannotStream,
    FeedbackError,
    LayerNotReplayable,
    LayersUnknown,
    MatrixNotDrawn,
    ModelChanged,
    NotATensor,
    PassesDiffer,
    PointAboveSource,
    PointChangedInPlace,
    PointNotFound,
    PointNotReached,
    PointsOverlap,
    PointWithoutGradient,
    ShapeMismatch,
    StepNotEnded,
    TargetsMissing,
)
from dfa_bench.feedback.feedback_alignment import FeedbackAlignment
from dfa_bench.feedback.graph_feedback import GraphFeedback
from dfa_bench.feedback.kolen_pollack import KolenPollack
from dfa_bench.feedback.measure import measure, norms
from dfa_bench.feedback.optical import OpticalFeedback
from dfa_bench.feedback.paths import ErrorSource, FeedbackPath
from dfa_bench.feedback.propose import of_sample
from dfa_bench.feedback.rule import Rule
from dfa_bench.feedback.shallow import Shallow
from dfa_bench.feedback.sign_symmetry import SignSymmetry
from dfa_bench.feedback.target_projection import TargetProjection

__all__ = [
    "Alignment",
    "AlreadyAttached",
    "Attachment",
    "Backprop",
    "CannotStream",
    "Check",
    "Description",
    "DirectFeedback",
    "DirectKolenPollack",
    "ErrorSource",
    "FeedbackAlignment",
    "FeedbackError",
    "FeedbackPath",
    "GraphFeedback",
    "KolenPollack",
    "LayerNotReplayable",
    "LayersUnknown",
    "LearningHook",
    "LightningCallback",
    "MatrixNotDrawn",
    "ModelChanged",
    "NotATensor",
    "OpticalFeedback",
    "PassesDiffer",
    "PointAboveSource",
    "PointChangedInPlace",
    "PointNotFound",
    "PointNotReached",
    "PointWithoutGradient",
    "PointsOverlap",
    "RowAlignment",
    "Rule",
    "Shallow",
    "ShapeMismatch",
    "SignSymmetry",
    "StepNotEnded",
    "TargetProjection",
    "TargetsMissing",
    "TrainerCallback",
    "WeightAlignment",
    "alignment",
    "attachment_of",
    "measure",
    "norms",
    "of_sample",
]
