"""``python -m textsr.checkpoint import``: published files into one checkpoint."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from tests.textsr.test_published import SMALL, tensors
from textsr.alphabet import Alphabet
from textsr.checkpoint import (
    from_published,
    load_model,
    read_metadata,
    state,
    stated_alphabet,
    stated_preset,
    stated_symbols,
)
from textsr.checkpoint.__main__ import main
from textsr.checkpoint.importing import SOURCES, Import, import_published, read_symbols
from textsr.checkpoint.writer import write_tensors
from textsr.config import PAPER, SCHEDULES
from textsr.errors import BundleError, InputError
from textsr.graphs import Model

ROOT = Path(__file__).resolve().parents[2]
OWN = Alphabet.load().symbols[::-1]
"""Another alphabet: the shipped symbols backwards."""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The four published files in small."""
    unet = {f"module._orig_mod.{name}": tensor for name, tensor in tensors("resshift-unet").items()}
    contents: dict[str, Any] = {
        "resshift-unet": unet,
        "vqgan": {"state_dict": tensors("vqgan-f4"), "epoch": 7},
        "difftsr": {
            "IDM_Unet": {"out.weight": torch.zeros(2)},
            "TDM_Decoder": tensors("difftsr-tdm"),
            "MoM_module": {name: tensor.half() for name, tensor in tensors("difftsr-mom").items()},
            "VAE_model": {},
        },
        "transocr": {f"module.{name}": tensor for name, tensor in tensors("transocr").items()},
    }
    for name, content in contents.items():
        torch.save(content, tmp_path / f"{name}.pth")
    return {name: tmp_path / f"{name}.pth" for name in contents}


def part(whole: dict[str, Tensor], child: str) -> dict[str, Tensor]:
    start = f"{child}."
    return {name.removeprefix(start): value for name, value in whole.items() if name.startswith(start)}


def test_everything_arrives(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "alphabet.txt").write_text("\n".join(OWN), encoding="utf-8")
    letters = [chr(0x4E00 + number) for number in range(94)]
    (tmp_path / "letters.txt").write_text("".join(letters) + "\n", encoding="utf-8")
    wanted = Import(
        files=files,
        alphabet=tmp_path / "alphabet.txt",
        transocr_alphabet=tmp_path / "letters.txt",
        schedule=15,
        preprocessing="difftsr",
        preset=SMALL,
    )
    out = tmp_path / "out" / "paper.safetensors"
    metadata = import_published(wanted, out)
    assert read_metadata(out) == metadata
    whole = state(load_model(out, SMALL))
    children = {"unet": "resshift-unet", "vqgan": "vqgan-f4", "mom": "difftsr-mom", "tdm": "difftsr-tdm"}
    for child, kind in {**children, "transocr": "transocr"}.items():
        published, found = tensors(kind), part(whole, child)
        if child == "mom":
            published = {name: tensor.half().float() for name, tensor in published.items()}
        assert all(torch.equal(found[name], tensor) for name, tensor in published.items()), child
    new = part(whole, "unet.text_blocks")
    outputs = [name for name in new if ".proj_out." in name]
    assert len(outputs) == 2 * len({name.split(".")[0] for name in new})
    assert not any(bool(new[name].any()) for name in outputs)
    assert all(bool(value.any()) for name, value in new.items() if name not in outputs and name.endswith("weight"))
    assert json.loads(metadata["initialised"]) == ["unet.text_blocks"]
    sources = json.loads(metadata["sources"])
    for name, path in files.items():
        assert sources[name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert sources[name]["licence"] == SOURCES[name].licence
    assert "non-commercial" in metadata["licence"]
    assert stated_alphabet(metadata).symbols == OWN
    assert stated_symbols(metadata) == ("\u00ad", *letters)
    stated = stated_preset(SMALL, metadata)
    assert stated.schedule == SCHEDULES[15]
    assert stated.transocr is not None
    assert stated.transocr.preprocessing == "difftsr"
    assert [entry.name for entry in out.parent.iterdir()] == ["paper.safetensors"]


@pytest.mark.parametrize("only", SOURCES)
def test_what_is_left_out_is_initialised_and_said_so(files: dict[str, Path], tmp_path: Path, only: str) -> None:
    first, again, other = (tmp_path / f"{name}.safetensors" for name in ("first", "again", "other"))
    for out, seed in ((first, 1), (again, 1), (other, 2)):
        metadata = import_published(Import(files={only: files[only]}, preset=SMALL, seed=seed), out)
    children = {"resshift-unet": ["unet"], "vqgan": ["vqgan"], "difftsr": ["mom", "tdm"], "transocr": ["transocr"]}
    absent = {"unet", "vqgan", "mom", "tdm", "transocr"} - set(children[only])
    expected = sorted(absent | ({"unet.text_blocks"} if only == "resshift-unet" else set()))
    assert json.loads(metadata["initialised"]) == expected
    assert first.read_bytes() == again.read_bytes()
    one, two = state(load_model(first, SMALL)), state(load_model(other, SMALL))
    for child in children[only]:
        assert all(
            torch.equal(value, two[f"{child}.{name}"])
            for name, value in part(one, child).items()
            if not name.startswith("text_blocks.")
        )
    for child in absent:
        assert any(not torch.equal(value, two[f"{child}.{name}"]) for name, value in part(one, child).items())


def test_trained_cross_attention_is_kept(files: dict[str, Path], tmp_path: Path) -> None:
    trained = state(from_published("resshift-unet", tensors("resshift-unet"), SMALL))
    trained = {name: torch.randn_like(value) for name, value in trained.items()}
    torch.save(trained, files["resshift-unet"])
    out = tmp_path / "paper.safetensors"
    metadata = import_published(Import(files=files, preset=SMALL), out)
    assert json.loads(metadata["initialised"]) == []
    found = part(state(load_model(out, SMALL)), "unet")
    assert all(torch.equal(found[name], value) for name, value in trained.items())


def test_a_wrong_file_is_named_before_anything_is_written(files: dict[str, Path], tmp_path: Path) -> None:
    swapped = {**files, "vqgan": files["transocr"]}
    out = tmp_path / "out" / "paper.safetensors"
    with pytest.raises(BundleError, match=r"transocr\.pth as vqgan-f4 does not fit: missing"):
        import_published(Import(files=swapped, preset=SMALL), out)
    assert not out.parent.exists()


def test_a_pickle_that_wants_to_run_code_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",)

    torch.save({"state_dict": tensors("vqgan-f4"), "hook": Bomb()}, files["vqgan"])
    out = tmp_path / "paper.safetensors"
    with pytest.raises(BundleError, match=r"vqgan\.pth is refused: loading it would run builtins\.exec"):
        import_published(Import(files=files, preset=SMALL), out)
    assert not (tmp_path / "ran").exists()
    assert not out.exists()


def test_alphabets_of_another_size_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("abc", encoding="utf-8")
    out = tmp_path / "paper.safetensors"
    with pytest.raises(InputError, match=r"short\.txt holds 3 symbols, small paper needs 6735"):
        import_published(Import(files=files, alphabet=short, preset=SMALL), out)
    with pytest.raises(InputError, match=r"short\.txt holds 3 symbols, TransOCR needs 94, or 95"):
        import_published(Import(files=files, transocr_alphabet=short, preset=SMALL), out)
    short.write_text("a\nbc\n", encoding="utf-8")
    with pytest.raises(InputError, match="one symbol a line or all on one line, not 'bc'"):
        read_symbols(short)
    with pytest.raises(InputError, match="cannot be read"):
        read_symbols(tmp_path / "absent.txt")


@given(st.lists(st.characters(blacklist_characters="\n\r\ufeff", blacklist_categories=["Cs"]), min_size=2, unique=True))
def test_alphabets_are_read_from_lines_or_from_one(symbols: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "alphabet.txt"
        for text in ("\n".join(symbols), "\r\n".join(symbols) + "\r\n", "".join(symbols), "\ufeff" + "".join(symbols)):
            path.write_bytes(text.encode())
            assert read_symbols(path) == tuple(symbols)


def test_the_writer_writes_what_safetensors_reads(tmp_path: Path) -> None:
    values = {
        "b": torch.arange(6.0).view(2, 3).half(),
        "a": torch.tensor(3),
        "ä": torch.tensor([1, 2], dtype=torch.uint8),
    }
    values["empty"], values["c"] = torch.zeros(0, 4), torch.arange(8.0).view(2, 4).t()
    path = tmp_path / "new" / "x.safetensors"
    write_tensors(path, values, iter(values.items()), {"note": "文"})
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"note": "文"}
        assert {name: file.get_tensor(name).tolist() for name in values} == {k: v.tolist() for k, v in values.items()}
    with pytest.raises(ValueError, match="stands where a belongs"):
        write_tensors(path, {"a": torch.zeros(2)}, [("b", torch.zeros(2))], {})
    assert [entry.name for entry in path.parent.iterdir()] == ["x.safetensors"]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_tensors(tmp_path / "file" / "x", {}, [], {})


def test_the_command_refuses_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "paper.safetensors"
    assert main(["import", "--out", str(out)]) == 1
    assert "nothing to import: give at least one of --resshift-unet, --vqgan" in capsys.readouterr().err
    out.write_bytes(b"kept")
    assert main(["import", "--vqgan", str(out), "--out", str(out)]) == 1
    assert "exists already: use --overwrite" in capsys.readouterr().err
    assert main(["import", "--vqgan", str(out), "--out", str(out), "--overwrite"]) == 1
    assert "is one of the files to import" in capsys.readouterr().err
    assert out.read_bytes() == b"kept"
    assert main(["show", str(out)]) == 1
    assert "cannot be read" in capsys.readouterr().err


MEASURE = """
import sys
from tests.memory import peak
from textsr.checkpoint.__main__ import main
before = peak()
code = main(sys.argv[1:])
print(code, before, peak())
"""


@pytest.mark.slow
def test_paper_size_stays_below_twice_the_largest_file(tmp_path: Path) -> None:
    """The UNet and TransOCR at published sizes, the rest made new: the network without a file is held whole."""
    with torch.device("meta"):
        model = Model(PAPER)
    plain = {name: value for name, value in model.unet.state_dict().items() if not name.startswith("text_blocks.")}
    files = {"resshift-unet": plain, "vqgan": model.vqgan.state_dict(), "transocr": model.transocr.state_dict()}
    files["difftsr"] = {"TDM_Decoder": model.tdm.state_dict(), "MoM_module": model.mom.state_dict()}
    command = ["import", "--out", str(tmp_path / "paper.safetensors")]
    largest = 0
    for name, content in files.items():
        path = tmp_path / f"{name}.pth"
        torch.save(torch.utils._pytree.tree_map(lambda tensor: torch.ones(tensor.shape), content), path)
        largest = max(largest, path.stat().st_size)
        command += [f"--{name}", str(path)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    code, before, peak = map(int, done.stdout.split("\n")[-2].split())
    assert code == 0, done.stderr
    assert peak - before < 2 * largest, f"{(peak - before) >> 20} MiB for files up to {largest >> 20} MiB"
    assert json.loads(read_metadata(tmp_path / "paper.safetensors")["initialised"]) == ["unet.text_blocks"]
    assert replace(PAPER) == stated_preset(PAPER, read_metadata(tmp_path / "paper.safetensors"))
