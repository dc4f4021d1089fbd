"""Steps that survive a kill: real processes, real locks, real disks that are full."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from uservlm.converters.errors import ConversionError, OutputError
from uservlm.converters.output import (
    check_disk,
    disk_errors,
    tidy,
    work_folder,
)
from uservlm.converters.workbench import Finished, Workbench, workbench

Made = list[str]

EXPORT = """
    import os, sys, time
    from pathlib import Path
    from uservlm.converters import output
    from uservlm.converters.workbench import workbench

    def stop(where):
        if sys.argv[2] == where:
            print("there", flush=True)
            time.sleep(60)

    def make(name, size=5):
        def write(folder):
            print("makes", name, flush=True)
            stop("before " + name)
            (folder / name).write_text(name * size)
            stop("in " + name)
            return [name]
        return write

    def big(folder):
        with_half = bench.step("half", {"of": "big"}, make("half"))
        return make("big")(folder)

    rename, rmtree = Path.rename, output.shutil.rmtree
    def watched(path, target):
        stop(f"swap {path.name}")
        return rename(path, target)

    def removed(path, **more):
        stop(f"removing {path.name}")
        return rmtree(path, **more)

    with workbench(Path(sys.argv[1])) as bench:
        bench.step("look", {"a": 1}, make("look"))
        bench.step("big", {"a": 2}, big, ships=True, drops=("half",))
        stop("between")
        (bench.bundle / "manifest.json").write_text("new")
        stop("end")
        Path.rename, output.shutil.rmtree = watched, removed
"""
"""An export of two steps, one of which needs a third; the second argument says where it hangs."""


def export(out: Path, hang: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(EXPORT), str(out), hang]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def export_until(out: Path, hang: str, end: signal.Signals) -> Made:
    """Run until it hangs, end it, and give the steps it had made or begun."""
    made: Made = []
    with export(out, hang) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if line == "there\n":
                break
            made.append(line.split()[1])
        else:
            pytest.fail(process.stderr.read())
        process.send_signal(end)
    return made


def export_whole(out: Path) -> Made:
    with export(out) as process:
        said, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    return [line.split()[1] for line in said.splitlines()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def old_bundle(out: Path) -> Path:
    out.mkdir()
    (out / "manifest.json").write_text("old")
    return out


def write(name: str, made: Made | None = None, text: str = "whole") -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        assert list(folder.iterdir()) == []
        (folder / name).write_text(text)
        if made is not None:
            made.append(name)
        return [name]

    return make


def interrupted(out: Path, work: Callable[[Workbench], object]) -> None:
    with pytest.raises(KeyboardInterrupt), workbench(out) as bench:
        work(bench)
        raise KeyboardInterrupt


def one_step(bench: Workbench) -> Finished[list[str]]:
    return bench.step("one", {"a": 1}, write("one"), ships=True)


# Kills


@pytest.mark.parametrize(
    ("hang", "before", "first", "second"),
    [
        ("in look", False, ["look"], ["look", "half", "big"]),
        ("in half", True, ["look", "half"], ["half", "big"]),
        ("in big", False, ["look", "half", "big"], ["big"]),
        ("between", True, ["look", "half", "big"], []),
        ("end", False, ["look", "half", "big"], []),
    ],
)
def test_a_killed_export_goes_on_where_it_was(
    tmp_path: Path, hang: str, before: bool, first: Made, second: Made
) -> None:
    out = old_bundle(tmp_path / "b") if before else tmp_path / "b"
    assert export_until(out, hang, signal.SIGKILL) == first
    assert names(tmp_path) == [".b.partial", *(["b"] if before else [])]
    if before:
        assert (out / "manifest.json").read_text() == "old"
    assert export_whole(out) == second
    assert names(tmp_path) == ["b"]
    assert names(out) == ["big", "manifest.json"]
    assert (out / "big").read_text() == "big" * 5


@pytest.mark.parametrize(
    "hang", ["swap b", "swap bundle", "removing .b.old", "removing .b.partial"]
)
def test_a_swap_that_is_killed_is_taken_back_or_ended(tmp_path: Path, hang: str) -> None:
    out = old_bundle(tmp_path / "b")
    export_until(out, hang, signal.SIGKILL)
    assert out.exists() == (hang != "swap bundle")
    tidy(out)
    swapped = hang.startswith("removing")
    assert (out / "manifest.json").read_text() == ("new" if swapped else "old")
    assert names(tmp_path) == (["b"] if swapped else [".b.partial", "b"])
    assert export_whole(out) == (["look", "half", "big"] if swapped else [])
    assert (out / "manifest.json").read_text() == "new"
    assert names(tmp_path) == ["b"]


def test_an_old_bundle_killed_away_does_not_overwrite_what_came_since(tmp_path: Path) -> None:
    out = old_bundle(tmp_path / "b")
    export_until(out, "swap bundle", signal.SIGKILL)
    out.mkdir()
    tidy(out)
    assert (out / "manifest.json").read_text() == "old", "an empty folder is nothing"


def test_ctrl_c_keeps_finished_steps_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "b"
    export_until(out, "before look", signal.SIGINT)
    assert names(tmp_path) == []
    export_until(out, "in big", signal.SIGINT)
    assert names(work_folder(out)) == ["bundle", "steps"]
    assert names(work_folder(out) / "steps") == ["half", "half.json", "look", "look.json"]
    assert export_whole(out) == ["big"]


def test_what_a_killed_step_left_goes_even_if_it_is_not_asked_for_again(tmp_path: Path) -> None:
    out = tmp_path / "b"
    export_until(out, "in look", signal.SIGKILL)
    assert names(work_folder(out) / "steps") == ["look"]
    with workbench(out) as bench:
        assert names(work_folder(out) / "steps") == []
        one_step(bench)
        (bench.bundle / "manifest.json").touch()


def test_ctrl_c_after_the_swap_keeps_no_steps(tmp_path: Path) -> None:
    out = old_bundle(tmp_path / "b")
    export_until(out, "removing .b.old", signal.SIGINT)
    assert (out / "manifest.json").read_text() == "new"
    assert names(tmp_path) == [".b.old", "b"]
    tidy(out)
    assert names(tmp_path) == ["b"]


def test_only_one_export_writes_a_bundle(tmp_path: Path) -> None:
    out = tmp_path / "b"
    with export(out, "in big") as process, ExitStack() as stack:
        assert process.stdout is not None
        while process.stdout.readline() != "there\n":
            pass
        stack.callback(process.kill)
        for second in (workbench(out), workbench(tmp_path / "x" / ".." / "b")):
            with pytest.raises(OutputError, match="another run is writing .*/b:"), second:
                pytest.fail("two at once")
        with pytest.raises(OutputError, match="another run"):
            tidy(out)
        with workbench(tmp_path / "c") as bench:
            (bench.bundle / "manifest.json").write_text("a neighbour")
        assert (work_folder(out) / "steps" / "look.json").is_file()
    assert export_whole(out) == ["big"]


# What counts as finished


def damage_content(steps: Path) -> None:
    (steps / "one" / "one").write_text("whale")


def damage_size(steps: Path) -> None:
    (steps / "one" / "one").write_text("who")


def lose_file(steps: Path) -> None:
    (steps / "one" / "one").unlink()


def damage_record(steps: Path) -> None:
    (steps / "one.json").write_text('{"key": {"a": 1}, "fil')


def lose_record(steps: Path) -> None:
    (steps / "one.json").unlink()


def foreign_record(steps: Path) -> None:
    (steps / "one.json").write_text("[]")


@pytest.mark.parametrize(
    "harm", [damage_content, damage_size, lose_file, damage_record, lose_record, foreign_record]
)
def test_a_damaged_step_is_made_again(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    out, made = tmp_path / "b", Made()
    interrupted(out, lambda bench: (bench.step("one", {"a": 1}, write("one")),))
    interrupted(out, lambda bench: bench.step("two", {}, write("two")))
    harm(work_folder(out) / "steps")
    with workbench(out) as bench:
        again = bench.step("one", {"a": 1}, write("one", made), ships=True)
        other = bench.step("two", {}, write("two", made))
        (bench.bundle / "manifest.json").touch()
    assert made == ["one"]
    assert (again.reused, other.reused) == (False, True)
    assert (out / "one").read_text() == "whole"


@pytest.mark.parametrize("key", [{"a": 2}, {}, {"a": 1, "b": None}])
def test_another_key_is_another_step(tmp_path: Path, key: dict[str, int]) -> None:
    out, made = tmp_path / "b", Made()
    interrupted(out, one_step)
    with workbench(out) as bench:
        bench.step("one", key, write("other", made), ships=True)
        (bench.bundle / "manifest.json").touch()
    assert made == ["other"]
    assert names(out) == ["manifest.json", "other"]


def test_a_first_run_sees_what_a_second_will(tmp_path: Path) -> None:
    out = tmp_path / "b"
    seen = []

    def make(folder: Path) -> Any:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_bytes(b"12345")
        return {"pair": (1, 0.1)}

    def work(bench: Workbench) -> None:
        found = bench.step("one", {"pair": (1, 2)}, make, ships=True)
        seen.append((found.result, found.files, found.folder))
        assert bench.held_bytes == 5
        assert (found.folder / "sub" / "file").is_file()
        assert bench.step("one", {"pair": (1, 2)}, make, ships=True) is found

    interrupted(out, work)
    interrupted(out, work)
    assert seen[0] == seen[1]
    assert seen[0][0] == {"pair": [1, 0.1]}
    assert list(seen[0][1]) == ["sub/file"]


def test_steps_of_another_export_do_not_ship(tmp_path: Path) -> None:
    out = tmp_path / "b"

    def work(bench: Workbench) -> None:
        one_step(bench)
        (bench.bundle / "adapters").mkdir()
        (bench.bundle / "proof").touch()

    interrupted(out, work)
    with workbench(out) as bench:
        bench.step("two", {}, write("two"), ships=True)
        assert names(bench.bundle) == ["two"]
        (bench.bundle / "manifest.json").touch()
    assert names(out) == ["manifest.json", "two"]


def test_a_step_that_only_served_is_not_made_again(tmp_path: Path) -> None:
    out, made = tmp_path / "b", Made()

    def work(bench: Workbench, kind: str) -> None:
        def small(folder: Path) -> list[str]:
            whole = bench.step("whole", {}, write("f16", made))
            return write("small", made, (whole.folder / "f16").read_text() + kind)(folder)

        bench.step("small", {"kind": kind}, small, ships=True, drops=("whole",))

    interrupted(out, lambda bench: work(bench, "q4"))
    assert names(work_folder(out) / "steps") == ["small", "small.json"]
    interrupted(out, lambda bench: work(bench, "q4"))
    assert made == ["f16", "small"]
    interrupted(out, lambda bench: work(bench, "q8"))
    assert made == ["f16", "small"] * 2


def test_misuse_is_told(tmp_path: Path) -> None:
    for wrong, why in (
        (lambda bench: bench.step("up/x", {}, write("x")), "'up/x' cannot be asked for"),
        (lambda bench: (one_step(bench), bench.step("one", {}, write("x"))), "'one' cannot be"),
        (lambda bench: (one_step(bench), bench.step("two", {}, write("one"), ships=True)), "ships"),
        (one_step, "has no manifest.json"),
    ):
        with pytest.raises(ValueError, match=why), workbench(tmp_path / "b") as bench:
            wrong(bench)
        assert names(tmp_path) == []


# Errors


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("error", [ConversionError("no"), RuntimeError("no"), OSError("no")])
def test_an_error_leaves_nothing(tmp_path: Path, before: bool, error: Exception) -> None:
    out = old_bundle(tmp_path / "b") if before else tmp_path / "deep" / "b"
    interrupted(out, one_step)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise error

    with pytest.raises(type(error), match="no"), workbench(out) as bench:
        assert one_step(bench).reused
        bench.step("two", {}, fail)
    if before:
        assert names(tmp_path) == ["b"] and names(out) == ["manifest.json"]
    else:
        assert not work_folder(out).exists() and not out.exists()


def test_folders_made_on_the_way_go_too(tmp_path: Path) -> None:
    with pytest.raises(ConversionError), workbench(tmp_path / "deep" / "er" / "b") as bench:
        one_step(bench)
        raise ConversionError("no")
    assert names(tmp_path) == []


def test_a_refusal_before_the_first_step_costs_no_finished_one(tmp_path: Path) -> None:
    out = tmp_path / "b"
    interrupted(out, one_step)
    with pytest.raises(OutputError, match="1000000000.0 GB"), workbench(out) as bench:
        check_disk(out, 10**18 - bench.held_bytes + 5, "the export")
    with workbench(out) as bench:
        assert one_step(bench).reused
        (bench.bundle / "manifest.json").touch()


def test_what_is_somebody_elses_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for out, why in (
        (tmp_path, "is not empty and holds no bundle"),
        (tmp_path / "thesis.tex", "is a file"),
        (tmp_path / "thesis.tex" / "b", "cannot write .*thesis.tex: Not a directory"),
        (tmp_path / ("n" * 300), "File name too long"),
        (Path("/"), "holds no bundle"),
    ):
        with pytest.raises(OutputError, match=why), workbench(out):
            pytest.fail("taken")
    assert names(tmp_path) == ["thesis.tex"]


def test_folders_of_dead_runs_of_before_go_and_living_ones_stay(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    for pid in (int(dead.stdout), os.getppid()):
        (tmp_path / f".other.partial-{pid}").mkdir()
    old_bundle(tmp_path / f".b.old-{int(dead.stdout)}")
    tidy(tmp_path / "b")
    assert names(tmp_path) == [f".other.partial-{os.getppid()}", "b"]


# Disks


def test_the_disk_is_checked_before_anything_is_there(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    check_disk(tmp_path / "not" / "yet", free // 2, "the export")
    with pytest.raises(OutputError, match=r"the export needs .* GB at .*, .* are free: .* --out"):
        check_disk(tmp_path / "not" / "yet", 2 * free, "the export")


def test_a_full_device_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="no space left while writing"),
        disk_errors(tmp_path / "b"),
        open("/dev/full", "wb") as stream,
    ):
        stream.write(b"more")


def test_a_file_too_large_is_one_sentence(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(OutputError, match="files as large as"), workbench(tmp_path / "b") as bench:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
            bench.step("one", {}, write("one", text="x" * 200_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == []


def test_errors_about_other_files_stay_what_they_are(tmp_path: Path) -> None:
    for error in (
        PermissionError(errno.EACCES, "no", str(tmp_path / "checkpoint" / "config.json")),
        FileNotFoundError(errno.ENOENT, "no", str(tmp_path / ".b.partial")),
    ):
        with pytest.raises(type(error)), disk_errors(tmp_path / "b"):
            raise error


SMALL_DISK = """
    import json, sys
    from pathlib import Path
    from uservlm.converters.errors import OutputError
    from uservlm.converters.workbench import workbench

    def fill(folder):
        with (folder / "big").open("wb") as stream:
            for _ in range(64):
                stream.write(bytes(100_000))

    def library(folder):
        try:
            fill(folder)
        except OSError:
            raise RuntimeError("iostream error") from None

    def nothing(folder):
        pass

    disk = Path(sys.argv[1])
    for make in (fill, library, nothing):
        try:
            with workbench(disk / "b") as bench:
                bench.step("one", {}, make)
                (bench.bundle / "manifest.json").touch()
        except OutputError as error:
            print(json.dumps([str(error), [path.name for path in disk.iterdir()]]))
"""


def in_own_namespace(script: str, disk: Path, mount: str = "") -> list[tuple[str, list[str]]]:
    """Run the script where a file system of its own lies at `disk`, or where nobody is root."""
    own = ["unshare", "--user", *(["--map-root-user", "--mount"] if mount else []), "sh", "-c"]
    prepare = f'mount {mount} "$3"' if mount else "true"
    run = [sys.executable, textwrap.dedent(script), str(disk)]
    if subprocess.run([*own, prepare, "sh", *run], capture_output=True).returncode:
        pytest.skip("this system lets nobody have a namespace of their own")
    done = subprocess.run(
        [*own, f'{prepare} && exec "$1" -c "$2" "$3"', "sh", *run], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_full_disk_is_one_sentence_and_nothing_is_left(tmp_path: Path) -> None:
    said = in_own_namespace(SMALL_DISK, tmp_path, "-t tmpfs -o size=3m tmpfs")
    assert len(said) == 2, "the third run fits"
    for sentence, left in said:
        assert sentence.startswith(f"no space left while writing {tmp_path}/b: ")
        assert f"free in {tmp_path}; make room or choose" in sentence
        assert left == []
    assert "(iostream error)" in said[1][0]


def test_a_read_only_disk_is_refused(tmp_path: Path) -> None:
    said = in_own_namespace(SMALL_DISK, tmp_path, "-t tmpfs -o ro,size=3m tmpfs")
    assert [sentence for sentence, _ in said] == 3 * [
        f"cannot write {tmp_path}/.b.partial: Read-only file system; "
        "choose another folder with --out"
    ]


def test_a_mount_point_is_refused_before_any_work(tmp_path: Path) -> None:
    script = SMALL_DISK.replace('disk / "b"', "disk")
    said = in_own_namespace(script, tmp_path, "-t tmpfs -o size=3m tmpfs")
    assert len(said) == 3
    assert "is a mount point: choose a folder inside it" in said[0][0]


@pytest.mark.parametrize(
    ("closed", "why"),
    [("", "cannot write .*/.b.partial: Permission denied"), ("b", "b may not be replaced")],
)
def test_a_folder_without_permission_is_refused(tmp_path: Path, closed: str, why: str) -> None:
    old_bundle(tmp_path / "b")
    (tmp_path / closed).chmod(0o555)
    said = in_own_namespace(SMALL_DISK, tmp_path)
    (tmp_path / closed).chmod(0o755)
    assert len(said) == 3
    assert all(re.search(why, sentence) and left == ["b"] for sentence, left in said)
