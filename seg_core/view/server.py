"""A small web server for a local store: neuroglancer, the arrays it reads, the reports.

It answers on this machine only, reads only, and gives nothing outside the store but the arrays
that volumes declare.
"""

import html
import importlib.util
import mimetypes
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from seg_core.errors import SegError
from seg_core.run import load_run, run_names
from seg_core.store import Store
from seg_core.view.links import CLIENT, neuroglancer_link, view_url
from seg_core.volumes.declared import load_volume, volume_names

LOCAL = ("localhost", "127.0.0.1")
PIECE = 1 << 20  # bytes read at once
EVENTS = "/events/seg"
ALIVE_SECONDS = 20.0  # a browser that is gone is noticed by writing to it
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def serve(store: Store, port: int) -> ThreadingHTTPServer:
    """A server that is bound to a port (0: any that is free); `serve_forever` runs it.

    Raises:
        SegError: the store is no folder of this machine, or the port is taken.
    """
    if not store.is_local:
        raise SegError(f"{store.uri}: a browser reads a bucket itself; only folders are served")
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, store))
    except OSError as error:
        raise SegError(f"port {port}: {error.strerror}; choose another with --port") from None


def client_folder() -> Path:
    """Where the package neuroglancer keeps its client, found without importing it.

    Raises:
        SegError: it is not installed.
    """
    found = importlib.util.find_spec("neuroglancer")
    if found is None or found.origin is None:
        raise SegError("the package neuroglancer is not installed; install it with: make venv")
    return Path(found.origin).parent / "static/client"


def shown(store: Store) -> Iterator[tuple[str, str]]:
    """Every run and volume that has anything to be seen, by name."""
    volumes = volume_names(store)
    for run in run_names(store):
        yield from ((run, v) for v in volumes if store.exists(f"runs/{run}/{v}"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, store: Store, *args: object) -> None:
        self.store = store
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer with a file, a part of it, or the list."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """As GET, without content."""
        self._answer(body=False)

    def do_OPTIONS(self) -> None:
        """Let a page of this machine ask for parts of files."""
        self._head(204, "text/plain", 0)

    def log_message(self, *_: object) -> None:
        """A line for every chunk would bury the links."""

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        if not self._from_here():
            self._refuse(403, "this server answers on its own machine only")
        elif path == EVENTS and body:
            self._keep_open()
        elif path == "/":
            self._send(_list(self.store, f"http://{self.headers['Host']}"), body)
        elif (file := self._file(path)) is None:
            self._refuse(404, "no such file")
        else:
            self._send_file(file, body)

    def _from_here(self) -> bool:
        """Whether the browser asks for this server by a name of it.

        A page from elsewhere whose name was made to point here must not read the store.
        """
        asked = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        return asked in (*LOCAL, urlsplit(view_url()).hostname)

    def _file(self, path: str) -> Path | None:
        """The file behind a path, None where there is none or it lies outside."""
        kind, _, rest = path.lstrip("/").partition("/")
        if kind == "store":
            return _inside(Path(self.store.uri), rest)
        if kind == "volumes":
            return self._declared(rest)
        if path.startswith(CLIENT):
            return _inside(client_folder(), path.removeprefix(CLIENT) or "index.html")
        return None

    def _declared(self, path: str) -> Path | None:
        """A file of an array that a volume declares, wherever it lies."""
        name, array, *rest = [*path.split("/"), "", ""]
        if name not in volume_names(self.store) or array not in ("raw", "labels"):
            return None
        try:
            volume = load_volume(self.store, name)
            found = volume.raw if array == "raw" else volume.labels
        except SegError:  # the page of links says why
            return None
        return _inside(Path(found.uri), "/".join(rest).rstrip("/")) if found else None

    def _keep_open(self) -> None:
        """A stream without events: the client waits for some, and complains when it ends."""
        self.close_connection = True
        self._head(200, "text/event-stream", None)
        with suppress(ConnectionError):
            while True:
                self.wfile.write(b":\n\n")
                time.sleep(ALIVE_SECONDS)

    def _send_file(self, file: Path, body: bool) -> None:
        size = file.stat().st_size
        begin, end = 0, size
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if asked and any(asked.groups()):
            first, last = asked.groups()
            begin = int(first) if first else max(0, size - int(last))
            end = min(size, int(last) + 1) if first and last else size
            if begin >= end:
                self._head(416, "text/plain", 0, {"Content-Range": f"bytes */{size}"})
                return
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        part = {"Content-Range": f"bytes {begin}-{end - 1}/{size}"} if asked else {}
        self._head(206 if part else 200, kind, end - begin, part)
        if body:
            self._copy(file, begin, end)

    def _copy(self, path: Path, begin: int, end: int) -> None:
        with path.open("rb") as file:
            file.seek(begin)
            while begin < end and (piece := file.read(min(PIECE, end - begin))):
                self.wfile.write(piece)
                begin += len(piece)

    def _send(self, page: str, body: bool) -> None:
        content = page.encode()
        self._head(200, "text/html; charset=utf-8", len(content))
        if body:
            self.wfile.write(content)

    def _refuse(self, code: int, reason: str) -> None:
        self._head(code, "text/plain", len(reason))
        if self.command != "HEAD":
            self.wfile.write(reason.encode())

    def _head(
        self, code: int, kind: str, size: int | None, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(code)
        headers = {"Content-Type": kind, "Accept-Ranges": "bytes"}
        headers |= {} if size is None else {"Content-Length": str(size)}
        origin = self.headers.get("Origin", "")
        if urlsplit(origin).hostname in LOCAL:  # no page from elsewhere reads the store
            headers |= {
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Allow-Headers": "Range",
                "Access-Control-Expose-Headers": "Content-Range, Content-Length",
                "Vary": "Origin",
            }
        # what is made again must be seen at once
        headers |= {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        for name, value in {**headers, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()


def _inside(root: Path, path: str) -> Path | None:
    """A file below a folder; None for what is none, or is reached by `..` or a link out of it."""
    try:
        file, whole = (root / path).resolve(), root.resolve()
        return file if file.is_relative_to(whole) and file.is_file() else None
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return None


def _list(store: Store, base: str) -> str:
    """A page with links to every run on every volume."""
    rows = []
    for run, volume in shown(store):
        name = html.escape(f"{run} on {volume}")
        try:
            link = neuroglancer_link(load_run(store, run), load_volume(store, volume), base)
            viewer = f"<a href='{html.escape(link, quote=True)}'>neuroglancer</a>"
        except SegError as error:
            viewer = html.escape(str(error))
        report = f"runs/{run}/{volume}/report.html"
        page = f"<a href='/store/{report}'>report</a>" if store.exists(report) else ""
        rows.append(f"<tr><td>{name}</td><td>{viewer}</td><td>{page}</td></tr>")
    return (
        "<!doctype html><meta charset=utf-8><title>seg view</title>"
        "<style>body{font:15px sans-serif;margin:2em}td{padding-right:2em}</style>"
        f"<h1>{html.escape(store.uri)}</h1><table>{''.join(rows)}</table>\n"
    )
