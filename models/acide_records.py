"""What the records of ACIDE's sets are: pictures with a caption, a question, or a preference.

Owns: the kinds of records and the columns of each, the picture that is decoded when it is asked
for, and the rule that makes a plain question of a prompt. Knows nothing of files.

The columns of user-vlm-pt and user-vlm-instruct are those that `code/training/pre-training.py` and
`training/instruction-tuning.py` of hamedR96/User-VLM read. The cards on huggingface.co/ACIDE of
user-vlm-dpo and user-vlm-bias-bench (revision 91cf14e) list prompt, chosen, rejected, image and
category, all strings but the image. user-vlm-elderly-bench has question, answer and image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from uservlm.models.errors import Place, RecordError
from uservlm.models.prompt import TEMPLATE
from uservlm.runtime.errors import ImageError
from uservlm.runtime.image import open_picture

Kind: TypeAlias = Literal["captions", "asked", "preferences"]

COLUMNS: Final[Mapping[Kind, tuple[str, ...]]] = MappingProxyType(
    {
        "preferences": ("prompt", "chosen", "rejected", "category"),
        "asked": ("question", "answer"),
        "captions": ("text",),
    }
)
"""The texts that a record of each kind must have, beside its picture."""

ANNOTATED: Final = ("age_group", "expression", "relation")
"""Further columns of the sets we write: what is seen, never who somebody is."""

OPTIONAL: Final = ("category", *ANNOTATED)
"""Read where a set has them."""


@dataclass(frozen=True)
class Row:
    """One record as it lies in a file, its texts not yet checked."""

    place: Place
    values: Mapping[str, Any]
    picture: bytes | Path = field(repr=False)


@dataclass(frozen=True)
class StoredPicture:
    """A picture of a set, not decoded before it is asked for."""

    source: bytes | Path = field(repr=False)
    """Encoded bytes, or the file: either is a `runtime.image.Picture`."""
    place: Place

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Decode it: uint8 RGB [h, w, 3], upright, as `runtime/image.py` does for every picture.

        Raises:
            RecordError: it cannot be decoded, or has more pixels than `runtime.image.MAX_PIXELS`.
        """
        try:
            return np.asarray(open_picture(self.source))
        except ImageError as error:
            raise RecordError(self.place, "image", str(error)) from error


@dataclass(frozen=True)
class Annotation:
    """What can be seen of the user; the sets we write have it, ACIDE's do not."""

    age_group: str
    """Apparent, from `people.AGES`."""
    expression: str
    """From `people.EXPRESSIONS`."""
    relation: str
    """To others in view, from `people.COMPANY`."""


@dataclass(frozen=True)
class Captioned:
    """A picture and what it shows (user-vlm-pt)."""

    text: str
    picture: StoredPicture
    annotation: Annotation | None
    place: Place


@dataclass(frozen=True)
class Asked:
    """A picture, a question, the reference answer (user-vlm-instruct, user-vlm-elderly-bench)."""

    question: str
    answer: str
    picture: StoredPicture
    category: str | None
    annotation: Annotation | None
    place: Place


@dataclass(frozen=True)
class Preference:
    """A picture, a question, a better and a worse answer (user-vlm-dpo, user-vlm-bias-bench)."""

    prompt: str
    chosen: str
    rejected: str
    picture: StoredPicture
    category: str
    annotation: Annotation | None
    place: Place


def plain_question(prompt: str) -> str:
    """Take off what stands around the question for the model's sake.

    Taken off are, at both ends, `<image>`, `<bos>` and white space, then the two halves of
    User-VLM's template (`prompt.TEMPLATE`), whichever is there. The cards do not say which of these
    a prompt of user-vlm-dpo carries, so any may; a plain question comes back as it is.
    """
    before, _, after = TEMPLATE.strip().partition("{question}")
    text = _bare(prompt)
    return _bare(text.removeprefix(before.strip()).removesuffix(after.strip()))


def _bare(text: str) -> str:
    text = text.strip()
    for mark in ("<image>", "<bos>"):
        if text.startswith(mark) or text.endswith(mark):
            return _bare(text.removeprefix(mark).removesuffix(mark))
    return text
