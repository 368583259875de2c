"""Links: under which URL a browser shows a file of the store, and a volume in neuroglancer.

A local store is served by `seg view`; one in a bucket is read by the browser itself.
"""

import json
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from seg_core.run import Run
    from seg_core.store import Store
    from seg_core.volumes.declared import Volume

VIEW_URL = "http://localhost:9999"
CLIENT = "/v/seg/"  # the client of the package asks for such a path
HOSTED_CLIENT = "https://neuroglancer-demo.appspot.com"
SAFE = ":/,"  # in a URL's fragment as they are
BUCKETS = {
    "gs": "https://storage.cloud.google.com/",
    "s3": "https://s3.amazonaws.com/",
}

GREY = "#uicontrol invlerp normalized\nvoid main() { emitGrayscale(normalized()); }\n"


def view_url() -> str:
    """Where `seg view` answers: SEG_VIEW_URL, or port 9999 of this machine."""
    return (os.environ.get("SEG_VIEW_URL") or VIEW_URL).rstrip("/")


def link_to(store: "Store", path: str) -> str:
    """A URL that opens a file of the store; a local one needs a running `seg view`."""
    uri = store.path(path)
    scheme, _, rest = uri.partition("://")
    if not rest:
        return f"{view_url()}/store/{quote(path)}"
    return f"{BUCKETS[scheme]}{quote(rest)}" if scheme in BUCKETS else uri


def neuroglancer_link(run: "Run", volume: "Volume", base: str | None = None) -> str:
    """A URL that opens neuroglancer with all there is of a run on a volume.

    Args:
        run: whose results are shown, as far as they are made.
        volume: whose raw data and labels are shown.
        base: where `seg view` answers, if not at `view_url()`; a store in a bucket needs none.
    """
    served = base or view_url()
    client = f"{served}{CLIENT}" if run.store.is_local else f"{HOSTED_CLIENT}/"
    state = json.dumps(view_state(run, volume, served), separators=(",", ":"))
    return f"{client}#!{quote(state, safe=SAFE)}"


def view_state(run: "Run", volume: "Volume", served: str) -> dict[str, Any]:
    """What neuroglancer shows: layers in nanometres, opened at the middle of the ROI."""
    roi, size = volume.roi, volume.voxel_size
    middle = [(b + e) / 2 for b, e in zip(roi.begin, roi.end, strict=True)]
    return {
        "dimensions": {axis: [size[i] * 1e-9, "m"] for i, axis in ((2, "x"), (1, "y"), (0, "z"))},
        "position": middle[::-1],
        # one pixel of the panel is so many of the smallest voxels
        "crossSectionScale": max(n * s for n, s in zip(roi.shape, size, strict=True))
        / min(size)
        / 400,
        "projectionScale": max(n * s for n, s in zip(roi.shape, size, strict=True))
        / min(size)
        * 1.3,
        "layers": _layers(run, volume, served),
        "layout": "4panel",
    }


def _layers(run: "Run", volume: "Volume", served: str) -> list[dict[str, Any]]:
    inputs, results = f"volumes/{volume.name}", f"runs/{run.name}/{volume.name}"
    origin, raw = (0, 0, 0), volume.raw
    source = _source(volume, _url(volume, raw.uri, f"{inputs}/raw", served), raw.channels, origin)
    layers = [{"type": "image", "name": "raw", "source": source, "shader": GREY}]
    if volume.labels is not None:
        url = _url(volume, volume.labels.uri, f"{inputs}/labels", served)
        source = _source(volume, url, None, origin)
        layers.append(_layer("segmentation", "labels", source, visible=False))
    begin = volume.roi.begin
    for name, kind in (("prediction", "image"), ("segmentation", "segmentation")):
        path = f"{results}/{name}.zarr"
        if run.store.exists(f"{path}/zarr.json"):
            channels = run.frozen.task.channels if kind == "image" else None
            url = _url(volume, run.store.path(path), "", served)
            source = _source(volume, url, len(channels) if channels else None, begin)
            layer = _layer(kind, name, source, visible=kind == "segmentation")
            layers.append(layer | ({"shader": _shader(channels)} if channels else {}))
    return layers


def _layer(kind: str, name: str, source: dict[str, Any], visible: bool) -> dict[str, Any]:
    return {"type": kind, "name": name, "source": source, "visible": visible}


def _url(volume: "Volume", uri: str, declared: str, served: str) -> str:
    """What neuroglancer reads an array from; local ones outside the store by their volume."""
    if "://" in uri:
        return uri
    root = f"{volume.store.uri}/"
    path = f"store/{uri.removeprefix(root)}" if uri.startswith(root) else declared
    return f"{served}/{quote(path)}"


def _source(
    volume: "Volume", url: str, channels: int | None, begin: tuple[int, ...]
) -> dict[str, Any]:
    """An OME-Zarr placed on the volume's own grid, whatever its metadata say of the world."""
    axes = {axis: [s * 1e-9, "m"] for axis, s in zip("zyx", volume.voxel_size, strict=True)}
    lead: dict[str, Any] = {"c^": [1, ""]} if channels else {}
    places = [0] * len(lead) + list(begin)
    rank = len(places)
    matrix = [[int(i == j) for j in range(rank)] + [places[i]] for i in range(rank)]
    return {
        "url": f"zarr://{url}",
        "transform": {"outputDimensions": lead | axes, "matrix": matrix},
    }


def _shader(channels: list[str]) -> str:
    """Up to three channels in red, green and blue; of classes not the first, the background."""
    first = 1 if channels[0] == "background" else 0
    shown = range(first, min(first + 3, len(channels)))
    values = [f"toNormalized(getDataValue({i}))" for i in shown]
    if len(values) == 1:
        return f"void main() {{ emitGrayscale({values[0]}); }}\n"
    values += ["0.0"] * (3 - len(values))
    return f"void main() {{ emitRGB(vec3({', '.join(values)})); }}\n"
