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
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""Days of each month, at the most."""
_PART = re.compile(r"(\*|(?P<low>\w+)(-(?P<high>\w+))?)(/(?P<step>\d+))?")


def check_cron(text: str) -> str:
    """A cron string of five fields.

    Raises:
        ValueError: it has not five, one of them is out of its range, or no month has such a day.
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        names = ", ".join(name for name, *_ in _FIELDS)
        raise ValueError(f"expected five fields ({names}), as in '0 3 * * 1'")
    _, _, days, months, _ = (_values(field, *of) for field, of in zip(fields, _FIELDS, strict=True))
    if min(days) > (longest := max(_LONGEST[month - 1] for month in months)):
        raise ValueError(
            f"the day of month is {fields[2]!r}, which the month {fields[3]!r} never has; "
            f"expected one up to {longest}"
        )
    return text


def _values(field: str, name: str, lowest: int, highest: int, words: list[str]) -> list[int]:
    """All numbers that a field stands for."""
    found: list[int] = []
    for part in field.split(","):
        if not (values := _values_of(part.lower(), lowest, highest, words)):
            raise ValueError(
                f"the {name} is {field!r}; expected {lowest} to {highest} or *, and steps from 1"
            )
        found += values
    return found


def _values_of(part: str, lowest: int, highest: int, words: list[str]) -> range:
    """Empty where the part is none."""
    if (match := _PART.fullmatch(part)) is None or (step := int(match["step"] or 1)) == 0:
        return range(0)
    low = _number(match["low"] or str(lowest), words)
    one = match["low"] and not match["step"]  # 5/10 goes on from 5 to the highest
    high = _number(match["high"], words) if match["high"] else low if one else highest
    return range(low, high + 1, step) if lowest <= low and high <= highest else range(0)


def _number(text: str, words: list[str]) -> int:
    """-1 where it is none."""
    if text in words:
        return words.index(text)
    return int(text) if text.isdecimal() else -1
