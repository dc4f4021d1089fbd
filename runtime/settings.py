"""How this machine computes best, as `uservlm tune` found it: a small file in the bundle's folder.

Owns: what can be set, the file's format, and for which processor, llama.cpp and weights it holds.
Knows nothing of measuring. A file that is damaged or was made elsewhere changes nothing: it is left
aside with a warning that says why, and the defaults hold.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, get_args

import dacite

from uservlm.runtime.bundle import LANGUAGE_FILE, Bundle
from uservlm.runtime.cores import thread_count

_LOG = logging.getLogger("uservlm.settings")

SETTINGS_FILE: Final = "tuning.json"
"""In the bundle's folder; the manifest does not list it, since it is about the machine."""
FORMAT: Final = 1
MOST_THREADS: Final = 256

Waiting = Literal["sleep", "briefly", "spin"]
CacheType = Literal["f16", "q8_0"]

_WAITING: Final[dict[str, dict[str, str]]] = {
    "sleep": {"OMP_WAIT_POLICY": "PASSIVE"},
    "briefly": {"GOMP_SPINCOUNT": "1000"},
    "spin": {"OMP_WAIT_POLICY": "ACTIVE"},
}
"""What OpenMP reads while llama.cpp's library is loaded, and never again."""


@dataclass(frozen=True)
class Settings:
    """How the language model computes; nothing here changes what it was trained to say."""

    threads: int | None = None
    """For prefill and decoding; None is one for each physical core this process may use."""
    waiting: Waiting = "briefly"
    """What a thread does that waits for another: sleep at once, after 1 000 turns, or never."""
    flash_attention: bool = False
    kv: CacheType = "f16"
    """How keys and values are kept; q8_0 takes half the memory and needs flash attention."""
    repack: bool = True
    """Weights in an order made for this processor, instead of as pages of the file."""

    def __post_init__(self) -> None:
        """Refuse what llama.cpp could not do.

        Raises:
            ValueError: names the value.
        """
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise ValueError(f"threads={self.threads}: 1 to {MOST_THREADS}, or null")
        if self.waiting not in get_args(Waiting):
            raise ValueError(f"waiting={self.waiting!r}: one of {get_args(Waiting)}")
        if self.kv not in get_args(CacheType):
            raise ValueError(f"kv={self.kv!r}: one of {get_args(CacheType)}")
        if self.kv == "q8_0" and not self.flash_attention:
            raise ValueError("kv='q8_0' needs flash_attention")

    @property
    def environment(self) -> dict[str, str]:
        """Variables that must be set before llama.cpp's library is loaded."""
        return dict(_WAITING[self.waiting])

    @property
    def arithmetic(self) -> str:
        """Whatever decides how a KV cell is computed or stored, for those who save cells."""
        return f"kv={self.kv} flash={self.flash_attention} repack={self.repack}"


DEFAULTS: Final = Settings()
"""Chosen to lose little on an idle machine and little on a busy one (docs/decisions/0008)."""


@dataclass(frozen=True)
class Place:
    """What settings were measured on; they say nothing about any other."""

    processor: str
    cores: int
    """Physical ones that this process may use."""
    llama: str
    """llama-cpp-python's version, and a digest of its code for this processor."""
    language: str
    """SHA-256 of the language model."""


@dataclass(frozen=True)
class Tuning:
    """The file."""

    format: int
    place: Place
    settings: Settings
    measured: dict[str, Any]
    """The table behind the choice, for people."""


def this_place(bundle: Bundle) -> Place:
    """Describe this machine and what the bundle holds, without loading llama.cpp."""
    language = bundle.manifest.files[LANGUAGE_FILE].sha256
    return Place(processor(), thread_count(None), _llama(), language)


def read_settings(bundle: Bundle) -> Settings:
    """Give what was measured here for this bundle, or the defaults."""
    file = bundle.path / SETTINGS_FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            return _left_aside(file, "it is no JSON object")
        tuning = dacite.from_dict(Tuning, found, dacite.Config(strict=True))
    except FileNotFoundError:
        return DEFAULTS
    except (OSError, ValueError, dacite.DaciteError) as error:
        return _left_aside(file, f"it cannot be read ({error})")
    if tuning.format != FORMAT:
        return _left_aside(file, f"its format is {tuning.format}, not {FORMAT}")
    here = asdict(this_place(bundle))
    for name, there in asdict(tuning.place).items():
        if there != here[name]:
            return _left_aside(file, f"it was measured with {name} {there!r}, not {here[name]!r}")
    return tuning.settings


def write_settings(bundle: Bundle, settings: Settings, measured: dict[str, Any]) -> Path:
    """Write the file for this machine; whole or not at all.

    Raises:
        OSError: the bundle's folder cannot be written.
    """
    file = bundle.path / SETTINGS_FILE
    tuning = Tuning(FORMAT, this_place(bundle), settings, measured)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(asdict(tuning), indent=1) + "\n", encoding="utf-8")
    part.replace(file)
    return file


@cache
def processor() -> str:
    """Name the processor as precisely as it names itself, abilities included."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        import platform

        return f"{platform.machine()} {platform.processor()}".strip()
    lines = info.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
    facts = {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    name = facts.get("model name") or facts.get("CPU part", "unknown")
    abilities = " ".join(sorted(facts.get("flags", facts.get("Features", "")).split()))
    return f"{name} {blake2b(abilities.encode(), digest_size=4).hexdigest()}"


@cache
def _llama() -> str:
    spec = find_spec("llama_cpp")
    folder = Path(spec.origin).parent / "lib" if spec and spec.origin else None
    digest = blake2b(digest_size=8)
    for file in sorted(folder.glob("libggml-cpu*")) if folder else []:
        digest.update(file.read_bytes())
    return f"{version('llama-cpp-python')} {digest.hexdigest()}"


def _left_aside(file: Path, why: str) -> Settings:
    _LOG.warning("%s is left aside: %s; run `uservlm tune %s`", file, why, file.parent)
    return DEFAULTS
