"""The webhook: delivered, tried again, given up, and never in the way."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from seg_core.lifecycle import webhook
from seg_core.lifecycle.webhook import tell

SECRET = "T0-secret"


class Receiver(ThreadingHTTPServer):
    """Answers with these codes, one after the other and the last for ever; 0 is no answer."""

    def __init__(self, codes: list[int]) -> None:
        self.codes, self.got, self.end = codes, list[dict[str, Any]](), threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.headers["Content-Type"]
        self.server.got.append({"path": self.path, "type": kind, "body": json.loads(body)})
        code = self.server.codes[min(len(self.server.got), len(self.server.codes)) - 1]
        if code:
            self.send_response(code)
            self.end_headers()
        else:
            self.server.end.wait()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def receiver(patch: pytest.MonkeyPatch, *codes: int) -> Iterator[Receiver]:
    with Receiver(list(codes)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        patch.setenv("SEG_WEBHOOK", f"http://127.0.0.1:{server.server_port}/{SECRET}")
        yield server
        server.end.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(webhook, "PAUSES", (0.02, 0.04))
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.3)
    caplog.set_level(logging.INFO, logger="seg_core.lifecycle.webhook")


def test_an_event_is_delivered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver(monkeypatch, 200) as server:
        text = "3 of 20 blocks of run r on volume v failed."
        tell("backfill_failed", {"text": text, "failed": 3, "score": float("nan")})
        tell("not_promoted", {"run": "r", "score": 1.5})
    assert server.got == [
        {
            "path": f"/{SECRET}",
            "type": "application/json",
            "body": {"text": text, "event": "backfill_failed", "failed": 3, "score": None},
        },
        {
            "path": f"/{SECRET}",
            "type": "application/json",
            "body": {
                "text": "not_promoted: run r, score 1.5",
                "event": "not_promoted",
                "run": "r",
                "score": 1.5,
            },
        },
    ]
    assert [r.message for r in caplog.records] == [
        "the webhook was told of backfill_failed",
        "the webhook was told of not_promoted",
    ]


@pytest.mark.parametrize("passing", [503, 500, 429, 0])
def test_it_is_tried_again(monkeypatch: pytest.MonkeyPatch, passing: int) -> None:
    with receiver(monkeypatch, passing, passing, 204) as server:
        tell("event", {"n": 1})
    assert [got["body"]["n"] for got in server.got] == [1, 1, 1]


@pytest.mark.timed
@pytest.mark.parametrize(
    ("codes", "tries", "told"),
    [
        ((503,), 3, "HTTP Error 503: Service Unavailable"),
        ((0,), 3, "timed out"),
        ((404,), 1, "HTTP Error 404: Not Found"),  # it will not be there in a moment either
    ],
)
def test_it_is_given_up_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    codes: tuple[int, ...],
    tries: int,
    told: str,
) -> None:
    with receiver(monkeypatch, *codes) as server:
        began = time.monotonic()
        tell("event", {})
        assert time.monotonic() - began < 5
        assert len(server.got) == tries
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message == f"the webhook was not told of event: {told}"
    assert SECRET not in caplog.text


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:PORT/x", "Connection refused"),
        ("file:///etc/hostname", "SEG_WEBHOOK is no http:// or https:// URL"),
        ("hooks.example.org/x", "SEG_WEBHOOK is no http:// or https:// URL"),
        ("http://127.0.0.1:port/x", "nonnumeric port: 'port'"),
        ("http://[::1/x", "Invalid IPv6 URL"),
        (f"http://127.0.0.1:9/{SECRET} x", "SEG_WEBHOOK is no http:// or https:// URL"),
    ],
)
def test_work_goes_on_whatever_the_url(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, url: str, told: str
) -> None:
    monkeypatch.setenv("SEG_WEBHOOK", url.replace("PORT", str(free_port())))
    tell("event", {})
    (record,) = caplog.records
    assert told in record.message
    assert "\n" not in record.message
    assert SECRET not in record.message


def test_nothing_happens_where_none_is_set(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("SEG_WEBHOOK", raising=False)
    tell("event", {"n": 1})
    assert not caplog.records
