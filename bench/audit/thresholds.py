"""The limits of an audit: reading thresholds.toml.

Owns: that file's form. The limits are the project's own and no option changes them: a verdict names
the file by its digest. Knows nothing of how a figure comes about.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any, Final

import dacite

from uservlm.bench.audit.findings import Limit
from uservlm.bench.audit.statements import LEXICON
from uservlm.models.toml import tomllib

FILE: Final = Path(__file__).with_name("thresholds.toml")


@cache
def limits() -> dict[str, dict[str, Limit]]:
    """Give the limits by part and figure; DaciteError or ValueError for a malformed file."""
    table: dict[str, Any] = tomllib.loads(FILE.read_text(encoding="utf-8"))
    config = dacite.Config(strict=True, cast=[float])
    return {
        part: {
            figure: dacite.from_dict(Limit, {**one, "reason": one["reason"].strip()}, config)
            for figure, one in figures.items()
        }
        for part, figures in table.items()
    }


def limit(part: str, figure: str) -> Limit | None:
    """Give the limit of a figure; None where it has none and is shown for comparison."""
    return limits().get(part, {}).get(figure)


def digest() -> str:
    """Give the SHA-256 of the rules: the limits, and the lexicon of what is not to be said."""
    return hashlib.sha256(FILE.read_bytes() + LEXICON.read_bytes()).hexdigest()
