"""What saved parts of a person must have been made by to be used again: pure text.

Owns: the names by which a saved embedding or KV block is recognised as this bundle's. Knows nothing
of files. A name that differs in any part is another name: what was saved is then computed anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import blake2b

from uservlm.runtime.bundle import LANGUAGE_FILE
from uservlm.runtime.manifest import Manifest
from uservlm.runtime.residents import Owner


@dataclass(frozen=True)
class Fit:
    """What this process computes with."""

    vision: str
    """What makes user embeddings: `Manifest.sees_as`."""
    language: str
    """SHA-256 of the language model."""
    adapters: dict[str, str]
    """Adapter -> SHA-256 of its file."""
    template: str
    """Of the prompt: its head stands in every user's block."""
    build: str
    """llama.cpp's own description of itself: version, and what it was compiled for."""
    settings: str
    """Whatever changes how a KV cell is made or stored."""

    @property
    def embedding(self) -> str:
        """Name of what made a user embedding."""
        return self.vision

    def state(self, owner: Owner) -> str:
        """Name of what made a KV block, the embedding it was made of among it."""
        adapter = None if owner.adapter is None else self.adapters[owner.adapter]
        parts = [self.language, self.template, self.build, self.settings, adapter, owner.digest]
        return blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def fit_of(manifest: Manifest, build: str, settings: str) -> Fit:
    """Put together what a bundle and this process say of themselves."""
    files = manifest.files
    return Fit(
        vision=manifest.sees_as,
        language=files[LANGUAGE_FILE].sha256,
        adapters={name: files[one.file].sha256 for name, one in manifest.adapters.items()},
        template=manifest.prompt.template,
        build=build,
        settings=settings,
    )
