"""Refining on a Ray cluster: two hosts, one of them killed, and the same bytes as on one machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest

import simgan
from refiners import build_refiner, noise
from simgan.cluster import _await_place, ray_engine
from simgan.data.conversion import convert
from simgan.data.trees import ImageTree
from simgan.errors import ConfigurationError, DataError, MissingExtraError, RunError, WeightsError
from simgan.images import write_image
from simgan.refinement import MANIFEST, refine
from simgan.refinement.shard import ShardWork, record_file
from simgan.weights import save_refiner

HEAD, OTHER = "10.231.7.1", "10.231.7.2"
PYTHON = sys.executable
RAY_START = [PYTHON, "-m", "ray.scripts.scripts", "start", "--num-cpus=1", "--disable-usage-stats"]
N_SHARDS, SAMPLES = 8, 200
WORK = ShardWork("in", "out", "**/*", "cpu", "float32", 95, "refuse", None, 256, "digest")
RAY_SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,  # every host has to have it
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # it is 15 by default: on a busy machine workers would never start
    "PYTHONPATH": str(Path(simgan.__file__).parents[1]),  # workers start in another folder
}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for i in range(N_SHARDS * SAMPLES):
        write_image(tmp_path / "in" / f"{i:04}.png", noise(20, 30, 1, seed=i))
    convert(tmp_path / "in", tmp_path / "shards", samples=SAMPLES)
    return tmp_path / "shards"


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=30)
    return done.stdout


@pytest.fixture
def two_hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces that see each other, or a skip that says why not."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'simgan[ray]'")
    if shutil.which("ip") is None:
        pytest.skip("there is no `ip` (iproute2) here to make two hosts with")
    head, other = names = f"simgan-{os.getpid()}-head", f"simgan-{os.getpid()}-other"
    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip(
                "link",
                "add",
                "simgan0",
                "netns",
                head,
                "type",
                "veth",
                "peer",
                "name",
                "simgan1",
                "netns",
                other,
            )
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not allowed here: {error.stderr.strip()}")
        for name, link, address in ((head, "simgan0", HEAD), (other, "simgan1", OTHER)):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield head, other
    finally:
        for name in set(names) & {line.split()[0] for line in ip("netns", "list").splitlines()}:
            for pid in ip("netns", "pids", name).split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            ip("netns", "del", name)


def on_host(name: str, log: Path, *command: str) -> str:
    """What the command says. Into a file: Ray's daemons keep what they inherit open, and a pipe would never end."""
    with log.open("w") as file:
        done = subprocess.run(
            ["ip", "netns", "exec", name, *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
            env=os.environ | RAY_SETTINGS,
            timeout=240,
        )
    assert done.returncode == 0, log.read_text()
    return log.read_text()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_every_shard_is_done_once_with_the_same_bytes_though_one_of_two_hosts_is_killed(
    two_hosts: tuple[str, str], shards: Path, tmp_path: Path
) -> None:
    head, other = two_hosts
    refiner = tmp_path / "refiner.safetensors"
    save_refiner(refiner, build_refiner())
    # Sockets lie there, whose paths may be 107 characters long.
    with TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as sockets:
        at_head = [f"--node-ip-address={HEAD}", "--port=6379", f"--temp-dir={sockets}"]
        on_host(head, tmp_path / "head.log", *RAY_START, "--head", "--include-dashboard=false", *at_head)
        joining = [f"--address={HEAD}:6379", f"--node-ip-address={OTHER}"]
        on_host(other, tmp_path / "other.log", *RAY_START, *joining)
        driver = [PYTHON, str(Path(__file__).with_name("cluster_driver.py")), str(refiner), str(shards)]
        said = on_host(
            head, tmp_path / "driver.log", *driver, str(tmp_path / "ray"), f"ray://{HEAD}:6379", other
        )
    told = json.loads(said.splitlines()[-1])
    assert told["cut_off"], "the other host was writing a shard when it was killed"
    assert sorted(told["done"]) == [f"shard-{i:06}.tar" for i in range(N_SHARDS)]
    refine(ImageTree(shards), refiner, tmp_path / "one")
    for path in (*sorted((tmp_path / "one").glob("*.tar")), tmp_path / "one" / MANIFEST):
        assert (tmp_path / "ray" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("address", ["slurm", "ray://", "http://host", ""])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="`cluster` must be ray"):
        ray_engine(address)


@pytest.fixture
def one_shard(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "0.png", noise(20, 30, 1))
    convert(tmp_path / "in", tmp_path / "shards")
    return tmp_path / "shards"


@pytest.mark.parametrize("package", ["ray", "ray.data"])
def test_without_ray_or_what_ray_data_needs_the_extra_is_named(
    one_shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"simgan\[ray\]"):
        refine(ImageTree(one_shard), build_refiner(), tmp_path / "out", engine=ray_engine("ray"))


def test_ray_is_not_started_when_no_shard_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert list(ray_engine("ray")(WORK, [])) == []


def work_in(folder: Path) -> ShardWork:
    """Work whose refiner is not there."""
    work = replace(WORK, root=str(folder), out=str(folder / "out"))
    record_file(work, "a.tar").parent.mkdir(parents=True)
    return work


class UnreachableRay(ModuleType):
    """In the place of the package: remembers how it was started, and does not start."""

    asked: Mapping[str, Any] = MappingProxyType({})

    def init(self, **asked: Any) -> None:
        self.asked = asked
        raise ConnectionError("nobody there")


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> UnreachableRay:
    ray = UnreachableRay("ray")
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", ModuleType("ray.data"))
    for name in ("RAY_worker_niceness", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    return ray


def test_on_this_machine_ray_starts_as_many_processes_as_workers_and_they_do_not_give_way(
    unreachable: UnreachableRay,
) -> None:
    with pytest.raises(RunError, match="no Ray cluster answers at local: nobody there"):
        next(ray_engine("ray", workers=2)(WORK, ["a.tar"]))
    assert (unreachable.asked["address"], unreachable.asked["num_cpus"]) == ("local", 2)
    assert ("RAY_worker_niceness", "0") in os.environ.items()


def test_a_cluster_of_others_is_taken_as_it_is(unreachable: UnreachableRay) -> None:
    with pytest.raises(RunError, match="no Ray cluster answers at there:6379: nobody there"):
        next(ray_engine("ray://there:6379", workers=2)(WORK, ["a.tar"]))
    assert unreachable.asked["address"] == "there:6379"
    assert not unreachable.asked.keys() & {"num_cpus", "include_dashboard"}
    assert "RAY_worker_niceness" not in os.environ


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("default")  # Ray's own
def test_on_ray_a_refused_shard_is_named_when_the_others_are_done_and_progress_counts_each(
    shards: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray.data", reason="Ray Data is not installed: pip install 'simgan[ray]'")
    damaged = shards / "shard-000003.tar"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    told: list[tuple[int, int]] = []
    with pytest.raises(DataError, match=rf"1 of {N_SHARDS} shards were refused(.|\n)*{damaged.name}"):
        refine(
            ImageTree(shards),
            build_refiner(),
            tmp_path / "out",
            engine=ray_engine("ray", workers=2),
            progress=lambda done, total: told.append((done, total)),
        )
    assert told == [(done, N_SHARDS) for done in range(1, N_SHARDS + 1)]
    assert len(list((tmp_path / "out").glob("*.tar"))) == N_SHARDS - 1


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="this system has no SCHED_IDLE")
def test_on_this_machine_rays_own_actors_take_what_the_workers_leave(shards: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.data", reason="Ray Data is not installed: pip install 'simgan[ray]'")
    wanted = {
        "MapWorker": os.SCHED_OTHER,
        "gcs_server": os.SCHED_OTHER,
        "raylet/raylet": os.SCHED_OTHER,
        "_StatsActor": os.SCHED_IDLE,
        "ActorLocationTracker": os.SCHED_IDLE,
        "AutoscalingCoordinator": os.SCHED_IDLE,
    }
    policies: dict[str, set[int]] = {}

    def look(done: int, total: int) -> None:
        if done == 2:
            for process in psutil.Process().children(recursive=True):
                name = next((word for word in wanted if word in " ".join(process.cmdline())), None)
                if name is not None:
                    policies.setdefault(name, set()).add(os.sched_getscheduler(process.pid))

    refine(
        ImageTree(shards),
        build_refiner(),
        tmp_path / "out",
        engine=ray_engine("ray", workers=2),
        progress=look,
    )
    assert policies == {name: {policy} for name, policy in wanted.items()}


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("default")
def test_on_ray_an_error_that_nobody_expected_is_raised_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("ray.data", reason="Ray Data is not installed: pip install 'simgan[ray]'")
    (tmp_path / "a.tar").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"refiner\.safetensors"):
        list(ray_engine("ray", workers=1)(work_in(tmp_path), ["a.tar"]))


def kill_workers_that_begin(begun: Path) -> None:
    """Five of them, each as soon as it has begun."""
    for count in range(1, 6):
        while not begun.exists() or begun.stat().st_size < count:
            time.sleep(0.05)
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if "MapWorker" in " ".join(process.cmdline()):
                    process.kill()


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("default")
def test_on_ray_a_shard_whose_workers_all_end_is_named_and_is_the_last(tmp_path: Path) -> None:
    pytest.importorskip("ray.data", reason="Ray Data is not installed: pip install 'simgan[ray]'")
    os.mkfifo(tmp_path / "a.tar")  # nobody writes into it, so that no worker comes to an end
    work = work_in(tmp_path)
    begun = record_file(work, "a.tar").with_suffix(".begun")
    Thread(target=kill_workers_that_begin, args=(begun,), daemon=True).start()
    with pytest.raises(RunError, match=r"a\.tar: 5 workers ended while they refined this shard"):
        list(ray_engine("ray", workers=1)(work, ["a.tar"]))


class _FullError(Exception):
    """What Ray raises where a task has waited in vain."""


class RayWithPlaces:
    """Only what the question for a place asks."""

    exceptions = SimpleNamespace(GetTimeoutError=_FullError)

    def __init__(self, **free: float) -> None:
        self._free = free

    def available_resources(self) -> dict[str, float]:
        return self._free

    def remote(self, **_: object) -> Callable[..., Any]:
        return lambda _function: SimpleNamespace(remote=lambda: "task")

    def get(self, _task: object, timeout: float) -> None:
        raise _FullError


def test_where_a_core_is_free_no_task_waits_for_one_and_where_none_is_it_is_said() -> None:
    _await_place(RayWithPlaces(CPU=1.0), 0)
    with pytest.raises(RunError, match="no core free"):
        _await_place(RayWithPlaces(CPU=0.5), 0)
    with pytest.raises(RunError, match="no GPU free"):
        _await_place(RayWithPlaces(CPU=8.0), 1)
