"""Reading weight files: block by block, and a sentence for whatever else people have there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from checkpoints import (  # noqa: E402
    INDEX,
    Tensors,
    as_another_user,
    canonical_tensors,
    rewrite,
    split,
    write_index,
)
from safetensors.torch import load_file, save_file  # noqa: E402

from uservlm.converters import names, shards  # noqa: E402
from uservlm.converters.checkpoint import open_checkpoint  # noqa: E402
from uservlm.converters.errors import CheckpointError  # noqa: E402


@pytest.fixture
def folder(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(make_checkpoint("small"), tmp_path / "small")


def test_shards_are_read_as_one(folder: Path) -> None:
    wanted = canonical_tensors(folder)
    split(folder)
    checkpoint = open_checkpoint(folder)
    assert all(torch.equal(checkpoint.read(name), wanted[name].float()) for name in wanted)


def test_rows_are_read_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = canonical_tensors(folder)[names.EMBEDDINGS].float()
    checkpoint = open_checkpoint(folder)
    monkeypatch.setattr(shards, "BLOCK", 7 * table.shape[1])
    assert torch.equal(checkpoint.read(names.EMBEDDINGS), table)
    assert torch.equal(checkpoint.read_rows(names.EMBEDDINGS, 5, 40), table[5:40])
    assert torch.equal(checkpoint.read_rows(names.EMBEDDINGS, 630, 10_000), table[630:])


def test_numbers_may_be_of_several_kinds(folder: Path) -> None:
    kinds = (torch.bfloat16, torch.float16, torch.float32)

    def change(tensors: Tensors) -> None:
        for index, key in enumerate(sorted(tensors)):
            tensors[key] = tensors[key].to(kinds[index % 3])

    rewrite(folder, change)
    wanted = canonical_tensors(folder)
    checkpoint = open_checkpoint(folder)
    assert {wanted[name].dtype for name in wanted} == set(kinds)
    assert all(torch.equal(checkpoint.read(name), wanted[name].float()) for name in wanted)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the peak")
def test_reading_a_file_does_not_fill_the_memory(tmp_path: Path) -> None:
    """Pages of a memory map count as the process's own until the map is gone.

    The peak is VmHWM: ru_maxrss of a new process begins with what its parent had.
    """
    size, count = 1 << 25, 8
    path = tmp_path / "model.safetensors"
    save_file(
        {f"t{i}": torch.ones(1 << 13, 1 << 11, dtype=torch.bfloat16) for i in range(count)}, path
    )
    script = (
        "import re, sys; from pathlib import Path; import torch\n"
        "from uservlm.converters.shards import list_file, read\n"
        "def peak():\n"
        "    return int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "torch.set_num_threads(1); stored = list_file(Path(sys.argv[1]))\n"
        "read(stored[0].place)\n"
        "before = peak()\n"
        "for tensor in stored: read(tensor.place)\n"
        "print(peak() - before)"
    )
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert path.stat().st_size > count * size
    assert int(done.stdout) * 1024 < 2 * size, "of eight tensors no more than two are held"


def swap_two(shards: dict[str, list[str]]) -> dict[str, str]:
    first, second = shards
    moved = {shards[first][0]: second}
    return {key: file for file, keys in shards.items() for key in keys} | moved


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("lost", r"lacks model-00002-of-00002\.safetensors, which .*index\.json names: fetch"),
        (
            "moved",
            r"says .* is in model-00002-of.* and it is in model-00001-of.*: index and shards",
        ),
        ("unlisted", r"says .* is in no file, and it is in model-00001-of.* fetch both again"),
        ("absent", r"says gone\.weight is in model-00002-of.* and it is in no file"),
        ("doubled", r"is in model-00001-of-.* and model-00002-of-.*: index and shards"),
        ("outside", r"is damaged: '\.\./away\.safetensors' is no file of its folder"),
        ("mapless", r"holds no weight_map; fetch it again"),
        (
            "stray",
            r"holds model-00003-of-00003\.safetensors beside the weights of .*index\.json: two",
        ),
        ("single", r"holds model\.safetensors beside the weights of .*index\.json: two saves"),
        (
            "indexless",
            r"holds model-00001-of-00002\.safetensors, .*, but no .*index\.json.* fetch it",
        ),
    ],
)
def test_an_index_that_disagrees_is_refused(folder: Path, damage: str, message: str) -> None:
    shards = split(folder)
    first, second = shards
    listed = {key: file for file, keys in shards.items() for key in keys}
    if damage == "lost":
        (folder / second).unlink()
    elif damage == "moved":
        write_index(folder, swap_two(shards))
    elif damage == "unlisted":
        write_index(folder, {key: file for key, file in listed.items() if key != shards[first][0]})
    elif damage == "absent":
        write_index(folder, listed | {"gone.weight": second})
    elif damage == "doubled":
        copied = load_file(folder / first)[shards[first][0]]
        save_file(load_file(folder / second) | {shards[first][0]: copied}, folder / second)
    elif damage == "outside":
        write_index(folder, listed | {"x": "../away.safetensors"})
    elif damage == "mapless":
        (folder / INDEX).write_text("{}")
    elif damage == "indexless":
        (folder / INDEX).unlink()
    else:
        name = "model.safetensors" if damage == "single" else "model-00003-of-00003.safetensors"
        shutil.copy(folder / first, folder / name)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


def test_values_that_are_no_numbers_stop_with_the_name(folder: Path) -> None:
    def change(tensors: Tensors) -> None:
        key = next(key for key in tensors if key.endswith("projector.linear.bias"))
        tensors[key][3] = float("nan")

    rewrite(folder, change)
    with pytest.raises(CheckpointError, match="linear.bias .* NaN"):
        open_checkpoint(folder).read("multi_modal_projector.linear.bias")


def header(tensors: object) -> bytes:
    text = json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: fetch it again"),
        (b"\x08", "is damaged: it does not begin as safetensors do"),
        (b"\xff" * 100, "is damaged: it does not begin as safetensors do"),
        (
            (9).to_bytes(8, "little") + b"not json.",
            "is damaged: it does not begin as safetensors do",
        ),
        (b"PK\x03\x04" + b"\0" * 99, "is a pickle, not safetensors: .*safe_serialization=True"),
        (b"\x80\x02}q\x00.", "is a pickle, not safetensors"),
        (
            header({"x": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}) + b"1234",
            r"is cut off: it has 74 of 106 bytes; fetch it again",
        ),
        (
            header({"x": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}) + b"1234",
            "is damaged: .*; fetch it again",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 4990\n",
            "is a Git LFS pointer, not the file itself: run `git lfs pull`",
        ),
    ],
)
def test_what_is_no_safetensors_is_named(folder: Path, content: bytes, message: str) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"model\.safetensors {message}"):
        open_checkpoint(folder)


def test_a_file_cut_off_says_how_much_is_there(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    message = f"is cut off: it has {len(whole) - 1000:,} of {len(whole):,} bytes"
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", INDEX])
def test_a_pointer_instead_of_any_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 4\n"
    )
    with pytest.raises(CheckpointError, match=f"{name} is a Git LFS pointer.*`git lfs pull`"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["pytorch_model.bin"], r"holds pytorch_model\.bin, which is not read"),
        (["paligemma2-3b-pt-448.b16.npz"], r"holds paligemma2-3b-pt-448\.b16\.npz, which is not"),
        (["model.pt", "training_args.bin"], r"holds model\.pt, which is .*safe_serialization=True"),
        (["training_args.bin"], "holds neither model.safetensors nor"),
        (["model.fp16.safetensors"], r"holds model\.fp16\.safetensors, but no"),
    ],
)
def test_weights_that_are_not_read_are_named(folder: Path, files: list[str], message: str) -> None:
    (folder / "model.safetensors").unlink()
    for name in files:
        (folder / name).write_bytes(b"\x80\x02")
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


@pytest.fixture
def unprivileged(folder: Path) -> Iterator[Path]:
    """The checkpoint where another user finds it; root may read everything."""
    open_checkpoint(folder)  # what is imported when needed is imported while it may be
    with as_another_user(folder) as copied:
        yield copied


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "."])
def test_what_may_not_be_read_is_one_sentence(unprivileged: Path, name: str) -> None:
    user = os.geteuid()
    os.seteuid(os.getuid())
    (unprivileged / name).chmod(0)
    os.seteuid(user)
    with pytest.raises(CheckpointError, match="may not be read by this user: change its perm"):
        open_checkpoint(unprivileged)


def test_a_file_that_vanishes_is_one_sentence(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        checkpoint.read(names.EMBEDDINGS)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_wrong_value_in_many_is_found(tmp_path: Path, kind: torch.dtype, value: float) -> None:
    path = tmp_path / "model.safetensors"
    values = torch.randn(300, 50).to(kind)
    values[299, 49] = value
    save_file({"x": values, "large": torch.full((300, 50), 3e38)}, path)
    with pytest.raises(CheckpointError, match=r"x in model\.safetensors holds NaN or infinity: "):
        shards.read(shards.Place(path, "x"))
    assert len(shards.read(shards.Place(path, "x"), 0, 299)) == 299
    assert shards.read(shards.Place(path, "large")).isfinite().all(), "only their sum is not"
