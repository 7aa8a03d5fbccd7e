"""The paper's Table 3 in one run, ours and DiffTSR in turn on this machine: ``python -m benchmarks.latency``.

Writes benchmarks/results/latency-<device>.json after every turn (``--resume`` goes on from there), and from it a
table (.md) and a plot (.png). ``--readme`` puts those of all results into README.md and docs/results.md, ``--check``
tells which of the speeds asked for were reached. DiffTSR has random weights: its cost does not depend on them.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import blocks
from benchmarks.difftsr.networks import SIZES
from benchmarks.speed import apart, checks, machine, show, turns
from benchmarks.speed.lines import sample_lines
from benchmarks.speed.peak import Peak
from benchmarks.speed.plan import Case, Choices, plan
from benchmarks.speed.record import RESULTS, Record, all_results, read
from benchmarks.speed.systems import Sources, opener
from textsr.device import Device
from textsr.errors import DeviceError, InputError, TextSRError

TESTSET = Path(__file__).resolve().parents[1] / ".cache" / "testset"
"""Where `benchmarks.testset` puts it."""
LINES = {"cpu": 12, "cuda": 100}
ROUNDS = 3
MISSED = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 with a message when something is missing, 3 when ``--check`` finds a speed not reached."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(words)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        if options.readme or options.check:
            return _told(options)
        with logging_redirect_tqdm():
            return _measured(options, words)
    except TextSRError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--bundle", default="compact", help="name or folder of a bundle of compact (default: the shipped one)")
    add("--paper-bundle", type=Path, default=None, metavar="DIR", help="a bundle of paper, for other executors")
    add("--rounds", type=int, default=ROUNDS, help=f"rounds that the rows take turns in (default: {ROUNDS})")
    add("--lines", type=int, default=None, help="lines of a row in all rounds (default: 12 on a CPU, 100 on a GPU)")
    add("--threads", type=int, default=None, help="CPU threads (default: the libraries' choice)")
    add("--difftsr-steps", type=int, default=None, metavar="N", help="time N of 200 (default: 2 on a CPU, else all)")
    add("--size", choices=list(SIZES), default="full", help="of DiffTSR; small is for tests")
    add("--only", nargs="+", default=[""], metavar="TEXT", help="only rows whose label holds one of these, as ordered")
    add("--no-memory", action="store_true", help="leave out start-up and memory, which take a process each")
    add("--testset", type=Path, default=TESTSET, help="where lines are taken from; noise where it is not made")
    add("--out", type=Path, default=None, help="the JSON to write (default: below benchmarks/results/)")
    add("--resume", action="store_true", help="go on with the JSON's run")
    add("--plan", action="store_true", help="print the rows and measure nothing")
    add("--check", action="store_true", help="print which speeds the results reach; measures nothing")
    add(
        "--readme", action="store_true", help="put the tables of the results into README.md and docs/; measures nothing"
    )
    return parser


def _told(options: argparse.Namespace) -> int:
    results = all_results() if options.out is None else [read(options.out)]
    if options.readme:
        blocks.write(show.BLOCK, show.parts(results))
    if not options.check:
        return 0
    if not results:
        raise InputError("no results: measure first (python -m benchmarks.latency)")
    found = [(data["device"]["name"], bar) for data in results for bar in checks.bars(data)]
    sys.stdout.writelines(f"{name}: {bar}\n" for name, bar in found)
    return MISSED if any(bar.met is False for _, bar in found) else 0


def _device(name: str) -> str:
    """cpu, cuda or cuda:N as torch finds it."""
    wanted = Device.parse(name)
    if wanted.kind == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.kind == "cuda" and wanted.index >= torch.cuda.device_count():
        raise DeviceError(f"device {name}: torch {torch.__version__} finds no such CUDA device; use --device cpu")
    return str(wanted)


def _measured(options: argparse.Namespace, words: Sequence[str]) -> int:
    device = _device(options.device)
    choices = Choices(
        device, options.paper_bundle is not None, options.difftsr_steps, options.size, machine.openvino_precisions()
    )
    cases = _chosen(plan(choices), options.only)
    if options.plan:
        sys.stdout.writelines(f"{case.label}{f'  [{case.reason}]' if case.reason else ''}\n" for case in cases)
        return 0
    amount = turns.Amount(_at_least_1(options.rounds, "--rounds"), _lines(options, device))
    bundles = {"compact": str(options.bundle)}
    if options.paper_bundle is not None:
        bundles["paper"] = str(options.paper_bundle)
    sources = Sources(bundles, options.size, options.threads)
    if options.threads is not None:
        torch.set_num_threads(_at_least_1(options.threads, "--threads"))
    record = _record(options, words, device, cases, amount)
    path = options.out or RESULTS / (show.stem(record.about["device"]["name"]) + ".json")
    if options.resume:
        record.resume(path)
    if not options.no_memory:
        _apart(record, sources, path)
    lines = sample_lines(options.testset, amount.lines)
    peak = Peak(device)

    def rates() -> dict[str, float]:
        record.about["conditions"]["load"].append(os.getloadavg()[0])
        return peak()

    turns.run(record, opener(sources), rates, lines, amount, lambda: record.save(path))
    record.save(path)
    data = record.data()
    path.with_suffix(".md").write_text(show.table(data), encoding="utf-8")
    show.plot(data, path.with_suffix(".png"))
    sys.stdout.write(show.table(data))
    return 0


def _chosen(cases: Sequence[Case], texts: Sequence[str]) -> list[Case]:
    """Rows whose label holds one of ``texts``, those of the first text first: a run cut short has what matters most."""
    return list({case.label: case for text in texts for case in cases if text in case.label}.values())


def _lines(options: argparse.Namespace, device: str) -> int:
    return LINES[device.partition(":")[0]] if options.lines is None else _at_least_1(options.lines, "--lines")


def _at_least_1(value: int, option: str) -> int:
    if value < 1:
        raise InputError(f"{option} {value}: must be at least 1")
    return value


def _record(
    options: argparse.Namespace, words: Sequence[str], device: str, cases: Sequence[Case], amount: turns.Amount
) -> Record:
    made = (options.testset / "lines.tsv").exists()
    conditions: dict[str, object] = {
        "rounds": amount.rounds, "lines": amount.lines, "lines_are": "of the test set" if made else "noise",
        "threads": torch.get_num_threads(), "tf32": machine.tf32(), "load": [],
    }  # fmt: skip
    about = {
        "command": machine.command(words), "commit": machine.commit(), "versions": machine.versions(),
        "device": machine.device(device), "conditions": conditions,
    }  # fmt: skip
    return Record(about, cases)


def _apart(record: Record, sources: Sources, path: Path) -> None:
    """Start-up and memory, before this process holds any of the systems."""
    found: dict[tuple[object, ...], dict[str, object]] = {}
    built: dict[tuple[str, ...], object] = {}
    cases = [case for case in record.cases if not case.reason and not record.of(case).apart]
    for case in tqdm(cases, desc="start-up and memory", unit="row"):
        if apart.key(case) not in found:
            builds = case.executor == "tensorrt" and case.runner not in built
            given = asdict(sources)
            one = apart.with_build(case, given, apart.measure) if builds else apart.measure(case, given)
            built.setdefault(case.runner, one.get("build_seconds"))
            found[apart.key(case)] = {**one, "build_seconds": built[case.runner]}
        record.of(case).apart = found[apart.key(case)]
        record.save(path)


if __name__ == "__main__":
    raise SystemExit(main())
