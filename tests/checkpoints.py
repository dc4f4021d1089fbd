"""Changing stored checkpoints, as tests and mishaps do."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from safetensors.torch import load_file, save_file

from uservlm.converters import names

if TYPE_CHECKING:
    import torch

Tensors = dict[str, "torch.Tensor"]
INDEX = "model.safetensors.index.json"


def canonical_tensors(folder: Path) -> Tensors:
    stored = load_file(folder / "model.safetensors")
    return {str(names.canonical(key)): tensor for key, tensor in stored.items()}


def rewrite(folder: Path, change: Callable[[Tensors], None]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)


def change_config(folder: Path, part: str | None, **values: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    (config[part] if part else config).update(values)
    path.write_text(json.dumps(config))


def split(folder: Path) -> dict[str, list[str]]:
    """Store a checkpoint in two shards with an index; gives the keys of each."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    keys = sorted(tensors)
    path.unlink()
    shards = {
        "model-00001-of-00002.safetensors": keys[::2],
        "model-00002-of-00002.safetensors": keys[1::2],
    }
    for file, part in shards.items():
        save_file({key: tensors[key] for key in part}, folder / file)
    write_index(folder, {key: file for file, part in shards.items() for key in part})
    return shards


def write_index(folder: Path, weight_map: object) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@contextmanager
def as_another_user(folder: Path) -> Iterator[Path]:
    """Lend a copy of a checkpoint, and not be root meanwhile, who may read everything."""
    with TemporaryDirectory() as place:
        copied = shutil.copytree(folder, Path(place) / "checkpoint")
        Path(place).chmod(0o755)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield copied
        finally:
            os.seteuid(user)
