"""A webhook is told what a person should know, wherever they are; to fail it never stops work."""

import http.client
import logging
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from seg_core.store import to_json

VARIABLE = "SEG_WEBHOOK"
TIMEOUT_SECONDS = 5.0
PAUSES = (1.0, 4.0)
"""Seconds before the second and the third try."""
PASSING = (408, 425, 429)
"""Answers below 500 after which another try makes sense."""

log = logging.getLogger(__name__)


def tell(event: str, content: dict[str, Any]) -> None:
    """POST an event as JSON to the URL in SEG_WEBHOOK; nothing happens where that is not set.

    Args:
        event: its name, as in `backfill_failed`.
        content: its figures; a `text` among them is the sentence that a person is shown.
    """
    if not (url := os.environ.get(VARIABLE, "").strip()):
        return
    body = {"text": f"{event}: {_listed(content)}", "event": event, **content}
    try:
        _post(url, to_json(body).encode())
    except Exception as error:  # whatever it is, it is no reason to stop the work
        # without the URL, which holds a secret
        log.warning("the webhook was not told of %s: %s", event, _reason(error))
    else:
        log.info("the webhook was told of %s", event)


def _listed(content: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in content.items())


def _post(url: str, body: bytes) -> None:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https") or len(url.split()) > 1:
        raise ValueError(f"{VARIABLE} is no http:// or https:// URL")
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    for pause in (*PAUSES, None):
        try:
            urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS).close()
            return
        except (OSError, http.client.HTTPException) as error:
            if pause is None or not _passes(error):
                raise
            time.sleep(pause)


def _passes(error: Exception) -> bool:
    """Whether it may be otherwise in a moment."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in PASSING
    return True


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
