"""A user's own package, which pods find in their image: an augmentation that changes nothing."""

from seg_core.training.augment import Mirror


class Still(Mirror):
    """A mirror along no axis."""

    kind: str = "own:Still"
    axes: list[int] = []
