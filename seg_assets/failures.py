"""What a user can mend ends a step with its one sentence: no stack trace, no second try."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from seg_assets.metadata import table
from seg_core.errors import BlocksFailed, Busy, SegError

NAMED = 20  # blocks in a sentence; the table beside it has as many as a page can hold
LISTED = 1000


@contextmanager
def refusals() -> Iterator[None]:
    """Turn an error that the user can mend into the step's failure."""
    try:
        yield
    except BlocksFailed as error:
        raise failure(str(error), error.failed, again=bool(error.busy)) from None
    except SegError as error:
        raise failure(str(error), again=isinstance(error, Busy)) from None


def failure(
    sentence: str, reasons: Mapping[str, str] | None = None, again: bool = False
) -> dg.Failure:
    """A failure with the reason of every block that failed.

    Another try would not mend it but where `again` says so: somebody else was at it, as may be
    the pod that this one takes the place of.
    """
    rows = [{"block": key, "reason": why} for key, why in (reasons or {}).items()]
    metadata = {"failed blocks": table(rows[:LISTED])} if rows else None
    return dg.Failure(sentence, metadata, allow_retries=again)


def sentence_of(reasons: Mapping[str, str]) -> str:
    """Which blocks failed and why, those with one reason together."""
    alike: dict[str, list[str]] = {}
    for key, why in list(reasons.items())[:NAMED]:
        alike.setdefault(why, []).append(key)
    named = "; ".join(f"{', '.join(keys)}: {why}" for why, keys in alike.items())
    more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    return f"{len(reasons)} block(s) failed, all others are done. {named}{more}"
