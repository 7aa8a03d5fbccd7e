"""Plans: what is built and why; which engines serve which GPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle import Bundle
from runtime.engines import (
    CachedEngines,
    EngineCache,
    GpuFacts,
    Settings,
    Target,
    keep_kernels,
    plan,
    prepare,
    read_kernels,
)  # fmt: skip
from runtime.engines.planning import graph_file
from tests.runtime.engines.helpers import (
    ADA,
    HOPPER,
    RTX,
    TENSORRT,
    WEIGHTS,
    QuickBuilder,
    planned,
    rebuilt,
    small_bundle,
)  # fmt: skip
from textsr.errors import BundleError, EngineError, InputError

HERE = Target(TENSORRT, ADA)


@pytest.fixture
def built(bundle: Bundle, cache: EngineCache, quick: QuickBuilder) -> QuickBuilder:
    """The cache holds the bundle's engine for TensorRT on an Ada GPU."""
    prepare(planned(bundle, cache, target=HERE)[0])
    return quick


def gpu(**changes: Any) -> Target:
    return Target(TENSORRT, dataclasses.replace(ADA, **changes))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bundle": "small.onnx"}, "built from another graph"),
        ({"bundle": WEIGHTS}, "built from another weights"),
        ({"settings": Settings(batches=(1, 8))}, "built for other shapes"),
        ({"settings": Settings(tf32=True)}, "tf32 was False, is True"),
        ({"settings": Settings(level=5)}, "level was 3, is 5"),
        ({"target": Target(RTX, ADA)}, "library was tensorrt, is tensorrt-rtx"),
        (
            {"target": Target(dataclasses.replace(TENSORRT, version="11.5.0"), ADA)},
            "version was 11.4.0.106, is 11.5.0",
        ),
        ({"target": gpu(name="NVIDIA RTX A2000")}, "gpu was NVIDIA GeForce RTX 4090, is NVIDIA RTX A2000"),
        ({"target": gpu(capability=(8, 6))}, "capability was 8.9, is 8.6"),
        ({"target": gpu(driver="590.1")}, "driver was 580.95.05 (CUDA 13.0), is 590.1"),
    ],
    ids=["graph", "weights", "shapes", "tf32", "level", "library", "version", "gpu", "capability", "driver"],
)
def test_each_part_of_the_key_makes_an_engine_stale_and_is_named(
    change: Mapping[str, Any], reason: str, bundle: Bundle, cache: EngineCache, built: QuickBuilder
) -> None:
    other = rebuilt(bundle, change["bundle"]) if "bundle" in change else bundle
    wanted, one = planned(other, cache, change.get("settings"), change.get("target", HERE))
    assert one.state == "stale"
    assert reason in one.reason
    with pytest.raises(EngineError, match="small is stale: "):
        prepare(wanted, on_mismatch="refuse")
    assert built.built == ["small"]
    if "bundle" not in change:
        assert prepare(wanted)["small"].built
        assert planned(bundle, cache, change.get("settings"), change.get("target", HERE))[1].state == "ready"


def test_half_precision_is_a_part_of_the_key(bundle: Bundle, cache: EngineCache, built: QuickBuilder) -> None:
    half = bundle.path / "small.half.onnx"
    half.write_bytes(b"half")
    small = dataclasses.replace(bundle.graphs["small"], half=half)
    both = dataclasses.replace(
        bundle,
        graphs={"small": small},
        files={**bundle.files, half.name: "a" * 64},
    )
    _, one = planned(both, cache, Settings("fp16"), HERE)
    assert (one.onnx, one.state) == (half, "stale")
    assert "precision was fp32, is fp16" in one.reason
    assert planned(both, cache, Settings("fp32"), HERE)[1].state == "ready", "the same weights serve both"


def test_a_bundle_without_half_graphs_says_so(bundle: Bundle) -> None:
    with pytest.raises(InputError, match=r"no half-precision graph small: .*export\.build --precision fp16"):
        graph_file(bundle, bundle.graphs["small"], "fp16")


def test_what_nothing_can_use_any_more_goes_and_the_rest_stays(
    bundle: Bundle, cache: EngineCache, built: QuickBuilder
) -> None:
    for settings, target in (
        (Settings(batches=(4,)), HERE),
        (Settings(), gpu(name="another")),
        (Settings(), gpu(driver="590.1")),
    ):
        prepare(planned(bundle, cache, settings, target)[0])
    engines = [entry.parts for entry in cache.entries().values() if entry.parts["kind"] == "engine"]
    assert sorted((part["gpu"], part["driver"]) for part in engines) == [
        ("NVIDIA GeForce RTX 4090", "580.95.05 (CUDA 13.0)"),  # for batches of 4
        ("NVIDIA GeForce RTX 4090", "590.1"),
        ("another", "580.95.05 (CUDA 13.0)"),
    ]
    assert len(list(cache.folder.glob("*.engine"))) == 3


def test_portable_engines_serve_the_gpus_that_the_library_names(
    bundle: Bundle, cache: EngineCache, quick: QuickBuilder
) -> None:
    prepare(planned(bundle, cache, target=Target(RTX, None))[0])
    for capability in ((8, 0), (8, 6), (8, 9), (12, 0)):
        there = Target(RTX, dataclasses.replace(ADA, capability=capability))
        wanted, one = planned(bundle, cache, target=there)
        assert one.state == "ready"
        assert prepare(wanted, on_mismatch="refuse")["small"].read().startswith(b"tensorrt-rtx small 1")
    for there in (Target(RTX, HOPPER), Target(RTX, dataclasses.replace(ADA, capability=(7, 5))), HERE):
        assert planned(bundle, cache, target=there)[1].state == "stale"
    newer = Target(dataclasses.replace(RTX, version="1.8.0"), ADA)
    assert planned(bundle, cache, target=newer)[1].state == "stale", "engines do not outlive a release"


def test_turing_has_to_be_asked_for(bundle: Bundle, cache: EngineCache) -> None:
    turing = Target(RTX, GpuFacts("NVIDIA GeForce RTX 2080", (7, 5), "580.1"))
    assert planned(bundle, cache, target=turing)[0].tuning.turing
    assert not planned(bundle, cache, target=Target(RTX, ADA))[0].tuning.turing


def test_a_plan_and_a_refusal_write_nothing(tmp_path: Path, bundle: Bundle, quick: QuickBuilder) -> None:
    before = sorted(tmp_path.rglob("*"))
    wanted = plan(bundle, Settings(), Target(RTX, None), cache=EngineCache(tmp_path / "new" / "cache"))
    assert [(engine.state, engine.reason) for engine in wanted.engines] == [("missing", "none in the cache")]
    with pytest.raises(EngineError, match="small is missing"):
        prepare(wanted, on_mismatch="refuse")
    assert wanted.cache.strangers() == ()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bundle_that_changed_since_it_was_opened_is_not_built(
    bundle: Bundle, cache: EngineCache, quick: QuickBuilder
) -> None:
    wanted, _ = planned(bundle, cache)
    (bundle.path / WEIGHTS).write_bytes(b"other weights")
    with pytest.raises(BundleError, match=r"weights\.safetensors: has changed since the bundle was opened"):
        prepare(wanted)
    (bundle.path / WEIGHTS).unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        prepare(wanted)
    assert quick.built == []


def test_some_graphs_only_and_unknown_ones(tmp_path: Path, cache: EngineCache, quick: QuickBuilder) -> None:
    bundle = small_bundle(tmp_path / "three", "one", "two", "three")
    wanted = plan(bundle, None, HERE, cache=cache, graphs=["three", "one"])
    assert list(prepare(wanted)) == ["three", "one"]
    assert quick.built == ["three", "one"]
    whole = plan(bundle, None, HERE, cache=cache)
    assert [engine.graph for engine in whole.to_build] == ["two"]
    with pytest.raises(InputError, match="has no graph four; it has one, two, three"):
        plan(bundle, None, HERE, cache=cache, graphs=["four"])


def test_engines_on_demand(tmp_path: Path, cache: EngineCache, quick: QuickBuilder) -> None:
    bundle = small_bundle(tmp_path / "two", "one", "two")
    source = CachedEngines(bundle, Settings(), HERE, cache=cache)
    assert source.library == TENSORRT
    assert source.serialized(bundle.graphs["two"]).startswith(b"tensorrt two 1")
    assert source.serialized(bundle.graphs["two"]).startswith(b"tensorrt two 1")
    assert quick.built == ["two"]
    refusing = CachedEngines(bundle, Settings(), HERE, cache=cache.folder, on_mismatch="refuse")
    with pytest.raises(EngineError, match="one is missing"):
        refusing.serialized(bundle.graphs["one"])


def test_kernels_are_kept_for_their_gpu_and_checked(bundle: Bundle, cache: EngineCache, quick: QuickBuilder) -> None:
    wanted, _ = planned(bundle, cache, target=Target(RTX, ADA))
    assert read_kernels(wanted) == b""
    keep_kernels(wanted, b"first")
    keep_kernels(wanted, memoryview(b"compiled"))
    assert read_kernels(wanted) == b"compiled"
    assert read_kernels(planned(bundle, cache, target=Target(RTX, HOPPER))[0]) == b""
    next(cache.folder.glob("*.kernels")).write_bytes(b"foreign!")
    assert read_kernels(wanted) == b""


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"precision": "int8"}, "fp32, fp16"),
        ({"level": 6}, "0 "),
        ({"batches": ()}, "1 to"),
        ({"batches": (0,)}, "1 to"),
    ],
)
def test_bad_settings_are_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Settings(**options)


def test_a_bad_mismatch_option_is_told(bundle: Bundle, cache: EngineCache) -> None:
    odd: Any = "ignore"
    with pytest.raises(InputError, match="choose rebuild or refuse"):
        prepare(planned(bundle, cache)[0], on_mismatch=odd)
