"""Volumes in neuroglancer: links, the small server, and the real client in a real browser."""

import http.client
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from playwright.sync_api import Page, Response, sync_playwright
from tiny_project import add, copy_of
from tiny_run import make_volume

from seg_core.blockwise.engine import Options
from seg_core.cli import seg
from seg_core.report import make_report
from seg_core.run import load_run
from seg_core.segment import predict_volume, segment_volume
from seg_core.store import Store
from seg_core.view.links import link_to, neuroglancer_link
from seg_core.view.server import serve
from seg_core.volumes.declared import add_volume, load_volume

CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",
    "--use-gl=angle",
    "--use-angle=swiftshader",
]


@pytest.fixture(scope="module")
def store(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The tiny run on its volume, from beginning to end."""
    store = copy_of(project, tmp_path_factory.mktemp("view") / "store")
    run, volume = load_run(store, "tiny"), load_volume(store, "phantom")
    predict_volume(run, volume, None, Options())
    segment_volume(run, volume, Options())
    make_report(run, volume)
    Path(store.uri).parent.joinpath("secret.txt").write_text("outside")
    Path(store.uri, "way-out").symlink_to(Path(store.uri).parent / "secret.txt")
    return store


@pytest.fixture(scope="module")
def port(store: Store) -> Iterator[int]:
    with serve(store, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def ask(
    port: int, path: str, method: str = "GET", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Status, content and headers of an answer; the path goes as it is, unlike with urllib."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, dict(answer.getheaders())


def state_of(link: str) -> dict[str, Any]:
    return dict(json.loads(unquote(urlsplit(link).fragment.removeprefix("!"))))


# Links


def test_links_of_a_folder_and_of_buckets(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEG_VIEW_URL", raising=False)
    path = "runs/a/v/report.html"
    assert link_to(store, path) == f"http://localhost:9999/store/{path}"
    assert link_to(Store("gs://b/s"), path) == f"https://storage.cloud.google.com/b/s/{path}"
    assert link_to(Store("s3://b/s"), path) == f"https://s3.amazonaws.com/b/s/{path}"
    monkeypatch.setenv("SEG_VIEW_URL", "https://lab.example/view/")
    assert link_to(store, path) == f"https://lab.example/view/store/{path}"


def test_a_link_places_every_array_on_the_grid_of_the_volume(store: Store) -> None:
    """A part of the volume, of which results begin at voxel 24, 12, 0; sizes are given anew."""
    text = (
        "raw: ../phantom/raw.zarr\nlabels: ../phantom/labels.zarr\nvoxel_size: [40, 8, 8]\n"
        "roi: '24:48, 12:48, :'\nblock: [24, 24, 24]\nchunk: [12, 12, 12]\n"
    )
    part = add_volume(store, "part", text.encode(), "part.yaml")
    run = load_run(store, "tiny")
    predict_volume(run, part, None, Options())
    link = neuroglancer_link(run, part, "http://localhost:1")
    assert link.startswith("http://localhost:1/v/seg/#!%7B%22dimensions%22:")
    state = state_of(link)
    assert state["dimensions"] == {
        "x": [pytest.approx(8e-9), "m"],
        "y": [pytest.approx(8e-9), "m"],
        "z": [pytest.approx(40e-9), "m"],
    }
    assert state["position"] == [24, 30, 36]  # x, y, z: the middle of 0:48, 12:48, 24:48
    layers = {layer["name"]: layer for layer in state["layers"]}
    assert list(layers) == ["raw", "labels", "prediction"]  # no segmentation was made
    raw, prediction = (layers[n]["source"] for n in ("raw", "prediction"))
    assert raw["url"] == "zarr://http://localhost:1/store/volumes/phantom/raw.zarr"
    assert raw["transform"]["matrix"] == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert prediction["url"].endswith("/store/runs/tiny/part/prediction.zarr")
    assert [row[-1] for row in prediction["transform"]["matrix"]] == [0, 24, 12, 0]
    assert list(prediction["transform"]["outputDimensions"]) == ["c^", "z", "y", "x"]
    store.remove("volumes/part.yaml")


def test_links_load_nothing_heavy() -> None:
    code = (
        "import sys, seg_core.view.links; "
        "print([m for m in ('torch', 'neuroglancer', 'numpy') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


# The server


def test_files_of_the_store_and_parts_of_them(store: Store, port: int) -> None:
    path = "volumes/phantom.yaml"
    content = store.read_bytes(path)
    status, got, headers = ask(port, f"/store/{path}")
    assert (status, got, headers["Accept-Ranges"]) == (200, content, "bytes")
    for asked, expected in (("0-3", content[:4]), ("4-", content[4:]), ("-5", content[-5:])):
        status, got, headers = ask(port, f"/store/{path}", Range=f"bytes={asked}")
        assert (status, got) == (206, expected)
        assert headers["Content-Range"].endswith(f"/{len(content)}")
    assert ask(port, f"/store/{path}", Range="bytes=99999-")[0] == 416
    status, got, headers = ask(port, f"/store/{path}", "HEAD")
    assert (status, got, headers["Content-Length"]) == (200, b"", str(len(content)))
    assert ask(port, "/store/volumes/phantom.yaml", "PUT")[0] == 501
    assert ask(port, "/store/no-such-file")[0] == 404
    assert ask(port, "/store/volumes")[0] == 404  # a folder


@pytest.mark.parametrize(
    "path",
    [
        "/store/../secret.txt",
        "/store/volumes/../../secret.txt",
        "/store/%2e%2e/secret.txt",
        "/store/..%2fsecret.txt",
        "/store//etc/passwd",
        "/store/%2fetc%2fpasswd",
        "/store/way-out",  # a link that leads out of the store
        "/../../../../../../../../etc/passwd",
        "//etc/passwd",
        "/v/seg/../../etc/passwd",
        "/v/seg/%2e%2e/%2e%2e/server.py",
        "/volumes/phantom/raw/../../../../secret.txt",
        "/volumes/../secret.txt/raw",
        "/volumes/phantom/other/zarr.json",
        "/store/volumes/phantom.yaml%00",
    ],
)
def test_nothing_outside_the_store_is_given(port: int, path: str) -> None:
    status, content, _ = ask(port, path)
    assert (status, content) == (404, b"no such file")


def test_pages_from_elsewhere_read_nothing(port: int) -> None:
    path = "/store/volumes/phantom.yaml"
    assert ask(port, path, Host="attacker.example")[0] == 403
    assert "Access-Control-Allow-Origin" not in ask(port, path, Origin="https://x.example")[2]
    here = "http://localhost:3000"
    headers = ask(port, path, "OPTIONS", Origin=here)[2]
    assert headers["Access-Control-Allow-Origin"] == here
    assert headers["Access-Control-Allow-Headers"] == "Range"


def test_raw_data_outside_the_store_is_given_by_its_volume(store: Store, port: int) -> None:
    outside = Path(store.uri).parent / "raw.zarr"
    outside.symlink_to(Path(store.path("volumes/phantom/raw.zarr")))
    text = f"raw: {outside}\nblock: [24, 24, 24]\nchunk: [12, 12, 12]\n"
    volume = add_volume(store, "far", text.encode(), "far.yaml")
    link = neuroglancer_link(load_run(store, "tiny"), volume, f"http://localhost:{port}")
    url = state_of(link)["layers"][0]["source"]["url"].removeprefix("zarr://")
    assert url == f"http://localhost:{port}/volumes/far/raw"
    for file in ("zarr.json", "0/zarr.json"):
        status, got, _ = ask(port, f"{urlsplit(url).path}/{file}")
        assert (status, got) == (200, outside.joinpath(file).read_bytes())
    store.remove("volumes/far.yaml")


def test_the_list_leads_to_every_run_and_report(store: Store, port: int) -> None:
    add(store, "unused")
    status, page, _ = ask(port, "/")
    assert status == 200
    assert b"tiny on phantom" in page
    assert b"unused" not in page
    assert b"href='/store/runs/tiny/phantom/report.html'" in page
    assert ask(port, "/store/runs/tiny/phantom/report.html")[2]["Content-Type"] == "text/html"


def test_what_cannot_be_viewed_is_refused_in_a_sentence(store: Store, port: int) -> None:
    def said(*command: str) -> str:
        asked = CliRunner().invoke(seg, ["view", *command, "--store", store.uri, "--no-open"])
        assert asked.exit_code == 1
        return asked.output.strip()

    assert (
        said("tiny") == "Error: seg view tiny: expected a volume too, as in: seg view tiny VOLUME"
    )
    assert "no run 'nobody'" in said("nobody", "phantom")
    assert said("--port", str(port)).endswith(
        f"port {port}: Address already in use; choose another with --port"
    )


def test_a_broken_file_takes_away_only_itself(tmp_path: Path, port: int) -> None:
    own = Store(str(tmp_path / "store"))
    make_volume(own)
    add(own, "tiny")
    own.write_bytes("volumes/typo.yaml", b"raw: [")
    own.write_bytes("runs/broken.yaml", b"task: nothing")
    for run, volume in (("broken", "phantom"), ("tiny", "phantom"), ("tiny", "typo")):
        own.write_json(f"runs/{run}/{volume}/begun.json", {})
    command = ["view", "--store", own.uri, "--no-open", "--port", str(port)]
    asked = CliRunner().invoke(seg, command)
    broken, typo, taken = asked.output.splitlines()  # it goes on to the port, which is taken
    assert broken.startswith("broken on phantom is left out: ")
    assert typo.startswith("tiny on typo is left out: ")
    assert taken.startswith(f"Error: port {port}: ")
    asked = CliRunner().invoke(seg, [*command, "tiny", "typo"])
    assert asked.output.startswith("Error: ")
    with serve(own, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        answers = [
            ask(server.server_address[1], f"/volumes/{name}/raw/zarr.json")[0]
            for name in ("typo", "phantom")
        ]
        server.shutdown()
        thread.join()
    assert answers == [404, 200]


# The browser


@pytest.mark.slow
@pytest.mark.browser
def test_neuroglancer_shows_raw_data_and_segmentation_offline(
    store: Store, port: int, tmp_path: Path
) -> None:
    base = f"http://localhost:{port}"
    link = neuroglancer_link(load_run(store, "tiny"), load_volume(store, "phantom"), base)
    seen: list[tuple[int, str]] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        page = browser.new_page(viewport={"width": 900, "height": 700})
        messages: list[str] = []
        page.on("console", lambda message: messages.append(message.text))
        page.on("response", lambda answer: seen.append(note(answer)))
        page.goto(link)
        wanted = ["/raw.zarr/0/c/", "/tiny/phantom/segmentation.zarr/0/c/"]
        wait_until(page, lambda: all(any(w in url for _, url in seen) for w in wanted))
        wait_until(page, lambda: colours(shot(page)) > 50)
        picture = shot(page)
        (tmp_path / "neuroglancer.png").write_bytes(picture)
        browser.close()
    assert {urlsplit(url).netloc for _, url in seen} == {f"localhost:{port}"}
    for array in wanted:
        assert {status for status, url in seen if array in url} == {200}
    assert colours(picture) > 50
    assert not [message for message in messages if "error" in message.lower()]


def note(answer: Response) -> tuple[int, str]:
    return answer.status, answer.url


def shot(page: Page) -> bytes:
    return page.locator("canvas").first.screenshot()


def colours(picture: bytes) -> int:
    """How many different colours the upper left quarter has, where the xy section is."""
    image = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    quarter = image[: image.shape[0] // 2, : image.shape[1] // 2]
    return len(np.unique(quarter.reshape(-1, 3), axis=0))


def wait_until(page: Page, ready: Any) -> None:
    until = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < until, "waited for too long"
        page.wait_for_timeout(100)
