"""Where a checkpoint lies: a folder, the hub's cache, or the hub itself.

Owns: what `--model` and `--revision` may say, what is fetched and what it needs of the disk, and
following an adapter to the model it was trained on. Knows nothing of what the files hold.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from rich.filesize import decimal

from uservlm.converters.errors import CheckpointError
from uservlm.converters.files import read_json, reading

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

FILES = ("*.json", "*.safetensors", "tokenizer.model", "README.md")
"""What is fetched from a hub repository and what a bundle depends on: never pickled weights.
Files in sub-folders are left where they are: there trainers keep their intermediate states."""
CONFIG_FILE = "config.json"
ADAPTER_FILE = "adapter_config.json"
REPOSITORY = "models--"
"""How the cache's folder of a model's repository begins; `--` stands for `/` in its name."""
LOGIN = "log in with `hf auth login`"


@dataclass(frozen=True)
class Origin:
    """A folder with a checkpoint or an adapter in it, not opened yet."""

    folder: Path
    model: str
    """Hub id, or the folder's name."""
    revision: str | None
    """Commit of the hub repository, when there was one."""

    @property
    def is_adapter(self) -> bool:
        """Whether it holds a PEFT adapter and no checkpoint."""
        with reading(self.folder):
            holds = (self.folder / ADAPTER_FILE).is_file()
            return holds and not (self.folder / CONFIG_FILE).is_file()


@dataclass(frozen=True)
class Source:
    """A checkpoint and what was trained on top of it."""

    base: Origin
    adapters: tuple[Origin, ...]
    """In the order they are added."""


def resolve(model: str | Path, revision: str | None = None) -> Source:
    """Find a checkpoint, or an adapter together with the checkpoint its configuration names.

    Raises:
        CheckpointError: as for `locate`, or the adapter names no base that can be found.
    """
    origin = locate(model, revision)
    adapters: list[Origin] = []
    while origin.is_adapter:
        if any(origin.folder.resolve() == adapter.folder.resolve() for adapter in adapters):
            raise CheckpointError(f"the adapter {origin.model} is its own base: {_way_out(origin)}")
        adapters.insert(0, origin)
        origin = _base_of(origin)
    return Source(origin, tuple(adapters))


def locate(model: str | Path, revision: str | None = None, *, fetch: bool = True) -> Origin:
    """Find a checkpoint or an adapter.

    Args:
        model: a folder, the hub cache's folder of a repository or of one of its snapshots, or a
            hub id OWNER/NAME when there is no such folder.
        revision: branch, tag or commit; None takes `main`.
        fetch: False looks for a hub id in the cache only.

    Raises:
        CheckpointError: it is nowhere or may not be read, the hub does not give it, or the disk
            has no room.
    """
    folder = Path(model)
    with reading(folder):
        there, exists = folder.is_dir(), folder.exists()
    if there:
        return _local(folder, revision)
    if exists:
        raise CheckpointError(f"{model} is a file: give the folder it lies in")
    parts = str(model).split("/")
    if folder.is_absolute() or len(parts) != 2 or Path(parts[0]).is_dir():
        raise CheckpointError(
            f"no folder {model}: give a checkpoint's folder or OWNER/NAME on the hub"
        )
    return _fetched(str(model), revision) if fetch else _cached(str(model), revision)


def _local(folder: Path, revision: str | None) -> Origin:
    whole = folder.resolve()
    if whole.name.startswith(REPOSITORY) and (whole / "snapshots").is_dir():
        commit = _commit(whole, revision)
        return Origin(whole / "snapshots" / commit, _hub_id(whole), commit)
    if revision is not None:
        raise CheckpointError(
            f"--revision {revision} chooses in a hub repository, and {folder} is a folder: "
            "leave it out, or give OWNER/NAME"
        )
    if whole.parent.name == "snapshots" and whole.parent.parent.name.startswith(REPOSITORY):
        return Origin(folder, _hub_id(whole.parent.parent), whole.name)
    return Origin(folder, whole.name, None)


def _hub_id(repository: Path) -> str:
    return repository.name.removeprefix(REPOSITORY).replace("--", "/")


def _commit(repository: Path, revision: str | None) -> str:
    """Find the commit of a revision in the cache's folder of a repository."""
    wanted = revision or "main"
    reference = repository / "refs" / wanted
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else wanted
    held = sorted(path.name for path in (repository / "snapshots").iterdir())
    if commit in held:
        return commit
    if revision is None and len(held) == 1:
        return held[0]
    raise CheckpointError(
        f"{repository} holds no revision {wanted!r}: give --revision, one of "
        f"{', '.join(held) or 'none'}, or fetch it with --model {_hub_id(repository)}"
    )


def _base_of(adapter: Origin) -> Origin:
    """Find the model an adapter's configuration names, as peft does: a folder, else a hub id."""
    path = adapter.folder / ADAPTER_FILE
    settings = read_json(path)
    base, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not isinstance(base, str) or not base:
        raise CheckpointError(f"{path} names no base_model_name_or_path: {_way_out(adapter)}")
    for folder in (Path(base).expanduser(), adapter.folder / base):
        if folder.is_dir():
            return locate(folder.resolve())
    if base.startswith((".", "~")) or len(base.split("/")) != 2:
        raise CheckpointError(
            f"{path} names the base {base}, a folder that is not here: {_way_out(adapter)}"
        )
    try:
        return locate(base, revision or None)
    except CheckpointError as error:
        raise CheckpointError(
            f"the adapter {adapter.model} names the base {base}: {error}; or {_way_out(adapter)}"
        ) from error


def _way_out(adapter: Origin) -> str:
    return f"give the base with --model and the adapter with --adapter {adapter.folder}"


def _fetched(model: str, revision: str | None) -> Origin:
    """Fetch what is not in the cache yet; without a network the cache has to do."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        listed = HfApi().model_info(model, revision=revision, files_metadata=True).siblings or []
    except HFValidationError as error:
        raise CheckpointError(
            f"no folder {model}, and no name on the hub is written so: give OWNER/NAME"
        ) from error
    except HfHubHTTPError as error:
        raise CheckpointError(_refusal(model, revision, error)) from error
    except OSError as error:
        return _cached(model, revision, error)
    _check_worth(model, [file.rfilename for file in listed])
    _check_room(model, [file for file in listed if _is_wanted(file.rfilename)])
    try:
        with _resumable():
            folder = snapshot_download(
                model, revision=revision, allow_patterns=list(FILES), ignore_patterns=["*/*"]
            )
    except OSError as error:
        raise CheckpointError(
            f"the download of {model} broke off ({_first_line(error)}): "
            "start again, it goes on from there"
        ) from error
    return _local(Path(folder), None)


def _cached(model: str, revision: str | None, error: OSError | None = None) -> Origin:
    """Look in the cache only; `error` is why the hub was not asked."""
    from huggingface_hub import errors, snapshot_download

    try:
        folder = snapshot_download(model, revision=revision, local_files_only=True)
        return _local(Path(folder), None)
    except (errors.LocalEntryNotFoundError, errors.HFValidationError) as missing:
        at = f" at revision {revision}" if revision else ""
        why = f"no folder {model}, and the cache does not hold {model}{at}"
        if isinstance(error, errors.OfflineModeIsEnabled):
            way = "HF_HUB_OFFLINE is set: unset it once, or give a folder"
        elif error is not None:
            way = f"the hub cannot be reached ({_first_line(error)}): mend that, or give a folder"
        else:
            way = f"fetch it with `hf download {model}`, or give a folder"
        raise CheckpointError(f"{why}; {way}") from missing


def _refusal(model: str, revision: str | None, error: OSError) -> str:
    """Say what the hub's answer means and what to do."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return f"{model} is gated: accept its licence on its page on the hub, then {LOGIN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{model} has no revision {revision!r}: give a branch, a tag or a commit of it"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403, 404):
        return (
            f"no folder {model}, and the hub has no {model} or does not show it to you: "
            f"check the name, or {LOGIN} if it is private"
        )
    return f"the hub answers {status} to {model}: try again later, or give a folder"


def _is_wanted(name: str) -> bool:
    return "/" not in name and any(fnmatch(name, pattern) for pattern in FILES)


def _check_worth(model: str, listed: list[str]) -> None:
    """Refuse before anything is fetched what could not be read afterwards."""
    wanted = [name for name in listed if _is_wanted(name)]
    if not any(name.endswith(".safetensors") for name in wanted):
        other = [name for name in listed if name.endswith((".bin", ".pt", ".pth", ".npz", ".gguf"))]
        held = f", only {', '.join(other[:4])}" if other else ""
        raise CheckpointError(
            f"{model} holds no *.safetensors at its top{held}: load it with transformers and "
            "save it with save_pretrained(…, safe_serialization=True)"
        )
    if not {CONFIG_FILE, ADAPTER_FILE} & set(wanted):
        raise CheckpointError(
            f"{model} holds neither {CONFIG_FILE} nor {ADAPTER_FILE} at its top: "
            "give a repository in Hugging Face layout"
        )


def _check_room(model: str, files: list[RepoSibling]) -> None:
    """Compare what is still to come with what is free where the cache lies."""
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    cache = Path(HF_HUB_CACHE)
    blobs = cache / repo_folder_name(repo_id=model, repo_type="model") / "blobs"
    missing = sum(_still_to_come(file, blobs) for file in files)
    there = next(path for path in (cache, *cache.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if missing > free:
        raise CheckpointError(
            f"{model} needs {decimal(missing)} more in {cache}, where {decimal(free)} are free: "
            "make room, or name another disk with HF_HOME"
        )


def _still_to_come(file: RepoSibling, blobs: Path) -> int:
    """Count a file's bytes that the cache lacks; it names files by SHA-256 or git's object id."""
    blob = str(file.lfs.sha256 if file.lfs else file.blob_id)
    held = (path for path in (blobs / blob, blobs / f"{blob}.incomplete") if path.is_file())
    return max(0, (file.size or 0) - sum(path.stat().st_size for path in held))


@contextmanager
def _resumable() -> Iterator[None]:
    """Fetch over plain HTTP: hf_xet starts an interrupted file anew, HTTP goes on within it.

    Whoever sets HF_HUB_DISABLE_XET in the environment decides otherwise.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = before or "HF_HUB_DISABLE_XET" not in os.environ
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


def _first_line(error: OSError) -> str:
    lines = str(error).strip().splitlines()
    return shorten(lines[0], 160, placeholder=" …") if lines else type(error).__name__
