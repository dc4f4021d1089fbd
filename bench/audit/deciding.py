"""What decides an answer of an audit, by name: another value, and it may be another answer.

Owns: the list. Answers that were heard under one list are never taken for another's (`journal.py`).
How many threads compute is not in it, as little as for saved KV cells (`runtime/fit.py`): what is
compared with each other was said to one person, in one run. Nor are limits, words that count and
the page: what was heard can be judged anew.
"""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import PIL

from uservlm import runtime
from uservlm.bench.audit import measure, probes, world
from uservlm.models import drawing, faces, pen, people, pictures, toml
from uservlm.runtime.audited import digest
from uservlm.runtime.settings import read_settings, this_place
from uservlm.runtime.verified import stamp

if TYPE_CHECKING:
    from uservlm.bench.audit.journal import Key
    from uservlm.bench.audit.probes import Probes
    from uservlm.runtime.bundle import Bundle

ASKING: Final = (measure, probes, world, drawing, faces, pen, people, pictures, toml)
"""Modules that draw people and read and choose their questions; what answers is the runtime."""


def deciding(
    bundle: Bundle,
    adapter: str,
    attention: str,
    vision: str,
    asked: Probes,
    seed: int,
    verified: bool,
) -> Key:
    """Name everything that decides what a drawn person is answered.

    Args:
        bundle: opened.
        adapter: one that it keeps apart, or NO_ADAPTER.
        attention: exact or resident.
        vision: onnx or ggml.
        asked: the questions.
        seed: of the people.
        verified: whether the files are those of the manifest; otherwise their times count too.
    """
    place, manifest = this_place(bundle), bundle.manifest
    key = {
        "weights, prompt and pixels": digest(manifest, adapter),
        "files": "verified" if verified else _hash(stamp(bundle.path, manifest.files)),
        "adapter": adapter,
        "attention": attention,
        "vision encoder": vision,
        "questions": asked.sha256,
        "seed": str(seed),
        "uservlm": _sources(),
        "llama.cpp": place.llama,
        "settings": read_settings(bundle).arithmetic,
        "processor": place.processor,
        "drawing": f"numpy {np.__version__}, OpenCV {cv2.__version__}, Pillow {PIL.__version__}",
    }
    return {**key, "onnxruntime": metadata.version("onnxruntime")} if vision == "onnx" else key


def _sources() -> str:
    """Hash the code that draws, asks and answers."""
    found = hashlib.sha256()
    answering = sorted(path for folder in runtime.__path__ for path in Path(folder).glob("*.py"))
    for path in (*answering, *(Path(module.__file__) for module in ASKING if module.__file__)):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def _hash(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
