"""The peer OpenVINO GenAI: its environment, its model and its side, the first two made if missing.

Owns: where the model is kept and how it comes about. What runs in the environment is
`openvino_model.py` and `side_openvino.py`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from uservlm.bench.openvino_model import RECIPE
from uservlm.bench.peer_environment import PeerError, find_python
from uservlm.bench.side import LAST_LINES, Side, SideError
from uservlm.runtime.verified import cache_folder

NAME: Final = "openvino"
WORDS: Final = (
    "OpenVINO GenAI 2026.4, Qwen2.5-VL 3B (3.75 G random weights) as optimum-intel 2.2 exports it "
    "with --weight-format int4: language in 4 bits in groups of 128, embeddings, head and vision "
    "in 8; a picture of 448 x 448 pixels is 256 tokens"
)
"""What it is, for people."""
MODEL: Final = f"qwen2.5-vl-3b-int4-{RECIPE}"
SPACE_BYTES: Final = 20 * 10**9
"""On disk while the model is made; 3 GB of them stay."""
QUIET: Final = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def open_side(threads: int, progress: Callable[[str], None]) -> Side:
    """Start the peer; its environment (2 GB) and its model are made first where they are missing.

    Args:
        threads: it computes with.
        progress: is told what takes long.

    Raises:
        PeerError: it cannot run here; the message is one sentence.
    """
    python = find_python(NAME, progress)
    model = find_model(python, progress)
    arguments = ("uservlm.bench.side_openvino", str(model), str(threads))
    try:
        return Side(*arguments, python=str(python), environment=_environment())
    except SideError as error:
        raise PeerError(f"{NAME} does not start: {error}") from error


def find_model(python: Path, progress: Callable[[str], None]) -> Path:
    """Give the folder of the model, which is made if it is not there.

    Args:
        python: of the peer's environment.
        progress: is told what takes long.

    Raises:
        PeerError: it cannot be made; the message is one sentence.
    """
    folder = cache_folder() / "peers" / MODEL
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{MODEL}.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if not folder.is_dir():
                _check_room(folder.parent)
                _make(python, folder, progress)
    except OSError as error:
        raise PeerError(f"{NAME} has no model: {error}") from error
    return folder


def _make(python: Path, folder: Path, progress: Callable[[str], None]) -> None:
    command = [str(python), "-m", "uservlm.bench.openvino_model", str(folder)]
    with TemporaryFile("w+b") as errors:
        maker = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=_environment()
        )
        assert maker.stdout is not None
        with maker.stdout:
            for line in maker.stdout:
                progress(f"{NAME}, {MODEL}: {line.strip()}")
        if code := maker.wait():
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").strip().splitlines()
            last = " | ".join(said[-LAST_LINES:])
            raise PeerError(f"{NAME}'s model could not be made (code {code}): {last}")


def _check_room(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < SPACE_BYTES:
        raise PeerError(
            f"{NAME}'s model needs {SPACE_BYTES / 1e9:.0f} GB while it is made, "
            f"but {folder} has {free / 1e9:.1f} GB free"
        )


def _environment() -> dict[str, str]:
    """Ours, without what would reach for a network or for packages of another Python."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**kept, **QUIET}
