"""Steps of an export that survive a kill: what is finished is recorded, checked and used again.

Owns: the work folder `.NAME.partial` beside `out`, what is kept in it and when it goes. Knows
nothing of what the steps make.

    .NAME.partial/steps/STEP/      files of a step
    .NAME.partial/steps/STEP.json  its record, written when they are whole on the disk
    .NAME.partial/bundle/          what becomes `out`

Finished steps of a run that was killed and is not wanted any more go with `rm -r .NAME.partial`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from uservlm.converters.output import (
    BUNDLE_FOLDER,
    disk_errors,
    locked,
    place,
    refuse_taken,
    sync,
    tidy,
)
from uservlm.runtime.bundle import record_file
from uservlm.runtime.manifest import MANIFEST_FILE, FileRecord

T = TypeVar("T")
STEP_NAME = re.compile(r"[a-z0-9_-]+")


@dataclass(frozen=True)
class Finished(Generic[T]):
    """A step that is done, in this run or an earlier one."""

    result: T
    """What `make` gave, as JSON brings it back: tuples are lists."""
    folder: Path
    """Where its files are: the bundle, when they are part of it."""
    files: dict[str, FileRecord]
    """By their path in `folder`."""
    reused: bool
    """An earlier run made it."""


@contextmanager
def workbench(out: Path) -> Iterator[Workbench]:
    """Give a place to make a bundle in; it becomes `out` when the block ends without an error.

    Killed at any moment, `out` holds the old bundle, the new one or nothing (then the next run puts
    the old one back). Finished steps stay for the next run after a kill or Ctrl-C. After an
    error nothing stays, except that one raised before any step was asked for leaves what it found.

    Raises:
        OutputError: `out` is taken, another export is writing it, or the disk refuses.
        ValueError: the block ended and no manifest was written.
    """
    out = out.resolve()
    refuse_taken(out)
    tidy(out)
    with locked(out) as folder:
        bench, keep = Workbench(folder), False
        try:
            with disk_errors(out):
                bench.take_over()
                yield bench
                if not (bench.bundle / MANIFEST_FILE).is_file():
                    raise ValueError(f"the bundle of {out} has no {MANIFEST_FILE}")
                place(bench.bundle, out)
        except BaseException as error:
            keep = bench.worth_keeping(failed=isinstance(error, Exception))
            raise
        finally:
            if keep:
                bench.sweep()
            else:
                shutil.rmtree(folder, ignore_errors=True)


class Workbench:
    """The steps of one export; the caller of `workbench` holds its lock."""

    def __init__(self, folder: Path) -> None:
        self.bundle = folder / BUNDLE_FOLDER
        """What becomes `out`: files of the steps that ship, and what is written here directly."""
        self._steps = folder / "steps"
        self._asked: set[str] = set()
        self._done: dict[str, tuple[Any, Finished[Any]]] = {}

    def step(
        self,
        name: str,
        key: Mapping[str, Any],
        make: Callable[[Path], T],
        *,
        ships: bool = False,
        drops: Sequence[str] = (),
    ) -> Finished[T]:
        """Make a step's files, or find them as an earlier run left them.

        A step that only serves another is asked for inside the other's `make`, and named in its
        `drops`: once the other is recorded, the first is neither kept nor made again.

        Args:
            name: of letters, digits, - and _; asked for again, it gives the same.
            key: JSON of everything files and result depend on; another key, another step.
            make: writes files into the empty folder it is given and gives JSON.
            ships: the files become part of the bundle, under their paths in that folder.
            drops: steps whose files are of no use now that this one is finished.

        Raises:
            ValueError: the name is none, was asked for with another key, was dropped or is under
                way, or two steps ship the same file.
        """
        wanted = _plain(key)
        known, before = self._done.get(name, (None, None))
        if before is not None and known == wanted:
            return before
        if not STEP_NAME.fullmatch(name) or name in self._asked:
            raise ValueError(f"step {name!r} cannot be asked for with this key, now or at all")
        self._asked.add(name)
        found = self._find(name, wanted)
        record = found or self._make(name, wanted, make)
        for other in drops:
            self._drop(other)
        if ships:
            self._ship(name, record)
        folder = self.bundle if ships else self._steps / name
        finished: Finished[T] = Finished(record.result, folder, record.files, found is not None)
        self._done[name] = (wanted, finished)
        return finished

    @property
    def held_bytes(self) -> int:
        """What the files of finished steps take on the disk already."""
        records = map(self._read, self._names())
        return sum(file.bytes for record in records if record for file in record.files.values())

    # The life of the folder, for `workbench` alone.

    def take_over(self) -> None:
        """Give every finished step its files back and remove the rest of a killed run."""
        self._steps.mkdir(exist_ok=True)
        for name in self._names():
            record = self._read(name)
            for file in record.files if record else ():
                shipped, home = self.bundle / file, self._steps / name / file
                if shipped.is_file() and not home.exists():
                    home.parent.mkdir(parents=True, exist_ok=True)
                    shipped.rename(home)
        self.sweep()
        self.bundle.mkdir(exist_ok=True)
        for path in self.bundle.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def sweep(self) -> None:
        """Remove what unfinished steps left."""
        finished = {name for name in self._names() if self._read(name)}
        for path in self._steps.iterdir():
            if path.is_dir() and path.name not in finished:
                shutil.rmtree(path)
            elif path.is_file() and path.name not in {f"{name}.json" for name in finished}:
                path.unlink()

    def worth_keeping(self, failed: bool) -> bool:
        """Tell whether a run that ends now leaves something for the next one."""
        return bool(self._names()) and self.bundle.is_dir() and not (failed and self._asked)

    # Records

    def _find(self, name: str, key: Any) -> _Record | None:
        record = self._read(name)
        if record is None or record.key != key:
            return None
        for file, wanted in record.files.items():
            path = self._steps / name / file
            if not path.is_file() or path.stat().st_size != wanted.bytes:
                return None
            if record_file(path) != wanted:
                return None
        return record

    def _make(self, name: str, key: Any, make: Callable[[Path], Any]) -> _Record:
        self._drop(name)
        folder = self._steps / name
        folder.mkdir()
        result = _plain(make(folder))
        files = {}
        for path in sorted(folder.rglob("*")):
            sync(path)
            if path.is_file():
                files[path.relative_to(folder).as_posix()] = record_file(path)
        sync(folder)
        record = _Record(key, files, result)
        self._write(name, record)
        return record

    def _ship(self, name: str, record: _Record) -> None:
        for file in record.files:
            target = self.bundle / file
            if target.exists():
                raise ValueError(f"step {name} ships {file}, which is in the bundle already")
            target.parent.mkdir(parents=True, exist_ok=True)
            (self._steps / name / file).rename(target)

    def _drop(self, name: str) -> None:
        self._done.pop(name, None)
        self._record_path(name).unlink(missing_ok=True)
        shutil.rmtree(self._steps / name, ignore_errors=True)

    def _names(self) -> list[str]:
        return sorted(path.stem for path in self._steps.glob("*.json"))

    def _read(self, name: str) -> _Record | None:
        """Read a record; one that is missing or damaged is none."""
        path = self._record_path(name)
        if not path.is_file():
            return None
        try:
            return _Record.from_json(path.read_text(encoding="utf-8"))
        except (ValueError, KeyError, TypeError):
            return None

    def _write(self, name: str, record: _Record) -> None:
        whole = self._record_path(name)
        draft = whole.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(record), indent=1), encoding="utf-8")
        sync(draft)
        sync(self._steps)
        os.replace(draft, whole)
        sync(self._steps)

    def _record_path(self, name: str) -> Path:
        return self._steps / f"{name}.json"


@dataclass(frozen=True)
class _Record:
    """What is written of a finished step."""

    key: Any
    files: dict[str, FileRecord]
    result: Any

    @staticmethod
    def from_json(text: str) -> _Record:
        read = json.loads(text)
        files = {name: FileRecord(**said) for name, said in read["files"].items()}
        return _Record(read["key"], files, read["result"])


def _plain(value: Any) -> Any:
    """Give the value as JSON brings it back, so that a first run sees what a second will."""
    return json.loads(json.dumps(value))
