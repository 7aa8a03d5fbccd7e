"""Build a bundle's engines, or tell what would be built: ``python -m export.engines BUNDLE``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.bundle import Bundle, shipped
from runtime.engines import (
    BATCHES,
    MODULES,
    EngineCache,
    EnginePlan,
    GpuFacts,
    ReadyEngine,
    Settings,
    Target,
    default_folder,
    find_gpu,
    open_library,
    plan,
    prepare,
)
from runtime.engines.planning import PRECISIONS
from runtime.executors.device import graph_precision
from textsr.errors import DeviceError, InputError, TextSRError

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
MANUAL = """\
Builds engines of TensorRT (or TensorRT-RTX) from the graphs of a bundle and keeps them in the cache, where the executor
finds them. Engines that are ready are left alone.

An engine is bound to the bundle's graphs and weights, the batch sizes, the precision, the library's version, and the
GPU and driver it was built for. TensorRT builds only on the machine with that GPU. TensorRT-RTX also builds without a
GPU: such engines ("portable") run on compute capabilities 8.0, 8.6, 8.9 and 12.x. Engines are code: keep the cache
where nobody else can write. It is refused otherwise.

exit status
  0 all engines are ready (with --dry-run: the plan was printed); 1 something failed, or --refuse found an engine that
  is not ready; 2 wrong usage; 130 interrupted.
"""


def build_engines(wanted: EnginePlan, *, refuse: bool = False) -> str:
    """Build what the plan lacks and return the table of all engines. Raises what `runtime.engines.prepare` raises."""
    return built_table(list(prepare(wanted, on_mismatch="refuse" if refuse else "rebuild").values()))


def plan_table(wanted: EnginePlan) -> str:
    """The plan in words: target, cache, and a line for each engine with its state, size and reason."""
    target = wanted.target
    place = str(target.gpu) if target.gpu else "portable (built without regard to a GPU)"
    head = [
        f"bundle   {wanted.bundle.path} ({wanted.bundle.preset.name}, {wanted.settings.precision})",
        f"library  {target.library.name} {target.library.version}",
        f"gpu      {place}",
        f"batches  {', '.join(map(str, wanted.settings.batches))}",
        f"cache    {wanted.cache.folder}",
    ]
    rows = [
        (engine.graph, engine.state, f"{engine.size / 2**20:.1f} MiB" if engine.size else "-", engine.reason)
        for engine in wanted.engines
    ]
    strangers = wanted.cache.strangers()
    tail = [f"not ours, never read: {', '.join(strangers)}"] if strangers else []
    return "\n".join([*head, "", *_columns(rows), *tail])


def built_table(engines: Sequence[ReadyEngine]) -> str:
    """Graph, layers, seconds and MiB of each engine, and their sums."""
    rows = [("graph", "layers", "seconds", "MiB", "")]
    for engine in engines:
        size = f"{engine.size / 2**20:.1f}"
        rows.append((engine.graph, str(engine.layers), f"{engine.seconds:.1f}", size, "" if engine.built else "ready"))
    seconds, total = sum(e.seconds for e in engines if e.built), sum(e.size for e in engines) / 2**20
    rows.append(("built now, all", "", f"{seconds:.1f}", f"{total:.1f}", ""))
    return "\n".join(_columns(rows))


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _target(library: str | None, gpu: str) -> Target:
    """The target that ``--engine`` and ``--for-gpu`` name."""
    opened = open_library(library)
    if gpu == "portable":
        return Target(opened, None).checked()
    if gpu != "this":
        if not opened.builds_without_gpu:
            raise DeviceError(f"{opened.name} builds for the GPU of the machine it runs on: leave --for-gpu out")
        return Target(opened, GpuFacts.parse(gpu))
    return Target(opened, find_gpu()).checked()


def _batches(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise InputError(f"--batch {text!r}: give numbers with commas between, as 1,8,32") from error


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    made = argparse.ArgumentParser(
        prog="python -m export.engines", description=MANUAL, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("bundle", metavar="BUNDLE", help=f"a bundle's folder or a shipped name ({', '.join(shipped()) or 'none'})")
    add("--engine", choices=tuple(MODULES), help="library; default: tensorrt if it is installed, else tensorrt-rtx")
    add("--precision", choices=("auto", *PRECISIONS), default="auto",
        help="default: auto, what the executor takes on its own: fp16 where the bundle has graphs in half precision, "
        "else fp32")  # fmt: skip
    add("--batch", default=",".join(map(str, BATCHES)), metavar="N,N", help="a profile for each; default: %(default)s")
    add("--graphs", metavar="A,B", help="only these graphs; default: all")
    add("--cache", type=Path, metavar="DIR", help=f"default: {default_folder()}")
    add(
        "--for-gpu", default="this", metavar="GPU",
        help="tensorrt-rtx: this (default; portable where there is none), portable, or NAME,CAPABILITY,DRIVER",
    )  # fmt: skip
    add("--level", type=int, default=3, help="builder's effort, 0 to 5; default: 3")
    add("--tf32", action="store_true", help="let float32 products round to 19 bits")
    add("--dry-run", action="store_true", help="print the plan, build and write nothing")
    add("--refuse", action="store_true", help="fail where an engine is not ready instead of building it")
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    args = _arguments(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        bundle = Bundle.open(args.bundle)
        precision = graph_precision(bundle, args.precision, cuda=True)
        settings = Settings(precision, _batches(args.batch), args.tf32, args.level)
        graphs = args.graphs.split(",") if args.graphs else None
        wanted = plan(
            bundle, settings, _target(args.engine, args.for_gpu), cache=EngineCache(args.cache), graphs=graphs
        )
        sys.stdout.write(plan_table(wanted) + "\n")
        if not args.dry_run:
            sys.stdout.flush()
            sys.stdout.write("\n" + build_engines(wanted, refuse=args.refuse) + "\n")
    except TextSRError as error:
        sys.stderr.write(f"export.engines: {error}\n")
        return MISUSED if isinstance(error, InputError) else FAILED
    except KeyboardInterrupt:
        sys.stderr.write("export.engines: interrupted; engines that were finished are kept\n")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
