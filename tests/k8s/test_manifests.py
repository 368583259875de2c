"""What is applied: accepted by the API server, and no rights or tools beyond what is needed."""

import re
from pathlib import Path

import pytest
from cluster import PROJECT, Cluster
from deployment import PARTS, Deployment

pytestmark = pytest.mark.k8s

OVERLAYS = sorted((PROJECT / "k8s/overlays").iterdir())
TOOLS = "gcc cc g++ c++ clang cpp ld as make cmake rustc cargo go nvcc git curl wget ssh sudo"
MAY = {
    "jobs.batch": {"create", "delete", "list"},
    "jobs.batch/status": {"get"},
    "pods": {"list", "delete"},
    "events": {"list"},
}


@pytest.mark.usefixtures("deployment")
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_the_api_server_accepts_every_manifest(cluster: Cluster, overlay: Path) -> None:
    accepted = cluster.kubectl("apply", "--dry-run=server", "-k", str(overlay)).decode()
    assert "namespace/seg" in accepted
    assert all("(server dry run)" in line for line in accepted.splitlines())


@pytest.mark.usefixtures("deployment")
@pytest.mark.parametrize(("account", "may"), [("seg", MAY), ("seg-step", {})])
def test_an_account_may_do_what_it_must_and_no_more(
    cluster: Cluster, account: str, may: dict[str, set[str]]
) -> None:
    who = f"--as=system:serviceaccount:seg:{account}"
    table = cluster.kubectl("auth", "can-i", "--list", who).decode().splitlines()[1:]
    allowed = {line.split()[0]: set(re.findall(r"\w+", line.split("[")[-1])) for line in table}
    own = {what: verbs for what, verbs in allowed.items() if not what.startswith(("self", "["))}
    assert own == may


def test_no_root_no_tools_no_secrets_nothing_to_write(deployment: Deployment) -> None:
    assert deployment.inside("id -u").strip() == "10001"
    assert deployment.inside("id -un").strip() == "seg"
    assert deployment.inside(f"command -v {TOOLS} || true") == ""
    assert "Read-only" in deployment.inside("touch /opt/seg/x 2>&1 || true")
    assert deployment.inside("find / -xdev -perm /6000 -user 10001 2>/dev/null || true") == ""
    names = "-name id_rsa -o -name id_ed25519 -o -name .netrc -o -name '*.key' -o -name pip.conf"
    found = deployment.inside(f"find / -xdev -size +0 \\( {names} \\) 2>/dev/null || true").split()
    assert [f for f in found if "/tornado/test/" not in f] == []  # that one guards nothing


def test_kernels_are_compiled_in_the_image(deployment: Deployment) -> None:
    code = (
        "import numpy as np; from seg_core.postprocess import strong; "
        "a, near = np.zeros((3, 2, 2, 2), np.uint8), [(1, 0, 0), (0, 1, 0), (0, 0, 1)]; "
        "strong.strong_components(a, near, 0.5); s = strong._components.stats; "
        "print(len(s.cache_hits), len(s.cache_misses))"
    )
    assert deployment.inside(f"python -c '{code}'").split() == ["1", "0"]


def test_every_pod_comes_back_on_a_drained_node(cluster: Cluster) -> None:
    """Each budget allows its pod to go: a drain would not wait for ever."""
    budgets = {b["metadata"]["name"]: b["status"] for b in cluster.get("pdb")["items"]}
    assert set(budgets) == {*PARTS, "postgres"}
    assert all(status["disruptionsAllowed"] == 1 for status in budgets.values())
