"""Finding checkpoints: folders, the hub's cache, and the hub, with the real huggingface_hub.

The hub is a server on this machine; each command is a process of its own, because huggingface_hub
reads HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE when it is imported.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_server import COMMIT, OLDER, Repository, etag, serve

pytest.importorskip("huggingface_hub")

from uservlm.converters.checkpoint import open_checkpoint  # noqa: E402
from uservlm.converters.errors import CheckpointError  # noqa: E402
from uservlm.converters.hub import Origin, locate, resolve  # noqa: E402

LOCATE = """
import sys
from uservlm.converters.errors import CheckpointError
from uservlm.converters.hub import resolve
try:
    source = resolve(*sys.argv[1:])
except CheckpointError as error:
    sys.exit(f"refused: {error}")
for origin in (source.base, *source.adapters):
    print(origin.folder, origin.model, origin.revision)
"""
CHUNK = 10 * 1024 * 1024
"""Bytes that huggingface_hub writes at once (its DOWNLOAD_CHUNK_SIZE)."""


@pytest.fixture
def hub(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Iterator[Repository]:
    """A repository with a tiny checkpoint, a training run in a sub-folder, and pickles."""
    folder = shutil.copytree(make_checkpoint("small"), tmp_path / "served")
    run = folder / "checkpoint-3502"
    run.mkdir()
    shutil.copy(folder / "model.safetensors", run)
    shutil.copy(folder / "config.json", run)
    (folder / "training_args.bin").write_bytes(b"\x80\x02")
    with serve(Repository(folder)) as repository:
        yield repository


@pytest.fixture
def bulky(tmp_path: Path) -> Iterator[Repository]:
    """A repository whose weights take several chunks; they are no checkpoint."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(os.urandom(3 * CHUNK))
    with serve(Repository(folder)) as repository:
        yield repository


def start(hub: Repository, tmp_path: Path, *wanted: str, **more: str) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    home = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    given = {"HF_ENDPOINT": hub.endpoint, "NO_PROXY": "127.0.0.1", "HF_HUB_ETAG_TIMEOUT": "2"}
    return subprocess.Popen(
        [sys.executable, "-c", LOCATE, *(wanted or (hub.name,))],
        env={**kept, **home, **given, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )


def find(hub: Repository, tmp_path: Path, *wanted: str, **more: str) -> list[Origin]:
    process = start(hub, tmp_path, *wanted, **more)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    lines = [line.rsplit(" ", 2) for line in out.splitlines()]
    return [Origin(Path(folder), model, revision) for folder, model, revision in lines]


def refused(hub: Repository, tmp_path: Path, *wanted: str, **more: str) -> str:
    process = start(hub, tmp_path, *wanted, **more)
    _, err = process.communicate(timeout=60)
    refusals = [line for line in err.splitlines() if line.startswith("refused: ")]
    assert process.returncode == 1 and len(refusals) == 1, err
    assert "Traceback" not in err
    return refusals[0]


def test_a_hub_id_is_fetched_and_stays_usable_offline(hub: Repository, tmp_path: Path) -> None:
    (origin,) = find(hub, tmp_path)
    assert (origin.model, origin.revision) == (hub.name, COMMIT)
    fetched = {path.name for path in origin.folder.iterdir()}
    top = {p.name for p in hub.folder.iterdir() if p.suffix in (".json", ".safetensors", ".model")}
    assert fetched == top
    assert open_checkpoint(origin).places
    hub.asked.clear()
    assert find(hub, tmp_path, HF_HUB_OFFLINE="1") == [origin]
    assert hub.asked == []


def test_sub_folders_and_pickles_are_never_asked_for(hub: Repository, tmp_path: Path) -> None:
    find(hub, tmp_path)
    paths = [path for _, path, _ in hub.asked]
    assert any(path.endswith("/model.safetensors") for path in paths)
    assert not [path for path in paths if "checkpoint-3502" in path or path.endswith(".bin")]


def test_a_revision_is_fetched_by_its_name(hub: Repository, tmp_path: Path) -> None:
    (origin,) = find(hub, tmp_path, hub.name, "v1")
    assert (origin.folder.name, origin.revision) == (OLDER, OLDER)
    assert "has no revision 'v2': give a branch" in refused(hub, tmp_path, hub.name, "v2")


def test_a_connection_that_breaks_is_resumed(bulky: Repository, tmp_path: Path) -> None:
    bulky.break_at = 2 * CHUNK + 1000
    refusal = refused(bulky, tmp_path)
    assert "broke off" in refusal and "start again, it goes on from there" in refusal
    bulky.break_at = None
    check_resumed(bulky, tmp_path)


def test_a_killed_download_is_resumed(bulky: Repository, tmp_path: Path) -> None:
    bulky.stall_at = 2 * CHUNK + 1000
    process = start(bulky, tmp_path)
    assert bulky.stalled.wait(60)
    blobs = tmp_path / "home" / "hub" / "models--owner--name" / "blobs"
    part = blobs / f"{etag(bulky.folder / 'model.safetensors')}.incomplete"
    while not part.is_file() or part.stat().st_size < 2 * CHUNK:
        assert process.poll() is None
    process.kill()
    process.communicate()
    bulky.stall_at = None
    check_resumed(bulky, tmp_path)


def check_resumed(bulky: Repository, tmp_path: Path) -> None:
    bulky.asked.clear()
    (origin,) = find(bulky, tmp_path)
    ranges = [r for method, path, r in bulky.asked if method == "GET" and "safetensors" in path]
    assert ranges == [f"bytes={2 * CHUNK}-"]
    assert etag(origin.folder / "model.safetensors") == etag(bulky.folder / "model.safetensors")


def test_what_the_disk_cannot_hold_is_not_begun(hub: Repository, tmp_path: Path) -> None:
    hub.claimed["model.safetensors"] = 10**18
    refusal = refused(hub, tmp_path)
    assert "owner/name needs 1.0 EB more in " in refusal and "HF_HOME" in refusal
    assert not [path for _, path, _ in hub.asked if "/resolve/" in path]


def test_what_the_cache_holds_needs_no_room(hub: Repository, tmp_path: Path) -> None:
    find(hub, tmp_path)
    blobs = tmp_path / "home" / "hub" / "models--owner--name" / "blobs"
    weights = etag(hub.folder / "model.safetensors")
    os.truncate(blobs / weights, 10**13)  # sparse: as large as is claimed, and takes no room
    hub.claimed["model.safetensors"] = 10**13
    assert find(hub, tmp_path)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((403, "GatedRepo"), "owner/name is gated: accept its licence .* `hf auth login`"),
        ((401, "RepoNotFound"), "the hub has no owner/name .* `hf auth login`"),
        ((401, ""), "the hub has no owner/name .* `hf auth login`"),
        ((404, "RepoNotFound"), "the hub has no owner/name .* check the name"),
        ((500, ""), "the hub answers 500 to owner/name: try again later"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(
    hub: Repository, tmp_path: Path, answer: tuple[int, str], sentence: str
) -> None:
    hub.refuse = answer
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(refused(hub, tmp_path))


def test_without_network_or_cache_both_are_named(hub: Repository, tmp_path: Path) -> None:
    refusal = refused(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert "the cache does not hold owner/name; the hub cannot be reached" in refusal
    refusal = refused(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set: unset it once, or give a folder" in refusal


def test_a_repository_of_pickles_is_not_fetched(hub: Repository, tmp_path: Path) -> None:
    (hub.folder / "model.safetensors").rename(hub.folder / "pytorch_model.bin")
    refusal = refused(hub, tmp_path)
    assert "only pytorch_model.bin" in refusal and "safe_serialization=True" in refusal
    assert not [path for _, path, _ in hub.asked if "/resolve/" in path]


def test_an_adapter_on_the_hub_brings_its_base(
    hub: Repository, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.rmtree(hub.folder)
    hub.folder.mkdir()
    (hub.folder / "adapter_model.safetensors").write_bytes(b"")
    base = make_checkpoint("small")
    settings = {"base_model_name_or_path": str(base), "revision": None}
    (hub.folder / "adapter_config.json").write_text(json.dumps(settings))
    found = find(hub, tmp_path)
    assert [origin.folder for origin in found][0] == base
    assert [origin.model for origin in found][1:] == [hub.name]


# What needs no hub runs in this process.


def make_cache(checkpoint: Path, tmp_path: Path) -> Path:
    repository = tmp_path / "models--ACIDE--User-VLM-3B-base"
    shutil.copytree(checkpoint, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return repository


def make_adapter(folder: Path, **settings: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def test_a_folder_of_the_cache_keeps_its_name(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    repository = make_cache(make_checkpoint("small"), tmp_path)
    snapshot = repository / "snapshots" / COMMIT
    wanted = Origin(snapshot, "ACIDE/User-VLM-3B-base", COMMIT)
    assert locate(repository) == locate(snapshot) == locate(repository, "main") == wanted
    assert locate(repository, COMMIT) == wanted
    (repository / "refs" / "main").unlink()
    assert locate(repository) == wanted, "the only snapshot"
    with pytest.raises(CheckpointError, match=f"no revision 'v9': give --revision, .* {COMMIT}"):
        locate(repository, "v9")


def test_a_plain_folder_has_no_revisions(tmp_path: Path) -> None:
    assert locate(tmp_path) == Origin(tmp_path, tmp_path.name, None)
    with pytest.raises(CheckpointError, match="--revision v1 chooses in a hub repository"):
        locate(tmp_path, "v1")


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "/gone/away", "tests/nowhere"])
def test_what_is_no_hub_id_is_not_looked_up(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"no folder {name}: give a checkpoint's folder or"):
        locate(name)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="model.safetensors is a file: give the folder"):
        locate(file)


def test_adapters_are_followed_down_to_a_checkpoint(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    base = make_checkpoint("small")
    make_adapter(tmp_path / "first", base_model_name_or_path=str(base))
    second = make_adapter(tmp_path / "second", base_model_name_or_path="../first")
    source = resolve(second)
    assert source.base.folder == base
    assert [adapter.model for adapter in source.adapters] == ["first", "second"]
    assert resolve(base).adapters == ()


def test_an_adapter_takes_the_revision_of_its_base(hub: Repository, tmp_path: Path) -> None:
    settings = {"base_model_name_or_path": hub.name, "revision": "v1"}
    adapter = make_adapter(tmp_path / "adapter", **settings)
    base, _ = find(hub, tmp_path, str(adapter))
    assert (base.model, base.revision) == (hub.name, OLDER)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("/home/x/out/base", "names the base /home/x/out/base, a folder that is not here"),
        ("./out", "a folder that is not here"),
        ("out/deep/base", "a folder that is not here"),
        (None, "names no base_model_name_or_path"),
        (".", "is its own base"),
        ("nobody/nothing", "names the base nobody/nothing: no folder nobody/nothing, and the"),
    ],
)
def test_an_adapter_without_its_base_says_how_to_give_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str | None, message: str
) -> None:
    adapter = make_adapter(tmp_path / "adapter", base_model_name_or_path=base)
    monkeypatch.chdir(adapter)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=message) as caught:
        resolve(adapter)
    assert f"--model and the adapter with --adapter {adapter}" in str(caught.value)
