"""The newest usable weights of a run, with all that is known of how they came about, where they can be carried off."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from textsr.config import preset
from train.compact_options import Options
from train.curves import thinned
from train.plan import Plan
from train.shards import write_shards

log = logging.getLogger(__name__)


def folder(options: Options) -> Path:
    """Where weights are published."""
    return options.publish or options.out / "weights"


def publish(checkpoint: Path, options: Options, plan: Plan) -> None:
    """Puts ``checkpoint`` into the folder, in half precision, in shards; the plan names it."""
    plan.weights = str(checkpoint.relative_to(options.out))
    plan.save(options.out)
    write_shards(checkpoint, folder(options), metadata(options, plan))
    log.info("usable weights: %s, in shards in %s", checkpoint, folder(options))


def metadata(options: Options, plan: Plan) -> dict[str, str]:
    """Sizes of the preset, seed, commit, curves, plan and, once chosen, the default number of steps; JSON strings."""
    told: dict[str, Any] = {
        "config": asdict(preset(plan.preset)),
        "seed": plan.seed,
        "commit": plan.commit,
        "curves": curves(options.out),
        "plan": {"minutes": plan.minutes, "given": plan.given, "done": plan.done, "figures": plan.figures},
    }
    if plan.steps is not None:
        told["default_steps"] = plan.steps
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()}


def curves(out: Path) -> dict[str, list[dict[str, float]]]:
    """Rows of each part's curves, thinned evenly."""
    found = {}
    for part in ("autoencoder", "diffusion", "distil"):
        path = out / part / "curves.jsonl"
        rows = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if rows:
            found[part] = thinned([json.loads(row) for row in rows])
    return found
