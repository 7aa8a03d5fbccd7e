"""A diagnosis as a table, sentences, JSON and a sheet of pictures."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from train.diagnosis import BICUBIC, CEILING, CEILING_BAR, CLEAN, Diagnosis, choose_steps
from train.harness import replacing
from train.metrics import bootstrap

SHEET_LINES = 8
"""Lines whose pictures are shown."""


def table(found: Diagnosis) -> str:
    """Markdown, a row each; means with 95% bootstrap intervals of ACC and PSNR."""
    base = next((np.array(row.right) for row in found.rows if row.name == BICUBIC), None)
    out = ["| lines | read right % | NED | PSNR dB | ST-LPIPS | bicubic's right kept % | as told % | s a line |"]
    out.append("|---" * 8 + "|")
    for row in found.rows:
        same = row.name == CLEAN
        kept = "-" if base is None or not base.any() else f"{100 * np.array(row.right)[base == 1].mean():.1f}"
        cells = [
            row.name,
            bootstrap(row.right).format(1, 100),
            f"{np.mean(row.ned):.3f}",
            "-" if same else bootstrap(row.psnr).format(2),
            "-" if same else f"{np.mean(row.st_lpips):.3f}",
            kept,
            f"{100 * np.mean(row.told):.1f}" if row.told else "-",
            f"{row.seconds:.2f}" if row.seconds else "-",
        ]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def conclusions(found: Diagnosis) -> list[str]:
    """Sentences on the ceiling and on the steps, as far as the rows are there."""
    names, said = {row.name for row in found.rows}, []
    if {CLEAN, CEILING} <= names:
        verdict = "holds" if found.ceiling >= CEILING_BAR else "is missed"
        said.append(f"autoencoder: {100 * found.ceiling:.1f}% of what is read right stays right; 98% {verdict}")
    rows = found.by_steps()
    if len(rows) > 1:
        best, judged = choose_steps(rows)
        for choice in judged[1:]:
            said.append(
                f"{choice.steps} steps against {judged[0].steps}: ACC {choice.accuracy.format(1, 100)} points, "
                f"ST-LPIPS x {choice.lpips_ratio:.3f}: {'holds' if choice.holds else 'does not hold'}"
            )
        said.append(f"the fewest steps that hold: {best}")
    return said


def write(found: Diagnosis, folder: Path) -> None:
    """``diagnosis.json``, ``diagnosis.md`` and the sheet ``diagnosis.png``."""
    rows = found.by_steps()
    data: dict[str, object] = {"about": found.about, "conclusions": conclusions(found)}
    if rows:
        data["fewest_steps"] = choose_steps(rows)[0]
    data["rows"] = [asdict(row) for row in found.rows]
    text = "\n".join([table(found), "", *conclusions(found)]) + "\n"
    for name, content in (("diagnosis.json", json.dumps(data, indent=1, ensure_ascii=False)), ("diagnosis.md", text)):
        with replacing(folder / name) as path:
            path.write_text(content, encoding="utf-8")
    with replacing(folder / "diagnosis.png") as path:
        sheet(found).save(path, format="PNG")


def sheet(found: Diagnosis) -> Image.Image:
    """Some of the lines, spread over all: a block each, a row of the diagnosis below the other at half size."""
    count = len(next(iter(found.pictures.values())))
    places = sorted({round(place) for place in np.linspace(0, count - 1, min(SHEET_LINES, count))})
    names, height, label = list(found.pictures), 64, 150
    columns = 2 if len(places) > 1 else 1
    blocks = -(-len(places) // columns)
    page = Image.new("RGB", (columns * (label + 264), blocks * (len(names) * height + 8)), "white")
    draw = ImageDraw.Draw(page)
    for block, place in enumerate(places):
        left, top = block % columns * (label + 264), block // columns * (len(names) * height + 8)
        for row, name in enumerate(names):
            picture = Image.fromarray(found.pictures[name][place])
            page.paste(picture.resize((max(1, picture.width // 2), height)), (left + label, top + row * height))
            draw.text((left + 4, top + row * height + 24), name, fill="black")
    return page
