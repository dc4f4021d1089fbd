"""ROUGE-1, BERTScore and Overall of answers, and where their means lie.

Owns: how an answer is scored against its reference, and how cases are resampled. Scores are
torchmetrics'. Pure but for the BERT model that it reads from disk: knows nothing of engines, data
sets or tables.

ROUGE-1 here is what published tables use: lower case, words of ASCII letters and digits, nothing
stemmed. `runtime/agreement.rouge1`, by which resident attention is judged on any language's text,
counts Unicode words. They give the same for plain English; "café" is `café` there and `caf` here.
An answer and a reference without any word score 0 here and 1 there, where two empty answers agree.

BERTScore is torchmetrics' for one pair at a time. Given many, version 1.9 lines them up by length
and puts them back wrongly (its issue 2728): pairs are then scored against each other's references.
There is no idf weighting and no rescaling with a baseline.

Intervals are the 95 % percentile bootstrap's. Whole pictures are drawn, each with all its
questions, for answers about one picture go right or wrong together; where each picture has one
question this is the usual bootstrap of cases.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from uservlm.bench.audit.estimates import floored
from uservlm.bench.quality_results import FIGURES, BertModel, Estimate, Part
from uservlm.runtime.agreement import Interval
from uservlm.runtime.errors import RequestError
from uservlm.runtime.manifest import ENOUGH

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Table: TypeAlias = npt.NDArray[np.float64]
"""float64 [cases, 3 or 4]: precision, recall, F1 and, with a model, BERTScore; each 0 … 1."""

DRAWS: Final = 4000
"""Of the bootstrap."""
AT_ONCE: Final = 250
"""Draws that are held in memory together: 140 MB for 70,000 pictures."""
LONGEST: Final = 512
"""Tokens of a text that a BERT model looks at, at most; torchmetrics' own limit."""
F1, BERT = 2, 3
"""Columns of a Table."""


def rouge1(answer: str, reference: str) -> tuple[float, float, float]:
    """Give precision, recall and F1 of the words that two texts share."""
    from torchmetrics.functional.text.rouge import rouge_score

    found = rouge_score(answer, reference, rouge_keys="rouge1")
    precision, recall, f1 = (
        float(found[f"rouge1_{name}"]) for name in ("precision", "recall", "fmeasure")
    )
    return precision, recall, f1


def metrics() -> str:
    """Name what computes the scores."""
    return f"torchmetrics {version('torchmetrics')}"


class BertJudge:
    """BERTScore by a model on disk; nothing is ever downloaded."""

    def __init__(self, folder: Path, layer: int | None = None) -> None:
        """Open a model.

        Args:
            folder: as `save_pretrained` writes it, with its tokenizer.
            layer: whose hidden states are compared, 0 being the embeddings; None takes the last.

        Raises:
            RequestError: no such model, a part of it is missing, or no such layer.
        """
        self._tokenizer, self._model = _open(folder)
        layers = int(self._model.config.num_hidden_layers)
        chosen = layers if layer is None else layer
        if not 0 <= chosen <= layers:
            raise RequestError(f"--bert-layer {chosen}: {folder} has layers 0 to {layers}")
        positions = int(self._model.config.max_position_embeddings)
        self._longest = min(LONGEST, self._tokenizer.model_max_length, positions)
        self.about = BertModel(folder.resolve().name, chosen, layers, _weights_sha256(folder))

    def __call__(self, answer: str, reference: str) -> float:
        """Give BERTScore's F1; 0 where either text is blank."""
        from torchmetrics.functional.text.bert import bert_score

        found = bert_score(
            [answer],
            [reference],
            model=self._model,
            user_tokenizer=self._tokenizer,
            num_layers=self.about.layer,
            max_length=self._longest,
            truncation=True,
        )
        return float(np.asarray(found["f1"]))


def score(answers: Sequence[str], references: Sequence[str], judge: BertJudge | None) -> Table:
    """Score every answer against its reference."""
    rows = []
    for answer, reference in zip(answers, references, strict=True):
        bert = () if judge is None else (judge(answer, reference),)
        rows.append((*rouge1(answer, reference), *bert))
    return np.asarray(rows, dtype=np.float64)


def summarise(table: Table, pictures: Sequence[str], seed: int = 0, draws: int = DRAWS) -> Part:
    """Give the mean of every figure with its interval.

    Args:
        table: of the cases.
        pictures: by case, which picture it is about.
        seed: of the draws.
        draws: how many.
    """
    drawn = overall(resampled(table, pictures, seed, draws))
    return _part(overall(table.mean(axis=0)), drawn, pictures)


def difference(
    table: Table, reference: Table, pictures: Sequence[str], seed: int = 0, draws: int = DRAWS
) -> Part:
    """Give by how much a way's figures exceed another's on the same cases, drawn together."""
    columns = table.shape[1]
    both = np.hstack([table, reference])
    drawn = resampled(both, pictures, seed, draws)
    value = overall(table.mean(axis=0)) - overall(reference.mean(axis=0))
    return _part(value, overall(drawn[:, :columns]) - overall(drawn[:, columns:]), pictures)


def share(
    held: Sequence[bool], pictures: Sequence[str], seed: int = 0, draws: int = DRAWS
) -> Estimate:
    """Give the share of cases that something holds for, its interval by pictures as all others.

    Where it holds for all, drawing tells nothing: the interval is no narrower than Wilson's of as
    many pictures, whatever was found. Fewer than ENOUGH pictures get none.
    """
    table, seen = np.asarray(held, dtype=np.float64)[:, None], len(set(pictures))
    value = float(table.mean())
    if seen < ENOUGH:
        return Estimate(value, None)
    ends = np.quantile(resampled(table, pictures, seed, draws), (0.025, 0.975))
    found = floored(Interval(float(ends[0]), float(ends[1])), seen)
    return Estimate(value, Interval(max(0.0, found.low), found.high))


def resampled(
    table: Table, pictures: Sequence[str], seed: int, draws: int
) -> npt.NDArray[np.float64]:
    """Draw as many pictures as there are, with replacement, and average their cases.

    Returns:
        float64 [draws, columns of the table].
    """
    names, place = np.unique(np.asarray(pictures), return_inverse=True)
    sums = np.zeros((len(names), table.shape[1]))
    np.add.at(sums, place, table)
    sizes, rng = np.bincount(place).astype(np.float64), np.random.default_rng(seed)
    even = np.full(len(names), 1 / len(names))
    means = []
    for begin in range(0, draws, AT_ONCE):
        times = rng.multinomial(len(names), even, size=min(AT_ONCE, draws - begin))
        means.append((times @ sums) / (times @ sizes)[:, None])
    return np.concatenate(means)


def overall(means: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Append F1 × BERTScore, the paper's Overall, to means that have both.

    Args:
        means: float64 […, columns of a Table].
    """
    if means.shape[-1] <= BERT:
        return means
    product = means[..., F1] * means[..., BERT]
    return np.concatenate([means, product[..., None]], axis=-1)


def _part(
    values: npt.NDArray[np.float64], drawn: npt.NDArray[np.float64], pictures: Sequence[str]
) -> Part:
    seen = len(set(pictures))
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    figures = {
        name: Estimate(
            float(values[column]),
            Interval(float(low[column]), float(high[column])) if seen >= ENOUGH else None,
        )
        for column, name in zip(range(len(values)), FIGURES, strict=False)
    }
    return Part(len(pictures), seen, figures)


def _open(folder: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer

    if not (folder / "config.json").is_file():
        raise RequestError(
            f"--bert {folder}: no model is there; give the folder of one with its tokenizer"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, about = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first = str(error).partition("\n")[0]
        raise RequestError(f"--bert {folder} cannot be read: {first}") from error
    # transformers draws what a checkpoint lacks at random; BERTScore reads no pooler.
    lacking = [name for name in about["missing_keys"] if not name.startswith("pooler.")]
    if lacking:
        raise RequestError(f"--bert {folder} lacks {lacking[0]} and {len(lacking) - 1} more")
    return tokenizer, model


def _weights_sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        with file.open("rb") as opened:
            for block in iter(lambda: opened.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()
