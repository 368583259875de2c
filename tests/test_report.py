"""The report: mistakes worked out by hand, sizes, and the page as a browser and a parser see it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright
from tiny_project import copy_of
from tiny_run import RUN, make_results, make_volume, opened

from seg_core.blockwise.engine import Options
from seg_core.errors import NotReady
from seg_core.evaluate.contingency import Contingency
from seg_core.geometry import Box
from seg_core.parameters import set_parameters
from seg_core.report import make_report
from seg_core.report.compared import Classes, Objects
from seg_core.report.mistakes import BOTH, MERGE, RIGHT, SPLIT, Matches, middle_of, totals
from seg_core.report.page import fixed, length, number, scale_bar, seconds
from seg_core.report.sizes import describe_sizes, segment_sizes
from seg_core.run import Run, add_run
from seg_core.segment import lut_of_volume, segment_volume
from seg_core.source import Source
from seg_core.store import Store
from seg_core.tasks.affinities import Affinities
from seg_core.tasks.one_hot import OneHot
from seg_core.verdicts import Verdict, write_verdicts
from seg_core.volumes.declared import Volume, add_volume
from seg_core.volumes.ome_zarr import ZarrArray, create

# Mistakes by hand: one row of voxels


def row(*values: int) -> NDArray[np.uint64]:
    return np.array(values, np.uint64)[None, None]


# of 1 a part is split, 3 and 4 are merged, 6 got a piece of 5, 7 is missed, 0 is unknown
OBJECTS = row(1, 1, 1, 1, 1, 2, 3, 3, 3, 4, 4, 5, 5, 5, 5, 6, 6, 6, 7, 7, 0, 0)
SEGMENTS = row(10, 10, 10, 11, 11, 12, 30, 30, 30, 30, 30, 50, 50, 50, 60, 60, 60, 60, 0, 0, 30, 0)
KINDS = [0, 0, 0, SPLIT, SPLIT, 0, 0, 0, 0, MERGE, MERGE, 0, 0, 0, BOTH, 0, 0, 0, SPLIT, SPLIT]


def source_of(labels: NDArray[Any], begin: tuple[int, int, int] = (0, 0, 0)) -> Source:
    box = Box.of_shape(labels.shape, begin)
    return Source(None, None, box, 1)  # type: ignore[arg-type] - only its box is asked for


def test_splits_and_merges_are_those_by_hand() -> None:
    table = Contingency()
    table.add(SEGMENTS, OBJECTS, OBJECTS > 0)
    matches = Matches.of(table)
    assert matches.segment_of(np.arange(9)).tolist() == [0, 10, 12, 30, 30, 50, 60, 0, 0]
    ids = np.array([0, 10, 11, 12, 30, 50, 60, 99])
    assert matches.object_of(ids).tolist() == [0, 1, 1, 2, 3, 5, 6, 0]
    assert matches.kinds(SEGMENTS, OBJECTS)[0, 0, :20].tolist() == KINDS
    assert totals(table, matches) == {"right": 13, "split": 4, "merge": 2, "both": 1}


def test_the_smaller_id_matches_where_two_are_equal() -> None:
    table = Contingency()
    table.add(row(8, 8, 3, 3), row(1, 1, 1, 1))
    assert Matches.of(table).segment_of(np.array([1])).tolist() == [3]
    table.add(row(9, 9), row(7, 5))
    assert Matches.of(table).object_of(np.array([9])).tolist() == [5]


def test_a_perfect_segmentation_has_no_mistake_and_an_empty_one_misses_all() -> None:
    labels = np.random.default_rng(0).integers(1, 9, (4, 5, 6)).astype(np.uint64)
    same = Objects(Affinities(), source_of(labels), labels * np.uint64(7), labels)
    assert list(same.spots()) == []
    assert same.voxels() == [{"right": 120, "split": 0, "merge": 0, "both": 0}]
    empty = Objects(Affinities(), source_of(labels), np.zeros_like(labels), labels)
    assert empty.voxels() == [{"right": 0, "split": 120, "merge": 0, "both": 0}]
    assert (empty.marks(Box.of_shape(labels.shape))[""] == SPLIT).all()


def test_the_worst_places_come_first() -> None:
    labels = OBJECTS * np.uint64(100)  # values of labels are told, not numbers
    found = Objects(Affinities(), source_of(labels, (5, 6, 7)), SEGMENTS, labels)
    spots = list(found.spots())
    told = [
        (s.figures["kind"], s.figures["voxels"], s.figures["object"], s.figures["segment"])
        for s in spots
    ]
    assert told == [
        ("split", 2, 700, 0),
        ("split", 2, 100, 11),
        ("merge", 2, 400, 30),
        ("both", 1, 500, 60),
    ]
    shares = [s.figures["share"] for s in spots]
    assert shares == [1, 2 / 5, 1, 1 / 4]
    assert spots[1].figures["best_segment"] == 10
    assert spots[2].figures["best_object"] == 300
    assert [middle_of(s.mask)[2] for s in spots] == [18, 3, 9, 14]
    part = Box((5, 6, 7 + 9), (6, 7, 7 + 22))  # marks are asked for by the volume's voxels
    assert found.marks(part)[""][0, 0].tolist() == [*KINDS[9:], 0, 0]


def test_where_background_is_known_a_segment_on_it_is_a_merge() -> None:
    labels, segments = row(0, 0, 0, 5, 5), row(0, 3, 3, 3, 3)
    for background, kinds in (("known", [0, MERGE, MERGE, 0, 0]), ("unknown", [0] * 5)):
        task = Affinities(background=background)  # type: ignore[arg-type]
        found = Objects(task, source_of(labels), segments, labels)
        assert found.marks(Box.of_shape(labels.shape))[""][0, 0].tolist() == kinds
    (spot,) = Objects(Affinities(background="known"), source_of(labels), segments, labels).spots()
    assert (spot.figures["object"], spot.figures["segment"], spot.figures["share"]) == (0, 3, 0.5)


def test_components_of_one_value_are_told_by_their_numbers() -> None:
    labels, segments = row(9, 9, 9, 0, 9, 9), row(1, 1, 1, 1, 1, 1)
    (merged, bridge) = Objects(Affinities(objects=[9]), source_of(labels), segments, labels).spots()
    assert (merged.figures["object"], merged.figures["best_object"]) == (2, 1)
    assert (bridge.figures["object"], bridge.figures["voxels"]) == (0, 1)


def test_classes_are_missed_and_extra() -> None:
    task = OneHot(classes={"a": [5], "b": [7]}, unknown=[9])
    labels = row(5, 5, 5, 7, 7, 0, 0, 9)
    found = Classes(task, source_of(labels), row(1, 0, 2, 2, 2, 2, 0, 1), labels)
    assert found.voxels() == [
        {"class": "a", "voxels": 3, "missed": 2, "extra": 0},
        {"class": "b", "voxels": 2, "missed": 0, "extra": 2},
    ]
    marks = {k: v[0, 0].tolist() for k, v in found.marks(Box.of_shape(labels.shape)).items()}
    assert marks == {
        "a": [0, SPLIT, SPLIT, 0, 0, 0, 0, 0],
        "b": [0, 0, MERGE, 0, 0, MERGE, 0, 0],
    }
    spots = [(s.figures["kind"], s.figures["truth"], s.figures["found"]) for s in found.spots()]
    assert sorted(spots) == [
        ("another class", "a", "b"),
        ("extra", "background", "b"),
        ("missed", "a", "background"),
    ]
    assert {s.kind for s in found.spots()} == {SPLIT, MERGE, BOTH}
    assert RIGHT == 0


def test_the_middle_of_a_bent_piece_is_in_it() -> None:
    mask = np.zeros((1, 5, 5), bool)
    mask[0, 0], mask[0, :, 0] = True, True  # an L: its centre of mass is outside
    assert mask[middle_of(mask)]
    assert middle_of(np.ones((3, 3, 3), bool)) == (1, 1, 1)


# Sizes


def test_sizes_are_the_same_whatever_the_pieces(tmp_path: Path) -> None:
    ids = np.zeros((4, 4, 8), np.uint64)
    ids[:, :, :3], ids[0, 0, 3], ids[1:, :, 3:5] = 7, 2, 1 << 40
    box = Box.of_shape(ids.shape)
    array = create(ZarrArray(f"{tmp_path}/a.zarr", box, None, "uint64", (1, 1, 1), (2, 2, 2)))
    array.write(box, ids)
    for shape in ((4, 4, 8), (2, 3, 5), (1, 1, 1)):
        background, sizes = segment_sizes(array, box.tiles(shape))
        assert background == (ids == 0).sum()
        assert sizes.tolist() == [1, 24, 48]


def test_the_histogram_counts_every_segment_once() -> None:
    sizes = np.array([1, 9, 10, 11, 99, 100, 100_000])
    told = describe_sizes(5, sizes, (10, 10, 10))
    assert sum(told["segments"]) == told["count"] == 7
    assert told["edges"][0] == 1
    assert np.allclose(np.diff(np.log10(told["edges"])), 0.25)
    assert told["segments"][4] == 2  # 10 and 11 lie in 10 to 17.8
    assert (told["median_voxels"], told["largest_voxels"]) == (11, 100_000)
    assert (told["background_voxels"], told["voxel_um3"]) == (5, 1e-6)
    nothing = describe_sizes(3, np.array([], np.int64), (1, 1, 1))
    assert (nothing["count"], nothing["largest_voxels"], sum(nothing["segments"])) == (0, 0, 0)


def test_numbers_are_for_people() -> None:
    assert [number(v) for v in (1234567, 0.123456, 12345.6, None, float("nan"), "x")] == [
        "1,234,567", "0.1235", "12,346", "–", "–", "x",  # noqa: RUF001
    ]  # fmt: skip
    assert [fixed(v) for v in (0.5, 1234.5678, None)] == ["0.5000", "1235", "–"]  # noqa: RUF001
    assert [seconds(v) for v in (0.25, 12, 75, 3700)] == ["0.25 s", "12.0 s", "1 min 15 s", "1 h 01 min"]  # fmt: skip  # noqa: E501
    assert [length(v) for v in (480, 1920, 2.5e6)] == ["480 nm", "1.92 µm", "2.5 mm"]
    assert scale_bar(1920) == ("500 nm", pytest.approx(100 * 500 / 1920))


# The page


class Page(HTMLParser):
    """Headings, sections, and everything that a page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if tag == "section" and name == "id":
                self.sections.append(str(value))
            if name in ("src", "href", "srcset", "data", "action", "poster"):
                self.links.append(str(value))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


SECTIONS = ["scores", "sections", "errors", "sizes", "training", "time", "checks", "settings", "versions"]  # fmt: skip  # noqa: E501


@pytest.fixture(scope="module")
def done(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Volume]:
    return opened(copy_of(finished, tmp_path_factory.mktemp("store")))


def files_of(run: Run, volume: Volume) -> tuple[str, bytes]:
    folder = f"{run.folder}/{volume.name}"
    page = run.store.read_bytes(f"{folder}/report.html").decode()
    return page, run.store.read_bytes(f"{folder}/report.json")


def assert_self_contained(page: str) -> None:
    parsed = Page(page)
    assert all(link.startswith("data:image/") for link in parsed.links)
    assert not {"script", "link", "iframe", "object"} & set(parsed.tags)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_has_every_section_and_needs_nothing_else(done: tuple[Run, Volume]) -> None:
    run, volume = done
    content = make_report(run, volume)
    page, stored = files_of(run, volume)
    assert json.loads(stored) == json.loads(json.dumps(content))
    parsed = Page(page)
    assert parsed.sections == SECTIONS
    assert_self_contained(page)
    assert parsed.links[0].startswith("data:image/png")
    assert "phantom[60:120, 0:48, 0:48]" in parsed.text
    assert "voi_sum ↓ bits criterion" in parsed.text
    assert "seed_affinity: 0.7" in page  # every default
    assert content["versions"].keys() >= {"python", "torch", "monai", "zarr", "dagster", "seg"}
    (part,) = content["parts"]
    assert (part["validated"], part["trained_on"]) == (True, False)
    assert sum(part["voxels"][0].values()) == 60 * 48 * 48
    assert volume.labels is not None
    for spot in part["spots"]:
        z, y, x = spot["place"]
        at = Box((z, y, x), (z + 1, y + 1, x + 1))
        assert volume.labels.read(at).item() == spot["object"]
        assert number(spot["voxels"]) in parsed.text
    assert content["warnings"] == []
    assert list(content["steps"]) == ["prediction", "fragments", "lut", "segmentation"]


def test_made_again_it_is_the_same_bytes(done: tuple[Run, Volume]) -> None:
    make_report(*done)
    before = files_of(*done)
    make_report(*done)
    assert files_of(*done) == before


def test_what_a_person_must_know_is_on_top(done: tuple[Run, Volume]) -> None:
    run, volume = done
    sentence = "train and validate share <b>12</b> voxels"
    write_verdicts(run.store, run.folder, [Verdict("leak", False, "error", sentence)])
    write_verdicts(run.store, f"{run.folder}/phantom", [Verdict("seams", True, "warning", "fine")])
    set_parameters(run, volume, {"threshold": 0.25})
    segment_volume(run, volume, Options())
    try:
        content = make_report(run, volume)
        top = files_of(run, volume)[0].split("<section")[0]
        assert "train and validate share &lt;b&gt;12&lt;/b&gt; voxels" in top
        assert "threshold is 0.25" in top
        assert content["chosen"]["differ"] == ["threshold"]
        assert {"leak", "seams"} < {c["check"] for c in content["checks"]}
        assert "seams passed fine" in Page(files_of(run, volume)[0]).text
    finally:
        run.store.remove(f"{run.folder}/checks/leak.json")
        run.store.remove(f"{run.folder}/phantom/checks/seams.json")
        set_parameters(run, volume, None)
        segment_volume(run, volume, Options())


def test_a_segmentation_behind_its_table_has_no_report(done: tuple[Run, Volume]) -> None:
    run, volume = done
    set_parameters(run, volume, {"threshold": 1.0})
    lut_of_volume(run, volume)
    with pytest.raises(NotReady, match=r"needs all segmentation .* seg segment tiny phantom"):
        make_report(run, volume)
    set_parameters(run, volume, None)
    segment_volume(run, volume, Options())
    assert make_report(run, volume)["chosen"]["differ"] == []


@pytest.mark.slow
def test_without_labels_the_rest_is_shown(done: tuple[Run, Volume]) -> None:
    run, _ = done
    make_volume(run.store, "bare")
    text = "raw: raw.zarr\nblock: [60, 24, 48]\nchunk: [12, 12, 12]\n"
    volume = add_volume(run.store, "bare", text.encode(), "bare.yaml")
    make_results(run, volume)
    content = make_report(run, volume)
    page = Page(files_of(run, volume)[0])
    assert content["scores"] == {}
    assert content["parts"] == []
    assert "has no labels" in page.text
    assert page.sections == [s for s in SECTIONS if s != "errors"]


@pytest.mark.slow
def test_labels_that_nobody_validated_on_are_compared_and_said_to_be_so(
    done: tuple[Run, Volume],
) -> None:
    run, _ = done
    volume = make_volume(run.store, "test")
    make_results(run, volume)
    (part,) = make_report(run, volume)["parts"]
    assert part["name"] == "test[0:120, 0:48, 0:48]"
    assert (part["validated"], part["trained_on"]) == (False, False)
    assert "was not used for validation" in Page(files_of(run, volume)[0]).text


@pytest.mark.slow
def test_a_semantic_task_has_errors_by_class(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    volume = make_volume(store)
    assert volume.labels is not None
    raw = volume.raw.read()
    volume.labels.write(volume.roi, np.where(raw < 100, 3, 7).astype(volume.labels.dtype))
    config = yaml.safe_load(RUN) | {
        "task": {"kind": "one_hot", "classes": {"dark": [3], "bright": [7]}}
    }
    config["trainer"] |= {"iterations": 60, "learning_rate": 0.02}
    run = add_run(store, "semantic", yaml.safe_dump(config).encode(), "semantic.yaml")
    make_results(run, volume)
    content = make_report(run, volume)
    page, _ = files_of(run, volume)
    parsed = Page(page)
    assert parsed.sections == SECTIONS
    (part,) = content["parts"]
    assert [v["class"] for v in part["voxels"]] == ["bright", "dark"]
    assert "missed (false negative)" in parsed.text
    assert content["classes"] == ["bright", "dark"]
    assert "is a split" not in parsed.text
    assert_self_contained(page)


@pytest.mark.slow
@pytest.mark.browser
def test_a_browser_shows_it_from_a_file(done: tuple[Run, Volume], tmp_path: Path) -> None:
    run, volume = done
    make_report(run, volume)
    assert_shown(Path(run.store.path(f"{run.folder}/phantom/report.html")), tmp_path)


def assert_shown(path: Path, folder: Path) -> None:
    """Chromium opens a page, logs nothing, loads nothing else, and every image is drawn."""
    told: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1250, "height": 900})
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        sizes = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.naturalHeight])")
        boxes = page.evaluate("[...document.images].map(i => i.getBoundingClientRect().height)")
        assert page.evaluate("document.documentElement.scrollWidth") <= 1250
        page.screenshot(path=str(folder / "page.png"), full_page=True)
        assert page.pdf()[:4] == b"%PDF"
        browser.close()
    assert told == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert len(sizes) > 10
    assert min(min(size) for size in sizes) > 0
    assert min(boxes) > 5
    assert re.match(b"\x89PNG", (folder / "page.png").read_bytes())
