"""What drawn people were answered, kept as it is heard: a stopped audit goes on behind it.

Owns: the file, its form, who may write it, and when it is refused. Knows nothing of what decides an
answer (`deciding.py`) nor of a bundle. Drawn people alone stand in it: what was answered about own
pictures is never handed to it.

    CHECK {"format": 1, "key": {...}}             what decides every answer below
    CHECK {"person": 0, "outcomes": [{...}, …]}   one line a person, in the order they were asked

CHECK is the BLAKE2b of the rest of its line. A line is written and synced as soon as its person is
done, so a kill loses the one who was being asked; what it left of a line is dropped.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import dacite

from uservlm.bench.audit.measure import Outcome
from uservlm.runtime.durable import locked, sync
from uservlm.runtime.errors import StoreError, UserVLMError

JOURNAL_FILE: Final = "heard.journal"
FORMAT: Final = 1
_HASH: Final = re.compile("[0-9a-f]{32,}")
"""Told apart by its beginning."""

Key = Mapping[str, str]
"""What decides an answer, each part under a name for readers."""


class JournalError(UserVLMError):
    """What an earlier audit has heard cannot be gone on with: names the file and the way out."""


class Journal:
    """The journal in one folder; `journal_in` gives it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / JOURNAL_FILE
        self.people: dict[int, tuple[Outcome, ...]] = {}
        """What became of each person's cases, in this run and in earlier ones."""
        self._handle: int | None = None
        self._ours = False

    def open(self, key: Key) -> None:
        """Read what an earlier audit has heard, and be ready to keep more.

        Args:
            key: of this audit; a journal without people is begun anew whatever its key was.

        Raises:
            JournalError: people were asked under another key, a line is damaged, or the file can
                be neither read nor written.
        """
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._handle = os.open(self.file, flags, 0o600)
            os.fchmod(self._handle, 0o600)  # whatever the umask
            records, end = _read(self.file)
            self.people = _people(self.file, records, key)
            if not self.people:
                end = 0
            os.ftruncate(self._handle, end)
            os.lseek(self._handle, end, os.SEEK_SET)
            if not end:
                self._append({"format": FORMAT, "key": dict(key)})
                sync(self.file.parent)
            self._ours = True
        except OSError as error:
            raise JournalError(f"{self.file}: {error.strerror}; give another --out") from error

    def keep(self, person: int, outcomes: Sequence[Outcome]) -> None:
        """Write what became of one person's cases, and wait until the disk has it.

        Raises:
            JournalError: the disk refuses; those before are kept.
        """
        try:
            self._append({"person": person, "outcomes": [asdict(one) for one in outcomes]})
        except OSError as error:
            raise JournalError(
                f"{self.file}: {error.strerror}; {len(self.people)} people are kept: once it can "
                "be written, the same command goes on behind them"
            ) from error
        self.people[person] = tuple(outcomes)

    def delete(self) -> None:
        """Remove the file: the audit is done."""
        self.file.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file, which goes too if nobody stands in it."""
        if self._handle is None:
            return
        os.close(self._handle)
        self._handle = None
        if self._ours and not self.people:
            self.delete()

    def _append(self, record: Mapping[str, Any]) -> None:
        assert self._handle is not None  # opened
        rest = memoryview(_line(record))
        while rest.nbytes:
            rest = rest[os.write(self._handle, rest) :]
        os.fsync(self._handle)


@contextmanager
def journal_in(folder: Path) -> Iterator[Journal]:
    """Give the journal of an audit's folder, which nobody else may write meanwhile.

    Args:
        folder: made (0700) if it is missing, and gone again if nothing came into it.

    Raises:
        JournalError: another audit holds it, or it cannot be made.
    """
    with ExitStack() as stack:
        try:
            made = not folder.is_dir()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            stack.enter_context(locked(folder, patience=0))
        except StoreError as error:
            raise JournalError(
                f"another audit writes into {folder}: wait for its end, or give another --out"
            ) from error
        except OSError as error:
            raise JournalError(
                f"{folder} cannot be written: {error.strerror}; give another --out"
            ) from error
        journal = Journal(folder)
        try:
            yield journal
        finally:
            journal.close()
            if made and not any(folder.iterdir()):
                folder.rmdir()


def _line(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, separators=(",", ":"), allow_nan=False).encode("ascii")
    return _check(text) + b" " + text + b"\n"


def _check(text: bytes) -> bytes:
    return blake2b(text, digest_size=8).hexdigest().encode("ascii")


def _read(file: Path) -> tuple[list[dict[str, Any]], int]:
    """Give what stands in a journal, and where its last whole line ends.

    Raises:
        JournalError: a line that is not the last is damaged.
    """
    *lines, rest = file.read_bytes().split(b"\n")
    records: list[dict[str, Any]] = []
    end = 0
    for number, line in enumerate(lines, start=1):
        check, _, text = line.partition(b" ")
        if check != _check(text):
            if number == len(lines) and not rest:
                break  # a kill left its end unwritten
            raise _damaged(file, number)
        records.append(json.loads(text))
        end += len(line) + 1
    return records, end


def _people(
    file: Path, records: Sequence[dict[str, Any]], key: Key
) -> dict[int, tuple[Outcome, ...]]:
    """Give who stands in a journal of this key.

    Raises:
        JournalError: it is of another key or another form.
    """
    if len(records) < 2:
        return {}
    head, *people = records
    if head.get("format") != FORMAT:
        raise JournalError(
            f"{file} is of format {head.get('format')!r}, this reads {FORMAT}: delete it to begin "
            "anew, or give another --out"
        )
    if changed := _differences(head["key"], key):
        raise JournalError(
            f"{file} holds what an audit of something else has heard of {len(people)} people "
            f"({changed}): ask as then to go on with it, delete it to begin anew, or give another "
            "--out"
        )
    found = {}
    for number, record in enumerate(people, start=2):
        try:
            found[int(record["person"])] = tuple(map(_outcome, record["outcomes"]))
        except (KeyError, TypeError, ValueError, dacite.DaciteError) as error:
            raise _damaged(file, number) from error
    return found


def _outcome(record: dict[str, Any]) -> Outcome:
    return dacite.from_dict(Outcome, record, dacite.Config(strict=True, cast=[tuple]))


def _differences(was: Key, now: Key) -> str:
    """Say in what two keys differ; blank if in nothing."""
    return "; ".join(
        f"{name} was {_told(was.get(name))} and is {_told(now.get(name))}"
        for name in dict.fromkeys((*now, *was))
        if was.get(name) != now.get(name)
    )


def _told(value: str | None) -> str:
    if value is None:
        return "not told"
    return f"{value[:12]}…" if _HASH.fullmatch(value) else value


def _damaged(file: Path, number: int) -> JournalError:
    return JournalError(f"{file}, line {number}: damaged; delete the file to begin anew")
