"""Fingerprints: what a thing was made from, and what an array holds."""

import json
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

DIGEST = 32
"""Characters of a digest."""


def fingerprint(*parts: Any) -> str:
    """A digest of anything that JSON can hold; equal for equal content, in any order of keys."""
    return digest(json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str))


def digest(text: str) -> str:
    """A digest of a text."""
    return xxhash.xxh3_128_hexdigest(text.encode())


def content(*arrays: NDArray[Any]) -> str:
    """A digest of the shapes, dtypes and values of arrays."""
    state = xxhash.xxh3_128()
    for array in arrays:
        state.update(f"{array.dtype.str}{array.shape}".encode())
        state.update(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)
    return state.hexdigest()
