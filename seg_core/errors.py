"""The few exceptions that reach a user: each message is one sentence that says how to mend it."""

from collections.abc import Collection


class SegError(Exception):
    """Input or state that the user can mend; the command prints the message and exits with 1."""


class BlocksFailed(SegError):
    """Some blocks could not be made; all others are done and recorded.

    Attributes:
        failed: the reason of each block that could not be made, by block key.
        busy: those of them that somebody else is making at this moment.
    """

    def __init__(self, stage: str, failed: dict[str, str], busy: Collection[str] = ()) -> None:
        self.failed = failed
        self.busy = frozenset(busy)
        first = next(iter(failed.items()))
        names = ", ".join(list(failed)[:10]) + (" ..." if len(failed) > 10 else "")
        super().__init__(
            f"{stage}: {len(failed)} block(s) failed ({names}); the first, {first[0]}, "
            f"because of: {first[1]}. The same command again tries just these."
        )


class NotReady(SegError):
    """A stage was asked for before what it reads was made."""


class Busy(SegError):
    """Somebody else is making the same thing at this moment."""
