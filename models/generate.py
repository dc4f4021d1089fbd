"""`python -m uservlm.models.generate SHAPE FOLDER`: a random checkpoint of a published size.

Owns: the command. The result opens as the real model does and says nothing sensible: it is for
trying a converter or a machine before anything is downloaded.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from uservlm.models.lookalike import write_lookalike
from uservlm.models.random_checkpoint import (
    NAMINGS,
    SHARD_BYTES,
    plan_weights,
    write_random_checkpoint,
)
from uservlm.models.random_tensors import Outliers
from uservlm.models.shapes import catalog, find
from uservlm.models.shards import KINDS

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

TOKENIZER_BYTES = 60 * 10**6
"""Room for the tokenizer's files, generously."""


def generate(
    name: str,
    folder: Path,
    seed: int = 0,
    dtype: str = "bfloat16",
    naming: str = "4.4x",
    shard_bytes: int = SHARD_BYTES,
    planted: tuple[int, ...] = (),
    tokenizer: Path | None = None,
) -> Path:
    """Write the checkpoint of a catalog name and return its folder, with progress on stderr.

    Args:
        name: of the catalog.
        folder: new or empty.
        seed: fixes every weight.
        dtype: of the weights.
        naming: a key of NAMINGS.
        shard_bytes: most a file may hold.
        planted: SigLIP layers spoilt for plain int8, counted from 0.
        tokenizer: folder made by an earlier run; None: make one.

    Raises:
        ValueError: something of the above is not so, or the disk is too small.
    """
    shape = find(name).architecture
    outside = [layer for layer in planted if not 0 <= layer < shape.vision_layers]
    if outside:
        raise ValueError(f"no vision layer {outside[0]}: there are {shape.vision_layers}, from 0")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty: give a new folder")
    layout, _ = plan_weights(shape.shape(shape.rows_for(0)), dtype, naming, shard_bytes)
    _check_room(folder, layout.file_bytes + TOKENIZER_BYTES)
    with tempfile.TemporaryDirectory() as made:
        words = tokenizer or write_lookalike(Path(made))
        with _bar(name, layout.data_bytes) as (progress, task):
            return write_random_checkpoint(
                folder,
                words,
                shape,
                seed,
                dtype,
                naming,
                Outliers(planted=planted),
                shard_bytes,
                lambda count: progress.advance(task, count),
            )


def main() -> int:
    """Run the command."""
    options = _parser().parse_args()
    if options.list:
        _print_catalog()
        return 0
    if options.shape is None or options.folder is None:
        print("give SHAPE and FOLDER, or --list", file=sys.stderr)
        return 2
    try:
        folder = generate(
            options.shape,
            options.folder,
            options.seed,
            options.dtype,
            options.naming,
            int(options.shard_gb * 1e9),
            options.planted,
            options.tokenizer,
        )
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m uservlm.models.generate", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("shape", nargs="?", help="name of the catalog, as paligemma2-3b-448")
    parser.add_argument("folder", nargs="?", type=Path, help="new or empty")
    parser.add_argument("--list", action="store_true", help="print the catalog")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=tuple(KINDS), default="bfloat16")
    parser.add_argument("--naming", choices=tuple(NAMINGS), default="4.4x", help="of transformers")
    parser.add_argument("--shard-gb", type=float, default=SHARD_BYTES / 1e9, metavar="GB")
    parser.add_argument(
        "--planted",
        type=_layers,
        default=(),
        metavar="LAYER,…",
        help="vision layers in which outliers spoil plain int8",
    )
    parser.add_argument(
        "--tokenizer", type=Path, metavar="DIR", help="copy it from here; default: make one"
    )
    return parser


def _layers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def _print_catalog() -> None:
    for entry in catalog().values():
        made = f"  {'LoRA over' if entry.adapter else 'from'} {entry.made_from}"
        print(
            f"{entry.name:34}{entry.weights / 1e9:7.2f} G weights{entry.weights * 2 / 1e9:8.2f} GB"
            f" in bfloat16{made if entry.made_from else ''}"
        )


def _check_room(folder: Path, needed: int) -> None:
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise ValueError(
            f"{folder} needs {needed / 1e9:.1f} GB, but {there} has {free / 1e9:.1f} GB free"
        )


@contextmanager
def _bar(name: str, total: int) -> Iterator[tuple[Progress, TaskID]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        yield progress, progress.add_task(name, total=total)


if __name__ == "__main__":
    sys.exit(main())
