"""Reading the files of a checkpoint: what cannot be read is refused in one sentence.

Owns: what the operating system's refusals mean, and telling a Git LFS pointer from the file it
stands for. Knows nothing of what the files hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from uservlm.converters.errors import CheckpointError

POINTER = b"version https://git-lfs.github.com/spec/"
"""How the text begins that Git LFS leaves in place of a large file
(git-lfs, docs/spec.md)."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the operating system says while `path` is read into one sentence.

    Raises:
        CheckpointError: no permission, missing, or not readable.
    """
    try:
        yield
    except PermissionError as error:
        raise CheckpointError(
            f"{path} may not be read by this user: change its permissions (chmod) or its owner"
        ) from error
    except FileNotFoundError as error:
        if path.is_symlink():
            raise CheckpointError(
                f"{path} is a link to a file that is not there: copy what it leads to as well "
                "(cp -rL), or fetch it again"
            ) from error
        raise CheckpointError(f"{path} is missing: give a folder in Hugging Face layout") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


def is_there(path: Path) -> bool:
    """Tell whether there is such a file; a link that leads nowhere is: reading it says so.

    Raises:
        CheckpointError: its folder may not be read.
    """
    with reading(path):
        return path.is_file() or path.is_symlink()


def refuse_pointer(path: Path) -> None:
    """Refuse a Git LFS pointer.

    Raises:
        CheckpointError: it is one, or it cannot be read.
    """
    with reading(path), path.open("rb") as file:
        start = file.read(len(POINTER))
    if start == POINTER:
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the file itself: run `git lfs pull` in its folder"
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: missing, not readable, not JSON, or not an object.
    """
    with reading(path):
        text = path.read_bytes()
    if text.startswith(POINTER):
        refuse_pointer(path)
    try:
        data = json.loads(text.decode("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}; fetch it again") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is damaged: it holds no JSON object; fetch it again")
    return data
