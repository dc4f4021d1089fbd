"""What a run found, as a JSON file: written in one form, read strictly.

Owns: the form, which is a dataclass of tuples, mappings and numbers with its own `format`, and what
is refused. Knows nothing of what was measured: the schemas are in `results.py` and
`quality_results.py`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, TypeVar

from dacite import Config, DaciteError, from_dict

from uservlm.runtime.errors import UserVLMError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Found = TypeVar("Found", bound="DataclassInstance")


class ResultsError(UserVLMError):
    """A file of results that cannot be read; the message names the file and the reason."""


def probe(folder: Path) -> None:
    """Find out whether results can be written; OSError says why not."""
    with NamedTemporaryFile(dir=folder):
        pass


def to_json(found: DataclassInstance) -> str:
    """Give the text of the file."""
    return json.dumps(asdict(found), ensure_ascii=False, indent=1) + "\n"


def read(path: Path, schema: type[Found], number: int, what: str) -> Found:
    """Read what `to_json` wrote.

    Args:
        path: the file.
        schema: the dataclass.
        number: of the format; another is refused.
        what: such a file is, as "results.json of bench/run.py".

    Raises:
        ResultsError: it cannot be read, is of another format, or misses something.
    """
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if data.get("format") != number:
            raise ResultsError(f"{path} has format {data.get('format')!r}, this reads {number}")
        return from_dict(schema, _tuples(data), Config(strict=True, cast=[float]))
    except (OSError, ValueError, AttributeError, DaciteError) as error:
        raise ResultsError(f"{path} is not a {what}: {error}") from error


def _tuples(data: Any) -> Any:
    """Give JSON with its lists as the tuples that they were: dacite looks into one level only."""
    if isinstance(data, dict):
        return {key: _tuples(value) for key, value in data.items()}
    return tuple(map(_tuples, data)) if isinstance(data, list) else data
