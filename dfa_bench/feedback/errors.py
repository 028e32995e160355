"""What can go wrong when a learning rule meets a model: one exception per kind of mistake."""


class FeedbackError(Exception):
    """Base of every error that `dfa_bench.feedback` raises on purpose."""


class PointNotFound(FeedbackError):
    """A pattern matches no module of the model, or that of an error source more than one."""


class PointsOverlap(FeedbackError):
    """One module is named twice: in two paths, or as point and as cut."""


class PointNotReached(FeedbackError):
    """A forward of the model skipped a feedback point, a cut or the error source."""


class PointAboveSource(FeedbackError):
    """A feedback point ran after the error source, so no error can reach it."""


class PointWithoutGradient(FeedbackError):
    """A feedback point's output carries no gradient although parameters below it should learn."""


class PointChangedInPlace(FeedbackError):
    """A kept activation was changed in place so that feedback would follow a graph other than its own."""


class ShapeMismatch(FeedbackError):
    """The error's batch axes do not lead the shape of a point's output, or its width has changed."""


class NotATensor(FeedbackError):
    """The output of a point, a cut or the error source is not a tensor."""


class AlreadyAttached(FeedbackError):
    """The model already learns by a rule."""


class MatrixNotDrawn(FeedbackError):
    """The feedback matrix is needed before it could be drawn."""


class PassesDiffer(FeedbackError):
    """The forward and backward by the rule and those by BP do not match, so their gradients cannot be compared."""


class LayersUnknown(FeedbackError):
    """A rule that goes layer by layer cannot tell which layers take part: no example, or one that skipped a layer."""


class LayerNotReplayable(FeedbackError):
    """A layer cannot be run once more with other weights, which its input gradient would need."""


class ModelChanged(FeedbackError):
    """A module that a rule hooks was replaced by another."""


class StepNotEnded(FeedbackError):
    """A rule whose feedback learns was not told of the optimizer's step: call `end_step` or `follow`."""

    def __init__(self, message: str = "") -> None:
        super().__init__(
            message
            or "The weights have changed since the last forward, and the feedback did not follow. Call "
            "attached.end_step() after each optimizer.step(), or attached.follow(optimizer) once before training, for "
            "every optimizer. If they changed otherwise, such as by loading a file, call attached.forget_step()."
        )


class TargetsMissing(FeedbackError):
    """A rule that needs targets or a graph was not given them by `begin_step`."""


class CannotStream(FeedbackError):
    """The second forward that streaming needs would not repeat the first one, or its gradients would be lost."""
