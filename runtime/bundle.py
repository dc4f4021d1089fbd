"""A bundle: the folder a checkpoint becomes.

Owns: file names, and the checks that a folder is whole. Knows nothing of what is inside the model
files; opening them is the business of `vision.py` and `language.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from uservlm.runtime.durable import locked
from uservlm.runtime.errors import BundleError
from uservlm.runtime.manifest import MANIFEST_FILE, FileRecord, Manifest
from uservlm.runtime.verified import note_verified, stamp, was_verified
from uservlm.runtime.vision_figures import VISION_FILES, VisionKind

LANGUAGE_FILE = "language.gguf"
ADAPTER_FOLDER = "adapters"
PROOF_FILE = "proof.npz"
"""What the original said to the parity cases, so that a bundle can be proven again without it."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: a folder whose files are all there."""

    path: Path
    manifest: Manifest

    def vision(self, kind: VisionKind) -> Path:
        """The vision encoder with its projector, for one of those that `manifest.seeing` names."""
        return self.path / VISION_FILES[kind]

    @property
    def language(self) -> Path:
        """The language model."""
        return self.path / LANGUAGE_FILE


def open_bundle(path: str | Path, *, verify: bool = True, trust: bool = False) -> Bundle:
    """Read the manifest and check that every file it names is there and whole.

    Args:
        path: the bundle's folder.
        verify: also compare SHA-256 sums; sizes are always compared.
        trust: spare that where they were compared before and no file was touched since.

    Raises:
        BundleError: names the file and the way out.
    """
    folder = Path(path)
    with _reading(folder):
        return _open(folder, verify, trust)


def is_bundle(folder: Path) -> bool:
    """Tell whether a folder, which need not be there, holds a manifest.

    Raises:
        BundleError: the folder may not be read.
    """
    with _reading(folder):
        return (folder / MANIFEST_FILE).is_file()


def change_manifest(folder: Path, change: Callable[[Manifest], Manifest]) -> None:
    """Read a bundle's manifest, change it and write it, while nobody else does the same.

    Args:
        folder: the bundle's.
        change: gives the new manifest from the one that is there now; what it raises ends it.

    Raises:
        BundleError: it is no bundle.
        StoreError: another process holds the folder.
        OSError: the folder cannot be written; the old manifest stays.
    """
    with _reading(folder), locked(folder):
        manifest = change(open_bundle(folder, verify=False).manifest)
        replace_manifest(folder, manifest)


def replace_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a bundle's manifest instead of the one it has: old or new at every moment, never half.

    Raises:
        OSError: the folder cannot be written; the old manifest stays.
    """
    draft = folder / f".{MANIFEST_FILE}.draft"
    draft.write_text(manifest.to_json(), encoding="utf-8")
    draft.replace(folder / MANIFEST_FILE)


def record_file(path: Path) -> FileRecord:
    """Measure a finished file for the manifest."""
    return FileRecord(path.stat().st_size, sha256(path))


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_file(path: Path, record: FileRecord, verify: bool) -> None:
    if not path.is_file():
        raise BundleError(f"{path} is missing; export the bundle again")
    size = path.stat().st_size
    if size != record.bytes:
        raise BundleError(
            f"{path} has {size} bytes, the manifest says {record.bytes}: "
            "it is damaged; export the bundle again"
        )
    if verify and sha256(path) != record.sha256:
        raise BundleError(
            f"{path} does not have the SHA-256 of the manifest: "
            "it is damaged; export the bundle again"
        )


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Turn what the operating system says while a bundle is read into one sentence."""
    try:
        yield
    except OSError as error:
        path = error.filename or folder
        if isinstance(error, PermissionError):
            raise BundleError(
                f"{path} may not be read by this user: change its permissions (chmod) or its owner"
            ) from error
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error


def _open(folder: Path, verify: bool, trust: bool) -> Bundle:
    manifest_file = folder / MANIFEST_FILE
    if not manifest_file.is_file():
        raise BundleError(
            f"no bundle at {folder}: {MANIFEST_FILE} is missing; "
            "make one with `python converters/export.py`"
        )
    try:
        manifest = Manifest.from_json(manifest_file.read_text(encoding="utf-8"))
    except BundleError as error:
        raise BundleError(f"{folder}: {error}") from error
    except UnicodeDecodeError as error:
        raise BundleError(
            f"{manifest_file} is damaged: {error}; export the bundle again"
        ) from error
    listed = {LANGUAGE_FILE: LANGUAGE_FILE in manifest.files}
    listed[" or ".join(VISION_FILES.values())] = bool(manifest.seeing)
    for required, there in listed.items():
        if not there:
            raise BundleError(f"{manifest_file} does not list {required}; export the bundle again")
    for name, record in manifest.files.items():
        _check_file(folder / name, record, verify=False)
    found = stamp(folder, [MANIFEST_FILE, *manifest.files])
    if verify and not (trust and was_verified(folder, found)):
        for name, record in manifest.files.items():
            _check_file(folder / name, record, verify=True)
        note_verified(folder, found)
    return Bundle(folder, manifest)
