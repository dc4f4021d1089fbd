"""What a bundle says about itself: the classes behind `manifest.json`, and its strict reading.

Owns: the format; the converter writes it through these classes, the runtime reads it through them.
Knows nothing of files: that a bundle's are there and whole is `bundle.py`'s business.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

import dacite

from uservlm.runtime.audit_figures import Audited
from uservlm.runtime.errors import BundleError
from uservlm.runtime.identity_figures import Identity
from uservlm.runtime.image import PixelSpec
from uservlm.runtime.vision_figures import VISION_FILES, GgmlVisionWeights, VisionKind

FORMAT = 4
"""Raised when an older runtime could no longer read a new bundle."""
READABLE = (2, 3, FORMAT)
"""2 knew no vision.gguf, 3 no audits: whatever they lack has a default that says so."""
UNAUDITED = 3
"""What a manifest without audits is written as: a runtime that knows none still reads all of it."""

MANIFEST_FILE = "manifest.json"

ENOUGH = 16
"""Cases below which an agreement decides nothing: two that agree by chance are soon found."""


@dataclass(frozen=True)
class Source:
    """Where the weights come from."""

    model: str
    """Hub id or the name of the folder that was exported (never an absolute path)."""
    revision: str | None
    """Commit of the hub repository, when there was one."""
    license: str
    """As the model card says, or "unknown"."""
    config_sha256: str
    """Of the checkpoint's config.json."""
    merged: tuple[str, ...] = ()
    """Adapters merged into the weights, in order: hub ids or folder names."""


@dataclass(frozen=True)
class Architecture:
    """The numbers of a PaliGemma 2, by the names its config.json uses."""

    image_size: int
    patch_size: int
    image_tokens: int
    """N = (image_size / patch_size)²."""
    width: int
    """Hidden size of the language model, d."""
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    """Rows of the token-embedding table."""
    context: int
    """Longest sequence the language model was made for, in tokens."""


@dataclass(frozen=True)
class Prompt:
    """The text around a question."""

    template: str
    """Follows `<bos>`; holds `{question}` once and ends in the newline PaliGemma expects."""
    max_new_tokens: int = 100
    """Longest answer by default, as in User-VLM's own example."""

    def fill(self, question: str) -> str:
        """Put the question into the template."""
        return self.template.replace("{question}", question)


@dataclass(frozen=True)
class FileRecord:
    """One file of the bundle."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Precision:
    """How the weights are stored."""

    language: str
    """q4_k_m, q4_0, q8_0 or f16."""
    vision: str
    """Of vision.onnx, int8 or fp32; of vision.gguf where there is no other, q8_0 or f32."""


@dataclass(frozen=True)
class Higher:
    """Tensors of the language model that are stored finer than the rest, and the reason."""

    tensors: tuple[str, ...]
    """GGUF names."""
    kind: str
    """GGUF type, e.g. Q6_K."""
    reason: str


@dataclass(frozen=True)
class LanguageWeights:
    """How the language model was made smaller."""

    kind: str
    """GGUF type of most matrices, e.g. Q4_K."""
    bits_per_weight: float
    """Over all of its weights."""
    higher: tuple[Higher, ...]
    largest_error: float
    """‖stored - original‖ / ‖original‖ of the worst tensor, over rows read back from the file."""
    importance: int
    """Calibration prompts the importance matrix was measured on; 0: none was used."""


@dataclass(frozen=True)
class VisionWeights:
    """How the vision encoder was made smaller: what int8 costs, and which matrices stay out."""

    pictures: int
    """How many it was measured on."""
    own_pictures: bool
    """Pictures given with --calibration; otherwise drawn people."""
    plain_cosine: float
    """Lowest mean-token cosine against float32 with every matrix in int8."""
    cosine: float
    """The same, as it is in the bundle."""
    lowest_token_cosine: float
    """Of the single worst token of all pictures, as it is in the bundle; a mean can hide it."""
    threshold: float
    """What `cosine` had to reach."""
    matrices: int
    """How many there are, those in float32 among them."""
    kept: tuple[str, ...]
    """Matrices that stay in float32, by their names in the checkpoint."""
    kept_bytes: int
    """What keeping them adds to the file."""


@dataclass(frozen=True)
class Parity:
    """The exported bundle against transformers in float32, on fixed pictures and questions.

    Behind the first token both sides are given the bundle's own greedy answer token by token:
    whether the original would have said the same is decided without its saying it.
    """

    cases: int
    """Pairs of picture and question."""
    vision_cosine: float
    """Lowest mean-token cosine of user embeddings over the pictures."""
    first_token_kl: float
    """Mean KL(reference ‖ bundle) of the first answer token, in nats."""
    first_token_top1: float
    """Share of cases whose most likely first token agrees."""
    answer_positions: int
    """Positions of all answers, the first tokens among them."""
    answer_kl: float
    """Mean KL(reference ‖ bundle) over them, in nats."""
    answer_top1: float
    """Share of them whose most likely token agrees."""
    greedy_agreement: float
    """Share of cases whose whole greedy answer is the same text."""
    threshold: dict[str, float] = field(default_factory=dict)
    """What each figure had to reach for the export to go through."""


@dataclass(frozen=True)
class Agreement:
    """Resident attention against exact attention, both run by this bundle (DESIGN section 5)."""

    cases: int
    first_token_top1: float
    first_token_kl: float
    rouge1: float
    """Mean ROUGE-1 F1 of the resident answer against the exact one."""
    threshold: float
    """`attention="auto"` takes resident when first_token_top1 and rouge1 both reach this."""

    @property
    def faithful(self) -> bool:
        """Whether resident may stand in for exact: good figures over ENOUGH cases."""
        return self.cases >= ENOUGH and min(self.first_token_top1, self.rouge1) >= self.threshold


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter kept apart from the weights, switched on by name at run time."""

    file: str
    """GGUF file, relative to the bundle."""
    source: str
    """Hub id or the name of the folder it came from."""
    rank: int
    """The largest of its matrices."""
    parity: Parity | None
    """Of the bundle with this adapter on, against the checkpoint with it merged."""
    resident: Agreement | None


Mask: TypeAlias = Literal["paligemma", "user-first"]


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` holds."""

    format: int
    name: str
    source: Source
    architecture: Architecture
    prompt: Prompt
    pixels: PixelSpec
    precision: Precision
    files: dict[str, FileRecord]
    """By file name relative to the bundle; all files but the manifest itself."""
    versions: dict[str, str]
    """Packages that made the bundle."""
    parity: Parity | None
    """None only while the converter is measuring it."""
    resident: Agreement | None
    """None: not measured, so resident is used only when asked for."""
    language: LanguageWeights | None = None
    """None: float weights."""
    vision: VisionWeights | None = None
    """Of vision.onnx; None: float32, or there is none."""
    adapters: dict[str, Adapter] = field(default_factory=dict)
    """By name, kept apart; none is on unless asked for."""
    identity: Identity | None = None
    """None: not measured, so nobody is identified."""
    mask: Mask = "paligemma"
    """What the image could see while the checkpoint was tuned: everything, or, "user-first", never
    the question. To the latter resident is what exact is to the others."""
    vision_ggml: GgmlVisionWeights | None = None
    """None: there is no vision.gguf."""
    encoder: str | None = None
    """Names what user embeddings are made by, whichever of the vision files does it, and wherever
    one of them was left out: the SHA-256 of the first that was written. None: see `sees_as`."""
    audits: dict[str, Audited] = field(default_factory=dict)
    """By adapter, "none" for the weights as they are; whether one still holds says `audited.py`."""

    @property
    def sees_as(self) -> str:
        """What user embeddings of this bundle are bound to, on disk and in memory.

        Both encoders count as one: their features differ by less than rounding to 8 bits does
        (`vision_ggml.cosine`), and who was looked at on a PC must be known on the robot's head.
        """
        return self.encoder or self.files[VISION_FILES[self.seeing[0]]].sha256

    @property
    def seeing(self) -> tuple[VisionKind, ...]:
        """What can compute features of this bundle, the usual way first; whole bundles have one."""
        return tuple(kind for kind, name in VISION_FILES.items() if name in self.files)

    def to_json(self) -> str:
        """Serialise, indented, keys in the order of the fields, as the oldest format that holds it.

        So an audit that is recorded makes a bundle unreadable to older runtimes, and nothing else
        does.
        """
        data = asdict(self)
        if not self.audits:
            del data["audits"]
            data["format"] = UNAUDITED
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Parse strictly: an unknown, missing or mistyped field is an error.

        An older format that is readable comes back as today's, so that writing it again is right.

        Raises:
            BundleError: not JSON, another format version, or a field that does not fit.
        """
        try:
            data: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise BundleError(
                f"{MANIFEST_FILE} is not JSON: {error}; export the bundle again"
            ) from error
        found = data.get("format") if isinstance(data, dict) else None
        if found not in READABLE:
            raise BundleError(
                f"{MANIFEST_FILE} has format {found!r}, this runtime reads "
                f"{' and '.join(map(str, READABLE))}: export the bundle again"
            )
        data["format"] = FORMAT
        try:
            return dacite.from_dict(Manifest, data, dacite.Config(strict=True, cast=[tuple, float]))
        except (dacite.DaciteError, ValueError, TypeError) as error:
            raise BundleError(f"{MANIFEST_FILE}: {error}; export the bundle again") from error
