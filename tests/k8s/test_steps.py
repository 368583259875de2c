"""Steps are pods, on a real cluster: the same bytes as in one process, and each where it may be."""

import pytest
from dagster_client import Client
from deployment import Deployment

pytestmark = pytest.mark.k8s

BY_BLOCK = ("prediction", "fragments", "segmentation")


def test_a_segmentation_made_by_pods_has_the_same_bytes(
    deployment: Deployment, client: Client, faultless: dict[str, bytes]
) -> None:
    for asset in ("datasplit", "checkpoint", "validation_scores"):
        assert client.run(asset, {"partition": "tiny"})[0] == "SUCCESS"
    for asset in ("prediction", "fragments"):
        assert client.run_blocks(asset, "tiny")[0] == "SUCCESS"
    assert client.run("lut", {"partition": "tiny"})[0] == "SUCCESS"
    assert client.run_blocks("segmentation", "tiny")[0] == "SUCCESS"
    for asset in BY_BLOCK:
        assert client.counts(asset) == (20, 0)
    assert deployment.fetch("runs/tiny/phantom/segmentation.zarr") == faultless
