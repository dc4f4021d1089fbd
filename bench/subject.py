"""What is measured: the pocket, a published shape with random weights, or a bundle of one's own.

Owns: where each lies, and making what is missing, once, in the cache folder. Checkpoints and
bundles are made by the project's own commands.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uservlm.bench.results import Subject
from uservlm.runtime.bundle import Bundle, open_bundle
from uservlm.runtime.errors import RequestError, UserVLMError
from uservlm.runtime.verified import cache_folder

if TYPE_CHECKING:
    from uservlm.models.shapes import Architecture

ROOT: Final = Path(__file__).resolve().parent.parent
POCKET: Final = "pocket"
SHAPES: Final = {"user-vlm-3b": "paligemma2-3b-448", "user-vlm-10b": "paligemma2-10b-448"}
"""Names of this command's for shapes of the catalog, which it takes by their own names too."""
GROWN: Final = (224, 448, 896)
"""Pixels of a picture's side: PaliGemma 2's three."""
QUANT: Final = "q4_0"
"""Of random weights: the quantisation that is computed fastest."""
CASES: Final = 1
"""On which a random bundle is compared with its original; the export page has more."""
Say = Callable[[str], None]


class SubjectError(UserVLMError):
    """What was to be measured could not be made; the message says what to do."""


@dataclass(frozen=True)
class Found:
    """A bundle, and what it was made from where that is known."""

    bundle: Bundle
    subject: Subject
    checkpoint: Path | None
    shape: str | None
    """Name in the catalog, `pocket`, or None where it is like none of them."""

    @property
    def architecture(self) -> Architecture | None:
        """The sizes that FLOPs follow from, where they are known."""
        from uservlm.models.architecture import pocket_shape
        from uservlm.models.shapes import find

        if self.shape is None:
            return None
        return pocket_shape() if self.shape == POCKET else find(self.shape).architecture


def pocket(say: Say) -> Found:
    """Give the pocket, exported as `make demo` does it."""
    folder, checkpoint = ROOT / "bundles" / POCKET, ROOT / "models" / POCKET
    if not folder.exists():
        say("exporting the pocket model")
        _run("converters.export", "--model", str(checkpoint), "--out", str(folder))
    return _found(folder, POCKET, "toy", checkpoint, POCKET)


def shaped(name: str, say: Say) -> Found:
    """Give a bundle of a published shape, with random weights.

    Raises:
        RequestError: no such shape.
        SubjectError: it could not be made.
    """
    shape = _catalog_name(name)
    checkpoint, folder = _random(shape, say), _place(shape) / "bundle"
    _export(checkpoint, folder, say)
    return _found(folder, name, "random", checkpoint, shape)


def given(folder: Path, checkpoint: Path | None) -> Found:
    """Give somebody's own bundle.

    Raises:
        BundleError: it cannot be opened.
        RequestError: the checkpoint is no checkpoint's folder.
    """
    from uservlm.models.shapes import catalog

    if checkpoint is not None and not (checkpoint / "config.json").is_file():
        raise RequestError(f"{checkpoint} is no checkpoint: there is no config.json in it")

    sizes = open_bundle(folder, verify=False).manifest.architecture
    alike = (
        name
        for name, entry in catalog().items()
        if (entry.architecture.image_tokens, entry.architecture.width, entry.architecture.layers)
        == (sizes.image_tokens, sizes.width, sizes.layers)
    )
    return _found(folder, folder.resolve().name, "given", checkpoint, next(alike, None))


def grown(found: Found, say: Say) -> dict[int, Path]:
    """Give bundles of the same shape for the sizes of GROWN, with random weights.

    Returns:
        Folders by pixels; none for a bundle of one's own, of which no other size can be made.
    """
    if found.shape is None or found.subject.weights == "given":
        return {}
    if found.shape == POCKET:
        return {side: _grown_pocket(side, say) for side in GROWN}
    stem = found.shape.rpartition("-")[0]
    folders = {}
    for side in GROWN:
        shape = f"{stem}-{side}"
        folder = _place(shape) / "bundle"
        if not folder.exists():
            checkpoint = _random(shape, say)
            _export(checkpoint, folder, say)
            if shape != found.shape:
                shutil.rmtree(checkpoint)  # 6 GB that nothing needs again
        folders[side] = folder
    return folders


def _catalog_name(name: str) -> str:
    from uservlm.models.shapes import catalog

    shape = SHAPES.get(name, name)
    if shape not in catalog():
        known = [*SHAPES, *(one for one in catalog() if "/" not in one)]
        raise RequestError(f"no shape is called {name!r}: choose one of {', '.join(known)}")
    return shape


def _place(shape: str) -> Path:
    return cache_folder() / "bench" / shape


def _random(shape: str, say: Say) -> Path:
    """Give a random checkpoint of a catalog shape; config.json is what a whole one has last."""
    folder = _place(shape) / "checkpoint"
    if not (folder / "config.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        say(f"making a random checkpoint of {shape}")
        _run("models.generate", shape, str(folder))
    return folder


def _grown_pocket(side: int, say: Say) -> Path:
    """Give a bundle of the pocket's widths for another size of pictures."""
    from uservlm.models.architecture import pocket_shape
    from uservlm.models.random_checkpoint import write_random_checkpoint

    place = _place(f"{POCKET}-{side}")
    folder, checkpoint = place / "bundle", place / "checkpoint"
    if not folder.exists():
        say(f"making the pocket's shape for {side} px, with random weights")
        shutil.rmtree(checkpoint, ignore_errors=True)
        write_random_checkpoint(checkpoint, ROOT / "models" / POCKET, pocket_shape(side))
        _export(checkpoint, folder, say)
        shutil.rmtree(checkpoint)
    return folder


def _export(checkpoint: Path, folder: Path, say: Say) -> None:
    if folder.exists():
        return
    say(f"exporting {checkpoint.parent.name}")
    options = ("--quant", QUANT, "--vision", "int8", "--cases", str(CASES))
    _run("converters.export", "--model", str(checkpoint), "--out", str(folder), *options)


def _run(module: str, *arguments: str) -> None:
    """Run one of the project's commands; what it says is seen."""
    command = [sys.executable, "-m", f"uservlm.{module}", *arguments]
    done = subprocess.run(command, stdout=sys.stderr)
    if done.returncode:
        raise SubjectError(f"uservlm.{module} ended with code {done.returncode}; see above")


def _found(
    folder: Path, name: str, weights: str, checkpoint: Path | None, shape: str | None
) -> Found:
    bundle = open_bundle(folder, verify=False)
    manifest = bundle.manifest
    subject = Subject(
        name=name,
        shape=shape or f"{manifest.architecture.layers} layers of {manifest.architecture.width}",
        weights=weights,
        language=manifest.precision.language,
        vision=manifest.precision.vision,
        image_tokens=manifest.architecture.image_tokens,
        bundle_bytes={file: record.bytes for file, record in manifest.files.items()},
    )
    return Found(bundle, subject, checkpoint, shape)
