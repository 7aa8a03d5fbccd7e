"""Tables, plot and README say what the JSON says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import blocks
from benchmarks.speed import show
from benchmarks.speed.clock import Sample
from benchmarks.speed.plan import Choices, plan
from benchmarks.speed.record import RESULTS, Measured, Record, all_results


def results(kind: str = "cpu", load: float = 0.1) -> dict[str, Any]:
    """A run whose rows at batch 1 took 1, 2, 3.. seconds a line."""
    conditions = {"rounds": 1, "lines": 6, "lines_are": "noise", "threads": 2, "load": [load, 2.0],
                  "tf32": {"matrix products": False, "convolutions": True}}  # fmt: skip
    device = {"kind": kind, "name": "A processor", **({"cores": 2} if kind == "cpu" else {})}
    about = {"command": "c", "commit": "abc", "versions": {}, "device": device, "conditions": conditions}
    cases = [case for case in plan(Choices(kind, paper_bundle=True)) if case.batch == 1]
    made = Record(about, cases, peaks=[{"fp32": 200.0}])
    for place, case in enumerate(case for case in cases if not case.reason):
        seconds = 1000.0 if case.extrapolated else float(1 + place)
        apart = {"peak_bytes": 3 << 29, "first_batch_seconds": 2.5, "build_seconds": None}
        made.measured[case.label] = Measured([[Sample(seconds, seconds, {"unet_step": seconds})]], apart, "torch:cpu")
    return made.data()


def test_the_readme_s_table_is_what_the_results_give() -> None:
    results = all_results()
    assert not blocks.stale(show.BLOCK, show.parts(results)), "run python -m benchmarks.latency --readme"
    for data in results:
        files = [RESULTS / (show.stem(data["device"]["name"]) + suffix) for suffix in (".json", ".md", ".png")]
        assert all(file.is_file() for file in files)
        assert files[1].read_text(encoding="utf-8") == show.table(data)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_the_whole_table(kind: str) -> None:
    data = results(kind)
    said = show.table(data)
    for row in data["rows"]:
        measured = row["seconds_per_line"] is not None
        assert measured != bool(row["reason"])
        assert f"* {row['label']}: {'unet_step' if measured else row['reason']}" in said
    assert ("| 2 of 200 |" in said) == (kind == "cpu")
    assert ("as torch sets it, matrix products off and convolutions on; off in our fp32" in said) == (kind == "cuda")
    assert "| 1.5 GiB | 2.50 |" in said
    assert "busy" not in said
    widths = {line.count("|") for line in said.splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_a_busy_machine_is_told() -> None:
    assert "**The machine was busy with other work** (load 3.0 on 2 cores" in show.table(results(load=3.0))


def test_the_readme_s_part() -> None:
    data = results()
    made = show.parts([data, results("cuda")])
    for path, row in (
        (blocks.README, "| DiffTSR | torch eager fp32 | 2 of 200 | 1,000 | 1 |"),
        (blocks.RESULTS, "| DiffTSR, text diffusion | torch eager fp32 | 1 | 2 of 200 | categorical | 1,000 |"),
    ):
        assert made[path].startswith("**A processor, 2 threads**")
        assert row in made[path]
        assert "* met: " in made[path]
    assert "categorical" not in made[blocks.README]
    assert set(show.parts([]).values()) == {show.NOTHING}


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, ""), (0.0123456, "0.0123"), (1.0, "1.00"), (12.345, "12.3"), (123.4, "123"), (1e4, "10,000")],
)
def test_seconds(value: float | None, said: str) -> None:
    assert show.seconds(value) == said


def test_the_plot(tmp_path: Path) -> None:
    show.plot(results(), tmp_path / "in" / "x.png")
    assert (tmp_path / "in" / "x.png").stat().st_size > 10_000
