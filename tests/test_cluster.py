"""Refining on a Ray cluster: two hosts, one of them killed, and the same bytes as on one machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from refiners import build_refiner, noise
from simgan.cluster import ray_engine
from simgan.data.conversion import convert
from simgan.data.trees import ImageTree
from simgan.errors import ConfigurationError, MissingExtraError
from simgan.images import write_image
from simgan.refinement import MANIFEST, refine
from simgan.weights import save_refiner

HEAD, OTHER = "10.231.7.1", "10.231.7.2"
NAMESPACES = ("simgan-head", "simgan-other")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for i in range(48):
        write_image(tmp_path / "in" / f"{i:02}.png", noise(20, 30, 1, seed=i))
    convert(tmp_path / "in", tmp_path / "shards", samples=6)
    return tmp_path / "shards"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def two_hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces that see each other, or a skip that says why not."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'simgan[ray]'")
    if shutil.which("ip") is None:
        pytest.skip("there is no `ip` (iproute2) here to make two hosts with")
    head, other = NAMESPACES
    try:
        for name in NAMESPACES:
            ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not allowed here: {error.stderr.strip()}")
    try:
        ip("link", "add", "simgan0", "netns", head, "type", "veth", "peer", "name", "simgan1", "netns", other)
        for name, link, address in ((head, "simgan0", HEAD), (other, "simgan1", OTHER)):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield head, other
    finally:
        for name in NAMESPACES:
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, check=False, text=True)
            for pid in pids.stdout.split():
                os.kill(int(pid), 9)
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def in_namespace(name: str, *command: str) -> subprocess.CompletedProcess[str]:
    shared_token = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
    }  # every host has to have it
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"} | shared_token
    return subprocess.run(
        ["ip", "netns", "exec", name, *command],
        capture_output=True,
        check=False,
        text=True,
        env=environment,
        timeout=240,
    )


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_every_shard_is_done_once_with_the_same_bytes_though_one_of_two_hosts_is_killed(
    two_hosts: tuple[str, str], shards: Path, tmp_path: Path
) -> None:
    head, other = two_hosts
    save_refiner(tmp_path / "refiner.safetensors", build_refiner())
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus=1", "--disable-usage-stats"]
    begun = in_namespace(
        head, *ray, "--head", f"--node-ip-address={HEAD}", "--port=6379", "--include-dashboard=false"
    )
    assert begun.returncode == 0, begun.stderr
    joined = in_namespace(other, *ray, f"--address={HEAD}:6379", f"--node-ip-address={OTHER}")
    assert joined.returncode == 0, joined.stderr
    driver = [
        sys.executable,
        str(Path(__file__).with_name("cluster_driver.py")),
        str(tmp_path / "refiner.safetensors"),
    ]
    done = in_namespace(head, *driver, str(shards), str(tmp_path / "ray"), f"ray://{HEAD}:6379", other)
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout.splitlines()[-1])) == [f"shard-{i:06}.tar" for i in range(8)]
    refine(ImageTree(shards), tmp_path / "refiner.safetensors", tmp_path / "one")
    for path in (*sorted((tmp_path / "one").glob("*.tar")), tmp_path / "one" / MANIFEST):
        assert (tmp_path / "ray" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("address", ["slurm", "ray://", "http://host", ""])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="`cluster` must be ray"):
        ray_engine(address)


def test_without_ray_the_extra_is_named(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"simgan\[ray\]"):
        refine(ImageTree(shards), build_refiner(), tmp_path / "out", engine=ray_engine("ray"))
