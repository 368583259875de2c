"""An HTTP proxy that counts what passes, and does to it what networks do."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

Fault = Literal["pass", "401", "412", "429", "503", "reset", "cut", "lost", "silent", "slow"]
"""What happens to a request: it passes; it is answered by an error; the connection is reset before
it is sent on (`reset`), in the middle of the answer (`cut`) or after it was carried out (`lost`);
there is no answer (`silent`); or the answer comes in drops (`slow`)."""

DROP = 2048  # bytes of a slow answer that come at once
DROPS_APART = 0.01  # seconds
REFUSED = b'{"error": {"code": %s, "message": "injected"}}'


@dataclass(frozen=True)
class Request:
    """What a rule decides by."""

    method: str
    path: str
    """Decoded: names of objects are readable in it."""
    query: str
    body: bytes
    number: int


@dataclass
class Traffic:
    """What passed since it was last cleared; bytes are those of bodies."""

    requests: list[Request] = field(default_factory=list)
    sent: int = 0
    received: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    def clear(self) -> None:
        self.requests.clear()
        self.faults.clear()
        self.sent = self.received = 0


Rule = Callable[[Request], Fault]


def no_fault(_: Request) -> Fault:
    return "pass"


class FaultyProxy:
    """Stands before the server at `upstream`; `rule` decides the fate of each request.

    `number` is that of the last one.
    """

    def __init__(self, upstream: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.upstream = urlsplit(upstream)
        self.host, self.port = host, port
        self.rule: Rule = no_fault
        self.traffic = Traffic()
        self.url = ""
        self.number = 0
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "FaultyProxy":
        self._thread.start()
        serving = asyncio.start_server(self._serve, self.host, self.port, limit=1 << 20)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(30)
        self.url = f"http://{self.host}:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        self._ended.set()
        serving = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    @contextmanager
    def doing(self, rule: Rule) -> Iterator[Traffic]:
        """Let `rule` decide while the body runs; gives what passes meanwhile."""
        self.traffic.clear()
        self.rule = rule
        try:
            yield self.traffic
        finally:
            self.rule = no_fault

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection, with one of its own to the server."""
        with suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            host, port = self.upstream.hostname, self.upstream.port
            try:
                there = await asyncio.open_connection(host, port, limit=1 << 20)
                try:
                    while await self._pass_one(reader, writer, *there):
                        pass
                finally:
                    there[1].close()
            finally:
                writer.close()

    async def _pass_one(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there_reader: asyncio.StreamReader,
        there_writer: asyncio.StreamWriter,
    ) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        if b"expect: 100-continue" in head.lower():
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = b"\r\n".join(
                line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:")
            )
        body = await _body(head, reader)
        request = self._note(method, target, body)
        fault = self.rule(request)
        self.traffic.faults[fault] += 1
        if fault.isdigit():
            writer.write(_refusal(fault))
            await writer.drain()
            return True
        if fault == "reset":
            writer.transport.abort()
            return False
        if fault == "silent":
            await self._ended.wait()
            return False
        there_writer.write(head + body)
        await there_writer.drain()
        answer = await there_reader.readuntil(b"\r\n\r\n")
        content = await _body(answer, there_reader, answers=method)
        self.traffic.received += len(content)
        return await _answer(writer, answer, content, fault)

    def _note(self, method: str, target: str, body: bytes) -> Request:
        parts = urlsplit(target)
        self.number += 1
        request = Request(method, unquote(parts.path), unquote(parts.query), body, self.number)
        self.traffic.requests.append(request)
        self.traffic.sent += len(body)
        return request


def _refusal(status: str) -> bytes:
    text = REFUSED % status.encode()
    head = f"HTTP/1.1 {status} injected\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text


async def _answer(writer: asyncio.StreamWriter, head: bytes, content: bytes, fault: Fault) -> bool:
    if fault == "lost":
        writer.transport.abort()
        return False
    if fault == "cut":
        writer.write(head + content[: len(content) // 2])
        await writer.drain()
        writer.transport.abort()
        return False
    writer.write(head)
    step = DROP if fault == "slow" else max(1, len(content))
    for start in range(0, len(content), step):
        writer.write(content[start : start + step])
        await writer.drain()
        if fault == "slow":
            await asyncio.sleep(DROPS_APART)
    await writer.drain()
    return True


async def _body(head: bytes, reader: asyncio.StreamReader, answers: str = "") -> bytes:
    """The bytes after a head, as they came; an answer to HEAD and some statuses have none."""
    status = head.split(b" ", 2)[1][:3] if answers else b""
    if answers == "HEAD" or status in (b"204", b"304"):
        return b""
    fields = dict(line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:] if b":" in line)
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        return await _chunked(reader)
    return await reader.readexactly(int(fields.get(b"content-length", b"0")))


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    content = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        content += line + await reader.readexactly(size + 2)
        if size == 0:
            return content
