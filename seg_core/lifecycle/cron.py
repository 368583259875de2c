"""The form of a cron string: what a schedule takes, without the library that counts its ticks."""

import re

_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"
_DAYS = "sun mon tue wed thu fri sat"
_FIELDS: tuple[tuple[str, int, int, list[str]], ...] = (
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day of month", 1, 31, []),
    ("month", 1, 12, ["", *_MONTHS.split()]),
    ("day of week", 0, 7, _DAYS.split()),
)
_PART = re.compile(r"(\*|(?P<low>\w+)(-(?P<high>\w+))?)(/(?P<step>\d+))?")


def check_cron(text: str) -> str:
    """A cron string of five fields.

    Raises:
        ValueError: it has not five, or one of them is out of its range.
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        names = ", ".join(name for name, *_ in _FIELDS)
        raise ValueError(f"expected five fields ({names}), as in '0 3 * * 1'")
    for field, (name, lowest, highest, words) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            if not _fits(part.lower(), lowest, highest, words):
                raise ValueError(f"the {name} is {field!r}; expected {lowest} to {highest} or *")
    return text


def _fits(part: str, lowest: int, highest: int, words: list[str]) -> bool:
    if (match := _PART.fullmatch(part)) is None:
        return False
    low = _number(match["low"] or str(lowest), words)
    high = _number(match["high"], words) if match["high"] else highest
    return lowest <= low <= high <= highest and match["step"] != "0"


def _number(text: str, words: list[str]) -> int:
    """-1 where it is none."""
    if text in words:
        return words.index(text)
    return int(text) if text.isdecimal() else -1
