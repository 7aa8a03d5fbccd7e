"""What the builder calls exists in TensorRT 11, and in what order it calls it: against a fake with the real names."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterator

import pytest

from runtime.bundle import Bundle
from runtime.engines import EngineCache, Library, Settings, Target, prepare
from runtime.engines.build import Tuning, build_engine
from runtime.engines.library import log_of
from runtime.engines.profiles import profiles
from runtime.engines.progress import Progress, monitor
from tests.runtime.engines.fake_builder import NAMES, FakeModule, Instance
from tests.runtime.engines.helpers import ADA, RTX, TENSORRT, QuickBuilder, planned
from textsr.errors import DeviceError, EngineError


@pytest.fixture
def fake() -> FakeModule:
    return FakeModule()


@pytest.fixture
def library(fake: FakeModule) -> Library:
    log_of.cache_clear()  # libraries are equal where name and version are, each test has its own fake
    return dataclasses.replace(TENSORRT, module=fake)


def test_a_build_from_first_to_last(fake: FakeModule, library: Library, bundle: Bundle) -> None:
    graph = bundle.graphs["small"]
    built = build_engine(library, graph.path, profiles(graph), Tuning(level=5), timing=b"old times")
    assert (bytes(built.data), built.layers, built.timing) == (b"engine", 12, b"times")
    config, profile = "IBuilderConfig.", "Builder.create_optimization_profile"
    expected = [
        *("Builder.create_network", "OnnxParser.parse_from_file", "Builder.create_builder_config"),
        *(f"{config}clear_flag", f"{config}builder_optimization_level=", f"{config}progress_monitor="),
        *[profile, "IOptimizationProfile.set_shape", f"{config}add_optimization_profile"] * 3,
        *(f"{config}create_timing_cache", f"{config}set_timing_cache"),
        *("Builder.build_serialized_network", "ITimingCache.serialize"),
    ]
    assert [name for name, _ in fake.calls] == expected
    assert fake.called("Builder.create_network") == [(1,)], "strongly typed"
    assert fake.called("OnnxParser.parse_from_file") == [(str(graph.path),)]
    assert fake.called("IBuilderConfig.create_timing_cache") == [(b"old times",)]
    assert fake.called("IBuilderConfig.builder_optimization_level=") == [(5,)]
    assert fake.called("IOptimizationProfile.set_shape")[1] == ("x", (2, 8), (8, 8), (8, 8))
    (cleared,) = fake.called("IBuilderConfig.clear_flag")
    assert cleared[0].name == "TF32", "float32 means float32"


def test_tensorrt_11_has_no_precision_flags() -> None:
    flags = NAMES["classes"]["BuilderFlag"]["values"]
    assert not {"FP16", "BF16", "INT8", "OBEY_PRECISION_CONSTRAINTS"} & flags.keys()
    assert "STRONGLY_TYPED" in NAMES["classes"]["NetworkDefinitionCreationFlag"]["values"]


def test_tf32_on_demand(fake: FakeModule, library: Library, bundle: Bundle) -> None:
    graph = bundle.graphs["small"]
    build_engine(library, graph.path, profiles(graph), Tuning(tf32=True))
    assert [flag.name for (flag,) in fake.called("IBuilderConfig.set_flag")] == ["TF32"]


def test_a_timing_cache_of_another_gpu_is_begun_again(fake: FakeModule, library: Library, bundle: Bundle) -> None:
    takes = iter([False, True])
    fake.answers["IBuilderConfig.set_timing_cache"] = lambda cache, ignore: next(takes)
    graph = bundle.graphs["small"]
    build_engine(library, graph.path, profiles(graph), timing=b"foreign")
    assert fake.called("IBuilderConfig.create_timing_cache") == [(b"foreign",), (b"",)]
    assert all(ignore is False for _, ignore in fake.called("IBuilderConfig.set_timing_cache"))


def test_errors_say_what_the_library_says(fake: FakeModule, library: Library, bundle: Bundle) -> None:
    graph = bundle.graphs["small"]
    log = log_of(library)

    def fail(network: object, config: object) -> None:
        log.log(1, " no kernel for node product ")

    fake.answers["Builder.build_serialized_network"] = fail
    with pytest.raises(EngineError, match=r"tensorrt cannot build small\.onnx: no kernel for node product"):
        build_engine(library, graph.path, profiles(graph))
    fake.answers["IOptimizationProfile.set_shape"] = lambda *given: (_ for _ in ()).throw(ValueError("min > max"))
    with pytest.raises(EngineError, match=r"small\.onnx, input x: profile refused \(min > max\)"):
        build_engine(library, graph.path, profiles(graph))


def test_without_a_gpu_tensorrt_is_refused_before_any_work(bundle: Bundle, cache: EngineCache) -> None:
    with pytest.raises(DeviceError, match=r"tensorrt chooses kernels by timing them on a GPU and finds none"):
        planned(bundle, cache, target=Target(TENSORRT, None))


def test_the_timing_cache_is_kept_for_its_gpu(bundle: Bundle, cache: EngineCache, quick: QuickBuilder) -> None:
    prepare(planned(bundle, cache, target=Target(TENSORRT, ADA))[0])
    moved = dataclasses.replace(ADA, driver="590.1 (CUDA 13.1)")
    assert quick.timings == [b""]
    prepare(planned(bundle, cache, Settings(batches=(4,)), Target(TENSORRT, ADA))[0])
    prepare(planned(bundle, cache, target=Target(TENSORRT, moved))[0])
    assert quick.timings == [b"", b"t", b""]
    times = next(cache.folder.glob("*.timing"))
    times.write_bytes(b"foreign")
    prepare(planned(bundle, cache, Settings(batches=(2,)), Target(TENSORRT, ADA))[0])
    prepare(planned(bundle, cache, Settings(batches=(2,)), Target(TENSORRT, moved))[0])
    assert quick.timings.count(b"t") == 2, "one was changed and is not used, the other is"
    prepare(planned(bundle, cache, target=Target(RTX, ADA))[0])
    assert quick.timings[-1] == b"", "TensorRT-RTX has none"


def test_progress_adds_nested_phases_and_never_falls(library: Library) -> None:
    progress = Progress()
    watch = monitor(library, progress)
    seen = []
    watch.phase_start("all", None, 2)
    watch.phase_start("first", "all", 4)
    for step in range(4):
        assert watch.step_complete("first", step) is True
        seen.append(progress.share)
    watch.phase_finish("first")
    watch.step_complete("all", 0)
    watch.step_complete("unheard of", 3)
    watch.phase_start("second", "all", 0)
    watch.phase_finish("second")
    seen.append(progress.share)
    watch.phase_finish("all")
    assert seen == [0.125, 0.25, 0.375, 0.5, 1.0]
    progress.interrupted = True
    assert watch.step_complete("all", 1) is False


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Python's own handler of the interrupt key: what starts the tests in the background has the key ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_the_interrupt_key_asks_the_library_to_stop(fake: FakeModule, library: Library, bundle: Bundle) -> None:
    graph, before = bundle.graphs["small"], signal.getsignal(signal.SIGINT)

    def build(network: object, config: object) -> None:
        (watch,) = fake.called("IBuilderConfig.progress_monitor=")[-1]
        watch.phase_start("all", None, 3)
        assert watch.step_complete("all", 0) is True
        signal.raise_signal(signal.SIGINT)
        assert watch.step_complete("all", 1) is False
        watch.phase_finish("all")

    fake.answers["Builder.build_serialized_network"] = build
    with pytest.raises(KeyboardInterrupt):
        build_engine(library, graph.path, profiles(graph))
    assert signal.getsignal(signal.SIGINT) is before


def test_the_parsers_errors_name_their_nodes(fake: FakeModule, library: Library, bundle: Bundle) -> None:
    fake.answers |= {
        "OnnxParser.parse_from_file": lambda path: False,
        "OnnxParser.num_errors": 1,
        "OnnxParser.get_error": lambda number: Instance(fake, "ParserError"),
        "ParserError.node": lambda: 7,
        "ParserError.node_name": lambda: "/block/attention",
        "ParserError.node_operator": lambda: "Einsum",
        "ParserError.desc": lambda: "not supported",
    }
    graph = bundle.graphs["small"]
    with pytest.raises(EngineError, match=r"small\.onnx: node /block/attention \(Einsum\): not supported"):
        build_engine(library, graph.path, profiles(graph))
