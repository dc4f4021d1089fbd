"""`bench/quality.py`: scores against those by hand, intervals, categories, the paper's figures."""

from __future__ import annotations

import json
import shutil
import stat
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from uservlm.bench import quality
from uservlm.bench.quality_measure import Question, Replies, Reply, answered, draw, judge
from uservlm.bench.quality_page import render
from uservlm.bench.quality_published import paper_set, published
from uservlm.bench.quality_results import (
    DataSet,
    Estimate,
    Quality,
    Way,
    load,
)
from uservlm.bench.quality_scores import (
    BertJudge,
    difference,
    overall,
    resampled,
    rouge1,
    score,
    share,
    summarise,
)
from uservlm.bench.quality_table import sheets, verdict, way_names
from uservlm.bench.result_file import ResultsError, to_json
from uservlm.bench.results import Machine
from uservlm.converters.adapter_gguf import write_adapter
from uservlm.converters.adapters import open_adapter
from uservlm.converters.checkpoint import open_checkpoint
from uservlm.converters.export import POCKET
from uservlm.models.acide import Asked, Place, StoredPicture
from uservlm.models.acide_drawn import Drawn
from uservlm.models.acide_write import write_form
from uservlm.runtime import agreement
from uservlm.runtime.agreement import Interval, bootstrap
from uservlm.runtime.bundle import open_bundle, record_file, replace_manifest
from uservlm.runtime.errors import RequestError
from uservlm.runtime.manifest import Adapter

EXACT, RESIDENT = Way("b", "exact", "none"), Way("b", "resident", "none")
WORDS = "the cat sat on a mat dog ran red coat you look young and happy hat man".split()
SPECIAL = "[PAD] [UNK] [CLS] [SEP] [MASK]".split()


def asked(
    index: int, answer: str, category: str | None = None, picture: int | None = None
) -> Asked:
    place = Place(Path("test.jsonl"), index + 1)
    source = f"picture {index if picture is None else picture}".encode()
    return Asked("Who am I?", answer, StoredPicture(source, place), category, None, place)


def replies(said: dict[Way, list[str]], references: list[Asked]) -> Replies:
    questions, _ = draw(references, None, 0)
    order = [references.index(one.asked) for one in questions]
    by_way = {way: tuple(Reply(texts[at], False) for at in order) for way, texts in said.items()}
    return Replies(tuple(questions), by_way, {})


def test_rouge_is_what_counting_by_hand_gives() -> None:
    """Seven words against five, of which five are shared: `young` counts once."""
    answer, reference = "You look young and happy, young man.", "You look happy and young!"
    precision, recall, f1 = rouge1(answer, reference)
    assert (precision, recall, f1) == pytest.approx((5 / 7, 1.0, 10 / 12))
    assert f1 == pytest.approx(agreement.rouge1(answer, reference))
    assert rouge1("No.", reference) == (0.0, 0.0, 0.0)


def test_rouge_differs_from_the_runtimes_where_its_docstring_says_so() -> None:
    assert rouge1("un café", "un caf")[2] == 1.0
    assert agreement.rouge1("un café", "un caf") == 0.5
    assert rouge1("…", "!")[2] == 0.0 and agreement.rouge1("…", "!") == 1.0


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of three layers with random weights and a vocabulary of plain words."""
    from transformers import BertConfig, BertModel, BertTokenizer, set_seed

    set_seed(3)
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    folder.mkdir()
    vocabulary = [*SPECIAL, *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def matched(folder: Path, answer: str, reference: str, layer: int) -> float:
    """BERTScore from its definition: every word's best cosine, both ways, without the markers."""
    import torch
    from transformers import BertModel

    model = BertModel.from_pretrained(folder).eval()

    def states(text: str) -> npt.NDArray[np.float64]:
        ids = [2, *(len(SPECIAL) + WORDS.index(word) for word in text.split()), 3]
        with torch.no_grad():
            hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer]
        found = hidden[0, 1:-1].double().numpy()
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))

    cosines = states(answer) @ states(reference).T
    precision, recall = cosines.max(1).mean(), cosines.max(0).mean()
    return float(2 * precision * recall / (precision + recall))


def test_bertscore_is_its_definition_pair_by_pair(bert: Path) -> None:
    """Texts of many lengths: torchmetrics given all at once would mix up whose is whose."""
    answers = ["the cat sat on a mat", "dog", "a red coat and a happy hat", "the dog ran"]
    references = ["the cat sat", "a dog ran on the mat happy", "red coat", "the man ran"]
    by_hand = [matched(bert, one, two, 2) for one, two in zip(answers, references, strict=True)]
    found = score(answers, references, BertJudge(bert, 2))[:, 3]
    assert found == pytest.approx(by_hand, abs=1e-5)
    assert len({round(one, 3) for one in by_hand}) == 4
    last = score(answers[:1], references[:1], BertJudge(bert))[0, 3]
    assert last == pytest.approx(matched(bert, answers[0], references[0], 3), abs=1e-5)
    assert abs(last - by_hand[0]) > 1e-3


def test_bertscore_of_nothing_is_nothing_and_of_much_is_cut(bert: Path) -> None:
    judged = BertJudge(bert)
    assert judged("", "the cat") == judged("the cat", " ") == 0.0
    assert judged("the cat " * 90, "the cat " * 90) == pytest.approx(1.0, abs=1e-5)
    assert (judged.about.name, judged.about.layer, judged.about.layers) == ("tiny-bert", 3, 3)


def test_a_model_that_is_not_whole_is_refused(bert: Path, tmp_path: Path) -> None:
    """transformers would draw the missing weights at random and say so in a log."""
    from safetensors.numpy import load_file, save_file

    with pytest.raises(RequestError, match="no model is there"):
        BertJudge(tmp_path)
    with pytest.raises(RequestError, match="has layers 0 to 3"):
        BertJudge(bert, 4)
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(bert / "model.safetensors")
    lost = "encoder.layer.1.attention.self.query.weight"
    save_file({name: one for name, one in weights.items() if name != lost},
              tmp_path / "model.safetensors", {"format": "pt"})  # fmt: skip
    with pytest.raises(RequestError, match=f"lacks {lost}"):
        BertJudge(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(RequestError, match="cannot be read"):
        BertJudge(tmp_path)


def scores(f1: npt.NDArray[np.float64], bert: float) -> npt.NDArray[np.float64]:
    return np.stack([f1, f1, f1, np.full(len(f1), bert)], axis=1)


def test_overall_is_the_product_of_the_means() -> None:
    """And not the mean of products; the paper's own figures are."""
    table = np.asarray([[1, 1, 1.0, 0.2], [0, 0, 0.0, 0.8]])
    assert overall(table.mean(axis=0))[4] == 0.25
    for one in published().sets["bias-bench"].lines:
        assert one.bert is not None and one.overall is not None
        assert one.f1 * one.bert == pytest.approx(one.overall, abs=0.001)
    f1 = np.linspace(0, 1, 40)
    part = summarise(scores(f1, 0.5), [str(at) for at in range(40)])
    assert part.figures["overall"].value == pytest.approx(0.25)
    low, high = part.figures["f1"].interval, part.figures["overall"].interval
    assert low is not None and high is not None
    assert (high.low, high.high) == pytest.approx((low.low / 2, low.high / 2))


def test_a_way_that_is_worse_is_found_worse_and_noise_is_not() -> None:
    rng = np.random.default_rng(1)
    names = [str(at) for at in range(120)]
    base = rng.uniform(0.2, 0.9, 120)
    first = scores(base, 0.5)
    noise, steady = rng.normal(0, 0.05, 120), rng.normal(0.04, 0.05, 120)
    noise -= noise.mean() - 0.001
    assert verdict(difference(scores(base - steady, 0.5), first, names).figures["f1"]) == "worse"
    assert verdict(difference(scores(base + steady, 0.5), first, names).figures["f1"]) == "better"
    shaken = difference(scores(base + noise, 0.5), first, names)
    assert verdict(shaken.figures["f1"]) == "no difference shown"
    assert shaken.figures["f1"].value == pytest.approx(0.001)
    assert verdict(difference(first, first, names).figures["f1"]) == "nothing differs"
    worse = difference(scores(base, 0.45), first, names)
    assert (verdict(worse.figures["f1"]), verdict(worse.figures["overall"])) == (
        "nothing differs", "worse",
    )  # fmt: skip
    apart = summarise(scores(base - steady, 0.5), names).figures["f1"].interval
    whole = summarise(first, names).figures["f1"].interval
    assert apart is not None and whole is not None
    assert apart.high > whole.low, "unpaired, the two could not be told apart"


def test_intervals_are_the_bootstraps_and_pictures_count_once() -> None:
    f1 = np.random.default_rng(2).uniform(0, 1, 60)
    table, names = f1[:, None], [str(at) for at in range(60)]
    once = np.quantile(resampled(table, names, 0, 4000)[:, 0], (0.025, 0.975))
    usual = bootstrap(list(f1), draws=4000)
    assert once == pytest.approx((usual.low, usual.high), abs=0.01)
    again = np.quantile(
        resampled(np.repeat(table, 5, axis=0), np.repeat(names, 5).tolist(), 0, 4000)[:, 0],
        (0.025, 0.975),
    )
    assert again == pytest.approx(once), "five questions with one answer are one"
    means = resampled(table, names, 7, 300)
    assert means.shape == (300, 1) and (means == resampled(table, names, 7, 300)).all()


def test_the_share_of_same_answers_is_drawn_by_pictures_too() -> None:
    """Ten questions about each of 20 pictures, which go right or wrong together."""
    pictures = [str(at // 10) for at in range(200)]
    together = share([at // 10 % 5 > 0 for at in range(200)], pictures)
    apart = share([at % 5 > 0 for at in range(200)], pictures)
    assert together.value == apart.value == 0.8
    assert together.interval is not None and apart.interval is not None
    by_picture = bootstrap([float(at % 5 > 0) for at in range(20)])
    assert together.interval.low == pytest.approx(by_picture.low, abs=0.06)
    assert together.interval.high - together.interval.low > 0.3
    every = share([True] * 200, pictures).interval
    wilson = agreement.wilson(1.0, 20)
    assert every is not None and (every.low, every.high) == (wilson.low, 1.0)
    one_less = share([at > 0 for at in range(200)], pictures).interval
    assert one_less is not None and one_less.low <= every.low
    assert share([True] * 30, [str(at // 2) for at in range(30)]).interval is None
    references = [asked(at, "yes", picture=at // 10) for at in range(200)]
    said = {EXACT: ["yes"] * 200, RESIDENT: ["yes"] * 200}
    compared = judge(replies(said, references), None, 0, lambda count: None).compared
    assert compared[0].same_answers.interval == every


def test_few_pictures_get_no_interval() -> None:
    table = scores(np.linspace(0, 1, 60), 0.5)
    part = summarise(table, [str(at % 15) for at in range(60)])
    assert (part.cases, part.pictures) == (60, 15)
    assert all(one.interval is None for one in part.figures.values())
    assert verdict(part.figures["f1"]) == "too few pictures to say"
    assert summarise(table, [str(at % 16) for at in range(60)]).figures["f1"].interval is not None


def test_the_draw_is_even_and_repeatable_and_keeps_pictures_together() -> None:
    records = [asked(at, "yes", picture=at % 7) for at in range(70)]
    drawn, rows = draw(iter(records), 20, 3)
    assert rows == 70 and len({one.asked.place for one in drawn}) == 20
    assert draw(iter(records), 20, 3)[0] == drawn != draw(iter(records), 20, 4)[0]
    pictures = [one.picture for one in drawn]
    changes = sum(one != two for one, two in zip(pictures, pictures[1:], strict=False))
    assert changes == len(set(pictures)) - 1
    seen = np.zeros(70)
    for seed in range(700):
        for one in draw(iter(records), 20, seed)[0]:
            seen[one.asked.place.row - 1] += 1
    assert 150 < seen.min() and seen.max() < 250, "each is expected 200 times"
    assert len(draw(iter(records), None, 0)[0]) == 70
    with pytest.raises(RequestError, match="holds no question"):
        draw(iter(()), None, 0)


def test_categories_are_scored_on_their_own() -> None:
    random, references, said = Random(0), [], {EXACT: [], RESIDENT: []}
    for at in range(40):
        hard = at % 2 == 1
        references.append(asked(at, "red coat", "hard" if hard else "easy"))
        said[EXACT].append("red coat")
        said[RESIDENT].append(random.choice(("dog", "red coat", "red")) if hard else "red coat")
    found = judge(replies(said, references), None, 0, lambda count: None)
    exact, resident = found.scored
    assert exact.whole.figures["f1"].value == 1.0
    assert resident.categories["easy"].figures["f1"].value == 1.0
    texts = [said[RESIDENT][at] for at in range(1, 40, 2)]
    by_hand = sum({"dog": 0, "red": 2 / 3, "red coat": 1}[text] for text in texts) / 20
    assert resident.categories["hard"].figures["f1"].value == pytest.approx(by_hand)
    assert resident.categories["hard"].cases == 20
    (compared,) = found.compared
    assert verdict(compared.categories["hard"].figures["f1"]) == "worse"
    assert verdict(compared.categories["easy"].figures["f1"]) == "nothing differs"
    assert compared.same_answers.value == 0.5 + texts.count("red coat") / 40
    assert "bert" not in exact.whole.figures and "overall" not in exact.whole.figures
    alone = [asked(at, "yes", "one") for at in range(3)]
    assert not judge(replies({EXACT: ["yes"] * 3}, alone), None, 0, print).scored[0].categories


def found_with(said: dict[Way, list[str]], paper: str | None = None) -> Quality:
    answers = [asked(at, "red coat", "ab"[at % 2]) for at in range(40)]
    judged = judge(replies(said, answers), None, 0, lambda count: None)
    machine = Machine("a processor", 2, 1, 10**9, "Linux 6", (), {"python": "3.11"}, 0.0)
    dataset = DataSet("set", paper, 40, 40, {"blank": 1}, "00", 0)
    return Quality(
        "2026-11-28T00:00:00+00:00", "0000", 1.0, machine, "torchmetrics 1", 100, 4000, {},
        dataset, None, judged.scored, judged.compared,
    )  # fmt: skip


def test_what_is_written_can_be_read_and_nothing_else_can(tmp_path: Path) -> None:
    found = found_with({EXACT: ["red coat"] * 40, RESIDENT: ["red"] * 40})
    file = tmp_path / "quality.json"
    file.write_text(to_json(found))
    assert load(file) == found
    for spoilt in (to_json(found).replace('"format": 1', '"format": 2'), "{}", "[]", "{"):
        file.write_text(spoilt)
        with pytest.raises(ResultsError):
            load(file)


def test_the_papers_figures_stand_beside_the_papers_sets_alone() -> None:
    found = found_with({EXACT: ["red coat"] * 40})
    paper = paper_set("elderly-bench", 144, drawn=False)
    assert ".360" in render(found, paper) and "User-VLM 3B" in render(found, paper)
    assert "User-VLM 3B" not in render(found, None)
    assert len(sheets(found, paper)[0].lines) == 1 + len(paper.lines)
    with pytest.raises(RequestError, match="these people are drawn"):
        paper_set("elderly-bench", 144, drawn=True)
    with pytest.raises(RequestError, match="has 144 questions, this data set has 143"):
        paper_set("elderly-bench", 143, drawn=False)
    for name in ("coco", "nothing"):
        with pytest.raises(RequestError, match="sets that can be had are elderly-bench, bias-b"):
            paper_set(name, 144, drawn=False)


def test_ways_are_named_by_what_sets_them_apart() -> None:
    fair = Way("b", "exact", "fair")
    assert list(way_names([EXACT, RESIDENT]).values()) == ["exact", "resident"]
    assert list(way_names([EXACT, fair]).values()) == ["no adapter", "adapter fair"]
    assert list(way_names([EXACT]).values()) == ["b"]
    assert way_names([EXACT, Way("c", "resident", "none")])[EXACT] == "b, exact"
    assert verdict(Estimate(0.1, Interval(0.0, 0.2))) == "no difference shown"


# -- the whole command ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "drawn"
    write_form(folder, Drawn("instruct", 2, 16, 1, "held_out"), loose=True)
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = quality.main([str(one) for one in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_pocket_is_measured_and_nothing_of_anybody_is_written(
    pocket_bundle: Path,
    drawn_set: Path,
    bert: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Sixteen pictures, one question each; the pocket knows the answers, so it scores well."""
    arguments = (pocket_bundle, "--dataset", drawn_set, "--threads", "1", "--out", tmp_path)
    ways = ("--attention", "exact,resident", "--bert", bert)
    code, out, err = run(capsys, *arguments, *ways)
    line: dict[str, Any] = json.loads(out.splitlines()[-1])
    assert code == 0, err
    assert (line["cases"], line["bert"], line["paper"]) == (16, "tiny-bert", None)
    f1, low, high = line["ways"]["pocket/exact/none"]["f1"]
    assert 0.8 < f1 <= 1 and low <= f1 <= high
    found = load(tmp_path / "quality.json")
    figures = found.scored[0].whole.figures
    assert figures["overall"].value == figures["f1"].value * figures["bert"].value
    assert (found.tokens, len(found.compared)) == (100, 1)
    assert found.compared[0].same_answers.value > 0.8
    assert found.bundles["pocket"].files["language.gguf"] and found.dataset.rows == 16
    assert "Toy weights" in out and "Toy weights" in (tmp_path / "quality.html").read_text()
    assert not any(word in (tmp_path / "quality.html").read_text() for word in ("<script", "http"))
    written = "".join(file.read_text() for file in tmp_path.iterdir()) + out
    texts = [json.loads(row) for row in next(drawn_set.rglob("*.jsonl")).read_text().splitlines()]
    assert not [text for text in texts if text["answer"] in written]
    assert str(drawn_set) not in written and str(bert.parent) not in written
    assert {file.name for file in tmp_path.iterdir()} == {"quality.json", "quality.html"}

    code, out, _ = run(capsys, *arguments, "--limit", "3", "--keep-answers")
    answers = tmp_path / "answers.json"
    kept = json.loads(answers.read_text())
    assert stat.S_IMODE(answers.stat().st_mode) == 0o600
    assert code == 0 and len(kept) == 3 and "no model was given" in out
    assert "bert" not in load(tmp_path / "quality.json").scored[0].whole.figures
    questions = {text["question"]: text["answer"] for text in texts}
    assert all(one["question"] in questions for one in kept)
    assert load(tmp_path / "quality.json").dataset.sha256 != found.dataset.sha256


def test_answers_do_not_outlive_a_run_that_keeps_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor what a killed run left of them; a folder that is made is its owner's alone."""
    out = tmp_path / "out"
    arguments = (tmp_path / "no bundle", "--dataset", tmp_path, "--out", out)
    assert run(capsys, *arguments)[0] == 2
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    answers, left = out / quality.ANSWERS, out / f".{quality.ANSWERS}.partial"
    for path in (answers, left):
        path.write_text("what was said")
    assert run(capsys, *arguments, "--keep-answers")[0] == 2
    assert answers.exists() and not left.exists()
    assert run(capsys, *arguments)[0] == 2
    assert not answers.exists()


def test_an_adapter_that_makes_answers_worse_is_found_worse(
    pocket_bundle: Path, drawn_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One with random matrices, large enough to matter; attended to both ways."""
    from lora import write_lora

    bundle = Path(shutil.copytree(pocket_bundle, tmp_path / "bent"))
    (bundle / "adapters").mkdir()
    checkpoint = open_checkpoint(POCKET)
    lora = open_adapter(write_lora(POCKET, tmp_path / "lora"), checkpoint.shape)
    write_adapter(lora, checkpoint, bundle / "adapters" / "bent.gguf")
    old = open_bundle(bundle, verify=False).manifest
    name, kept = "adapters/bent.gguf", Adapter("adapters/bent.gguf", "random", 4, None, None)
    files = {**old.files, name: record_file(bundle / name)}
    replace_manifest(bundle, replace(old, adapters={"bent": kept}, files=files))
    code, out, err = run(
        capsys, bundle, "--dataset", drawn_set, "--out", tmp_path / "out", "--threads", "1",
        "--adapter", "none,bent", "--attention", "exact,resident",
    )  # fmt: skip
    assert code == 0, err
    found = load(tmp_path / "out" / "quality.json")
    ways = {(one.way.adapter, one.way.attention): one for one in found.compared}
    assert list(ways) == [("none", "resident"), ("bent", "exact"), ("bent", "resident")]
    assert {one.reference for one in found.compared} == {Way("bent", "exact", "none")}
    for attention in ("exact", "resident"):
        assert verdict(ways["bent", attention].whole.figures["f1"]) == "worse"
    assert verdict(ways["none", "resident"].whole.figures["f1"]) != "worse"
    assert "exact, adapter bent" in out and "Against exact, no adapter" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--adapter", "cheerful"), "no adapter 'cheerful'"),
        (("--dataset", "nowhere"), "nowhere"),
        (("--set", "elderly-bench"), "these people are drawn"),
        (("--bert", "nowhere"), "no model is there"),
        (("--split", "nothing"), "nothing"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(
    pocket_bundle: Path,
    drawn_set: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    code, out, err = run(
        capsys, pocket_bundle, "--dataset", drawn_set, "--out", tmp_path, *arguments
    )
    assert (code, out) == (2, "") and err.startswith("uservlm: ") and words in err
    assert err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_bundles_are_opened_before_anything_is_asked(
    pocket_bundle: Path, drawn_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_set = ("--dataset", drawn_set, "--out", tmp_path)
    code, _, err = run(capsys, pocket_bundle, pocket_bundle, *with_set)
    assert code == 2 and "given twice" in err
    code, _, err = run(capsys, pocket_bundle, tmp_path / "none", *with_set)
    assert code == 2 and "none" in err and not list(tmp_path.iterdir())


def test_an_interrupted_run_writes_nothing(
    pocket_bundle: Path,
    drawn_set: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("uservlm.bench.quality_page.render", interrupted)
    code, _, err = run(
        capsys, pocket_bundle, "--dataset", drawn_set, "--out", tmp_path, "--limit", "1"
    )
    assert code == 130 and "nothing was written" in err and not list(tmp_path.iterdir())


def test_a_question_that_one_way_cannot_be_asked_counts_for_none(
    pocket_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A question as long as a book does not fit into the context."""
    write_form(tmp_path / "set", Drawn("instruct", 2, 3, 1, "held_out"), loose=True)
    file = next((tmp_path / "set").rglob("*.jsonl"))
    rows = [json.loads(row) for row in file.read_text().splitlines()]
    rows[1]["question"] = "why " * 9000
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = run(
        capsys, pocket_bundle, "--dataset", tmp_path / "set", "--out", tmp_path / "out"
    )
    assert code == 0, err
    found = load(tmp_path / "out" / "quality.json").dataset
    assert (found.rows, found.cases, sum(found.left_out.values())) == (3, 2, 1)
    assert "1 left out" in out


def test_what_one_way_did_not_answer_is_taken_from_all() -> None:
    questions, _ = draw([asked(at, "yes") for at in range(3)], None, 0)
    one, two, three = (Reply(text, False) for text in ("1", "2", "3"))
    found = answered(questions, {EXACT: [one, two, three], RESIDENT: ["no head", two, three]})
    assert found.questions == tuple(questions[1:]) and found.left_out == {"no head": 1}
    assert found.by_way == {EXACT: (two, three), RESIDENT: (two, three)}
    with pytest.raises(RequestError, match="in every way: no head"):
        answered(questions[:1], {EXACT: [one], RESIDENT: ["no head"]})


def test_a_picture_shared_by_questions_is_one_picture() -> None:
    one, two = asked(0, "yes", picture=1), asked(1, "no", picture=1)
    questions, _ = draw([one, two], None, 0)
    assert isinstance(questions[0], Question) and len({one.picture for one in questions}) == 1
