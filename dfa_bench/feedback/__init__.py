"""Learning rules for any PyTorch model: Direct Feedback Alignment, backpropagation and the shallow baseline.

>>> from dfa_bench.feedback import DirectFeedback, FeedbackPath
>>> attached = DirectFeedback(seed=0).attach(model, [FeedbackPath(points=["layers.*.activation"], error_at="head")])
>>> loss(model(inputs), targets).backward()   # an ordinary training loop
>>> attached.remove()                         # the model is as before
"""

from dfa_bench.feedback.alignment import Alignment, RowAlignment, WeightAlignment, alignment
from dfa_bench.feedback.attachment import Attachment, attachment_of
from dfa_bench.feedback.describe import Description
from dfa_bench.feedback.direct import Backprop, DirectFeedback, Rule, Shallow
from dfa_bench.feedback.errors import (
    AlreadyAttached,
    FeedbackError,
    MatrixNotDrawn,
    NotATensor,
    PassesDiffer,
    PointAboveSource,
    PointChangedInPlace,
    PointNotFound,
    PointNotReached,
    PointsOverlap,
    PointWithoutGradient,
    ShapeMismatch,
)
from dfa_bench.feedback.paths import FeedbackPath

__all__ = [
    "Alignment",
    "AlreadyAttached",
    "Attachment",
    "Backprop",
    "Description",
    "DirectFeedback",
    "FeedbackError",
    "FeedbackPath",
    "MatrixNotDrawn",
    "NotATensor",
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
    "WeightAlignment",
    "alignment",
    "attachment_of",
]
