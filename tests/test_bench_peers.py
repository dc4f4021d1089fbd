"""A peer's environment is whole or not taken, and its side obeys from inside of it."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from uservlm.bench import openvino_model
from uservlm.bench.peer_environment import (
    STAMP,
    PeerError,
    find_python,
    is_made,
)
from uservlm.bench.side import Side, SideError
from uservlm.runtime.verified import cache_folder

PUBLISHED_IDS = {"<|im_end|>": 151_645, "<|vision_start|>": 151_652, "<|image_pad|>": 151_655}
PUBLISHED_WEIGHTS = 3_754_622_976
PERSONAL_CACHE = cache_folder().parent
"""Of whoever runs the tests, seen before conftest.py gives them one of their own."""
CHILD = """
import sys
from uservlm.bench.serving import serve

def turn(tokens):
    print("a library talks")
    if tokens == 13:
        raise ValueError("thirteen is too many")
    return {"answer_tokens": tokens / 1, "modules": float("numpy" in sys.modules)}

serve({"turn": turn})
"""


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked for anywhere but where a test says, and no answer is waited for."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of our own, the same for all tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    return place / "uservlm" / "peers"


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Requirements: two wheels made here, one of which is to be taken out again."""
    folder = tmp_path_factory.mktemp("wheels")
    places = [wheel(folder, name).as_uri() for name in ("kept", "taken")]
    file = folder / "tiny.txt"
    file.write_text(f"# without: taken\nkept @ {places[0]}\ntaken @ {places[1]}\n")
    return file


def wheel(folder: Path, name: str) -> Path:
    """Make the smallest wheel that pip installs."""
    path, info = folder / f"{name}-1-py3-none-any.whl", f"{name}-1.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", "")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    return path


def imports(python: Path, module: str) -> bool:
    """Whether that Python has a module, the working folder's not counted."""
    command = [python, "-c", f"import {module}"]
    return not subprocess.run(command, cwd="/", capture_output=True).returncode


def test_an_environment_has_what_is_listed_and_is_made_once(cache: Path, listed: Path) -> None:
    said: list[str] = []
    python = find_python("tiny", said.append, listed)
    assert python.parents[1] == cache / "tiny"
    assert len(said) == 1
    assert imports(python, "kept")
    assert not imports(python, "taken")
    assert imports(python, "uservlm.bench.serving")
    assert not imports(python, "uservlm.runtime")
    assert find_python("tiny", said.append, listed) == python
    assert len(said) == 1


def test_a_side_obeys_from_inside_an_environment(cache: Path, listed: Path, tmp_path: Path) -> None:
    """With the standard library alone; what libraries print is not taken for an answer."""
    python = find_python("tiny", str, listed)
    (tmp_path / "child.py").write_text(CHILD)
    with Side("child", python=str(python), environment={"PYTHONPATH": str(tmp_path)}) as side:
        assert side("turn", tokens=5) == {"answer_tokens": 5.0, "modules": 0.0}
        assert side("memory")["peak_bytes"] > 10**6
        assert side.ready_s > 0
        with pytest.raises(SideError, match=r"child ended with code 1: .*thirteen is too many"):
            side("turn", tokens=13)


def test_half_an_environment_is_not_taken(cache: Path, listed: Path) -> None:
    """As a kill leaves it: everything but the stamp."""
    python = find_python("tiny", str, listed)
    (cache / "tiny" / STAMP).unlink()
    left = cache / "tiny" / "left"
    left.touch()
    said: list[str] = []
    assert find_python("tiny", said.append, listed) == python
    assert said
    assert not left.exists()
    assert imports(python, "kept")


def test_other_requirements_make_another_environment(
    cache: Path, listed: Path, tmp_path: Path
) -> None:
    find_python("tiny", str, listed)
    other = tmp_path / "other.txt"
    other.write_text("# nothing\n")
    assert not imports(find_python("tiny", str, other), "kept")


def test_what_pip_cannot_find_is_told_in_one_sentence(cache: Path, tmp_path: Path) -> None:
    listed = tmp_path / "missing.txt"
    listed.write_text("no-such-package-of-ours==1\n")
    with pytest.raises(PeerError) as caught:
        find_python("missing", str, listed)
    assert "missing could not be installed: " in str(caught.value)
    assert "no-such-package-of-ours==1" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (cache / "missing" / STAMP).exists()


def test_no_address_of_an_index_is_told(cache: Path, tmp_path: Path) -> None:
    """Configured ones may hold a password, and the sentence goes into a published page."""
    listed = tmp_path / "nobody.txt"
    listed.write_text("thing @ http://user:secret@localhost:9/thing-1-py3-none-any.whl\n")
    with pytest.raises(PeerError) as caught:
        find_python("nobody", str, listed)
    assert "secret" not in str(caught.value)
    assert "localhost" not in str(caught.value)


def test_the_model_has_the_published_size_and_ids(tmp_path: Path) -> None:
    import torch
    import transformers

    shape = openvino_model.REAL
    with torch.device("meta"):
        config = transformers.Qwen2_5_VLConfig(**openvino_model._config(shape))
        model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    assert sum(weight.numel() for weight in model.parameters()) == PUBLISHED_WEIGHTS
    openvino_model.write_words(tmp_path / "words", shape)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "words")
    assert len(tokenizer) == shape.pieces + len(openvino_model.SPECIAL) <= shape.rows
    assert {text: tokenizer.convert_tokens_to_ids(text) for text in PUBLISHED_IDS} == PUBLISHED_IDS
    assert config.image_token_id == PUBLISHED_IDS["<|image_pad|>"]
    asked = "Wie geht es dir heute, früh um 7?"
    assert tokenizer.decode(tokenizer.encode(asked)) == asked


@pytest.mark.skipif(not is_made("openvino"), reason="OpenVINO's environment is not made here")
def test_openvino_answers_about_a_new_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A miniature goes the whole way; 448 x 448 pixels are 256 tokens."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(PERSONAL_CACHE))
    python = find_python("openvino", str)
    model = tmp_path / "model"
    made = [python, "-m", "uservlm.bench.openvino_model", model, "miniature"]
    subprocess.run(made, check=True, capture_output=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with Side("uservlm.bench.side_openvino", str(model), "1", python=str(python)) as side:
        few, many = (side("turn", question_tokens=n, answer_tokens=4) for n in (7, 50))
        large = side("turn", question_tokens=7, answer_tokens=1, image_size=896)
    assert many["prompt_tokens"] - few["prompt_tokens"] == 43
    assert large["prompt_tokens"] - few["prompt_tokens"] == 1024 - 256
    assert (many["answer_tokens"], large["answer_tokens"]) == (4, 1)
    assert many["decode_s"] > 0 == large["decode_s"]
    assert many["ttft_s"] == pytest.approx(many["vision_s"] + many["prefill_s"])
