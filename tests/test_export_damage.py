"""What is damaged, closed or not meant is one sentence before any work, and leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("llama_cpp")

from checkpoints import as_another_user, change_config, rewrite  # noqa: E402

from uservlm.converters.checkpoint import open_checkpoint  # noqa: E402
from uservlm.converters.describe import RECIPE_FILE, is_made_by, write_recipe  # noqa: E402
from uservlm.converters.errors import CheckpointError  # noqa: E402
from uservlm.converters.export import main  # noqa: E402
from uservlm.converters.hub import locate  # noqa: E402
from uservlm.converters.options import ExportOptions  # noqa: E402
from uservlm.converters.pipeline import export  # noqa: E402
from uservlm.converters.plan import disk_need  # noqa: E402

Refused = Callable[..., str]
PIXELS, PROCESSOR = "preprocessor_config.json", "processor_config.json"


@pytest.fixture
def folder(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(make_checkpoint("small"), tmp_path / "small")


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run the command on what it must refuse, and give its sentence."""

    def run(model: Path, *arguments: str, out: Path | None = None) -> str:
        before = sorted(tmp_path.iterdir())
        place = str(out or tmp_path / "out")
        assert main(["--model", str(model), "--out", place, *arguments]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith("export stopped: ")
        assert [line for line in lines if "looking" in line] == [], "refused before any work"
        assert sorted(tmp_path.iterdir()) == before
        return lines[-1].removeprefix("export stopped: ")

    return run


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


# Files


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", PIXELS])
def test_a_link_that_leads_nowhere_is_named(folder: Path, refused: Refused, name: str) -> None:
    """As in a snapshot of the hub's cache that was copied without its blobs."""
    (folder / name).unlink()
    (folder / name).symlink_to("../../blobs/c0ffee")
    assert f"{folder / name} is a link to a file that is not there" in refused(folder)


def test_an_index_that_leads_nowhere_is_named(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    index.symlink_to("../../blobs/c0ffee")
    with pytest.raises(CheckpointError, match=r"index\.json is a link to a file that is not"):
        open_checkpoint(folder)


def test_what_is_no_file_is_not_hashed(folder: Path) -> None:
    (folder / "x.json").mkdir()
    os.mkfifo(folder / "y.json")
    options = ExportOptions(folder, folder.parent / "out")
    recipe = write_recipe(locate(folder), (), {}, options)
    assert "model.safetensors" in recipe.checkpoint
    assert {"x.json", "y.json"}.isdisjoint(recipe.checkpoint)


@pytest.fixture
def unprivileged(folder: Path) -> Iterator[Path]:
    """The checkpoint where another user finds it; root may read everything."""
    with as_another_user(folder) as copied:
        yield copied


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "README.md", "."])
def test_what_may_not_be_read_stops_the_export(unprivileged: Path, name: str) -> None:
    user = os.geteuid()
    os.seteuid(os.getuid())
    (unprivileged / "README.md").touch()
    (unprivileged / name).chmod(0)
    os.seteuid(user)
    with pytest.raises(CheckpointError, match="may not be read by this user: change its perm"):
        export(ExportOptions(unprivileged, unprivileged.parent / "out"))


def test_a_file_system_without_folders_is_refused(folder: Path, refused: Refused) -> None:
    for out in (Path("/proc/b"), Path("/proc/b/c")):
        assert "choose another folder with --out" in refused(folder, out=out)


@pytest.mark.parametrize("written", [b"\xff\xfe", b"", b"{}"])
def test_a_recipe_that_cannot_be_read_is_another_one(
    copy: Path, tiny_checkpoint: Path, written: bytes
) -> None:
    options = ExportOptions(tiny_checkpoint, copy, "f16", "fp32", cases=4)
    recipe = write_recipe(locate(tiny_checkpoint), (), {}, options)
    assert is_made_by(copy, recipe)
    (copy / RECIPE_FILE).write_bytes(written)
    assert not is_made_by(copy, recipe)


# Pixels


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"rescale_factor": None}, "rescale_factor is None, supported is 0.00392"),
        ({"rescale_factor": "x"}, "rescale_factor is 'x', supported is 0.00392"),
        ({"rescale_factor": 1}, "rescale_factor is 1, supported is 0.00392"),
        ({"image_mean": [0.5]}, r"image_mean is [0.5], supported are three numbers"),
        ({"image_mean": ["a", "b", "c"]}, "image_mean is ['a', 'b', 'c'], supported are three"),
        ({"image_mean": 0.5}, "image_mean is 0.5, supported are three numbers"),
        ({"image_std": [0.5, 0, 0.5]}, "image_std is [0.5, 0, 0.5], supported are three numbers"),
        ({"image_std": [0.5, float("nan"), 0.5]}, "image_std is [0.5, nan, 0.5], supported are"),
        ({"do_rescale": False}, "do_rescale is False, supported is True"),
        ({"do_resize": False}, "do_resize is False, supported is True"),
        ({"do_normalize": None}, "do_normalize is None, supported is True"),
        ({"do_center_crop": True}, "do_center_crop is True, supported is False"),
        ({"do_pad": True}, "do_pad is True, supported is False"),
        ({"resample": 2}, "resample is 2, supported is 3"),
        ({"size": 56}, "size is 56, supported is {'height': 56, 'width': 56}"),
    ],
)
@pytest.mark.parametrize("file", [PIXELS, PROCESSOR])
def test_pixels_made_in_another_way_are_refused(
    folder: Path, refused: Refused, file: str, said: dict[str, object], message: str
) -> None:
    path = folder / PIXELS
    if file == PROCESSOR:
        edit(
            folder / PROCESSOR,
            lambda data: data.update(image_processor=json.loads(path.read_text())),
        )
        path.unlink()
    edit(folder / file, lambda data: data.get("image_processor", data).update(said))
    sentence = refused(folder)
    assert message in sentence and f"{folder / file}: " in sentence


def test_two_files_about_pixels_must_agree(folder: Path, refused: Refused) -> None:
    inner = {**json.loads((folder / PIXELS).read_text()), "image_mean": [0.4, 0.5, 0.5]}
    edit(folder / PROCESSOR, lambda data: data.update(image_processor=inner))
    sentence = refused(folder)
    assert "image_mean is [0.4, 0.5, 0.5]" in sentence
    assert PIXELS in sentence and PROCESSOR in sentence
    edit(folder / PROCESSOR, lambda data: data.update(image_processor=7))
    assert f"{PROCESSOR} is damaged: image_processor is 7" in refused(folder)


# Tokenizer


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("tokenizer.json", lambda data: data.clear(), "tokenizer.json"),
        ("tokenizer.json", lambda data: data.update(added_tokens=[7]), "tokenizer.json is damaged"),
        ("tokenizer.json", lambda data: data.update(model=None), "tokenizer.json"),
        ("tokenizer.json", lambda data: data["model"].update(vocab=["a"]), "json is damaged"),
        ("tokenizer.json", lambda data: data["model"].update(merges=[7]), "json is damaged"),
        ("tokenizer.json", lambda data: data.update(pre_tokenizer={"type": "Nix"}), "transformers"),
        ("tokenizer_config.json", lambda data: data.update(bos_token=7), "the bos token 7"),
        (
            "tokenizer_config.json",
            lambda data: data.update(eos_token=[7]),
            "config.json is damaged",
        ),
        ("tokenizer_config.json", lambda data: data.update(bos_token={}), "transformers cannot"),
        (
            "tokenizer_config.json",
            lambda data: data.update(tokenizer_class="NixTokenizer"),
            "transformers cannot open",
        ),
    ],
)
def test_a_damaged_tokenizer_stops_before_any_work(
    folder: Path,
    refused: Refused,
    file: str,
    change: Callable[[dict[str, Any]], object],
    message: str,
) -> None:
    (folder / "tokenizer.model").unlink()
    edit(folder / file, change)
    assert message in refused(folder)


def test_a_damaged_sentencepiece_model_stops_before_any_work(
    folder: Path, refused: Refused
) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\xff\xfe no protobuf")
    assert "tokenizer.model is damaged" in refused(folder)


# The head


@pytest.mark.parametrize("part", [None, "text_config"])
def test_an_untied_head_that_is_not_stored_is_refused(
    folder: Path, refused: Refused, part: str | None
) -> None:
    change_config(folder, part, tie_word_embeddings=False)
    assert "tie_word_embeddings is False, but no lm_head.weight is stored" in refused(folder)
    rewrite(folder, lambda tensors: tensors.update(
        {"lm_head.weight": next(v for k, v in tensors.items() if "embed_tokens" in k).clone()}
    ))  # fmt: skip
    assert open_checkpoint(folder).shape.layers == 3, "stored, and the same as the embeddings"


# Adapters


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_adapter_without_a_scale_is_blamed_itself(
    folder: Path, tmp_path: Path, refused: Refused, value: float
) -> None:
    pytest.importorskip("peft")
    from lora import write_lora

    adapter = write_lora(folder, tmp_path / "lora", r=2)
    for change in ({"lora_alpha": value}, {"lora_alpha": 4, "alpha_pattern": {"q_proj": value}}):
        edit(adapter / "adapter_config.json", lambda data: data.update(change))  # noqa: B023
        sentence = refused(folder, "--adapter", str(adapter))
        assert "adapter_config.json: alpha is" in sentence and "no finite number" in sentence


def test_a_rank_without_end_is_damage(folder: Path, tmp_path: Path, refused: Refused) -> None:
    pytest.importorskip("peft")
    from lora import write_lora

    adapter = write_lora(folder, tmp_path / "lora", r=2)
    edit(adapter / "adapter_config.json", lambda data: data.update(r=float("inf")))
    assert "adapter_config.json is damaged" in refused(folder, "--adapter", str(adapter))


def test_kept_adapters_take_room_too(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from lora import write_lora

    from uservlm.converters.adapters import open_adapter

    model = make_checkpoint("small")
    shape = open_checkpoint(model).shape
    kept = open_adapter(write_lora(model, tmp_path / "fair"), shape)
    options = ExportOptions(model, tmp_path / "b", kept={"fair": tmp_path / "fair"})
    stored = (tmp_path / "fair" / "adapter_model.safetensors").stat().st_size
    more = disk_need(shape, options, [kept, kept]) - disk_need(shape, options)
    assert 0.9 < more / (2 * stored) < 1
