"""What Dagster calls beta or preview and this project counts on: partition mappings, checks by run.

No user can act on a warning of it, and the versions are pinned.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg


@contextmanager
def unwarned() -> Iterator[None]:
    """No warnings of beta and preview features while the body, or a function so decorated, runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        yield
