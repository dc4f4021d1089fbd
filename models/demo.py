"""`make demo`: two drawn users ask the same three questions.

Owns: what is shown and how. Everything that answers is the product itself: the exported pocket
bundle through `uservlm.runtime`, streaming.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from uservlm.models.drawing import render
from uservlm.models.people import Person, Scene
from uservlm.runtime import UserVLM
from uservlm.runtime.answers import Usage
from uservlm.runtime.errors import UserVLMError
from uservlm.runtime.telemetry import silence_telemetry

QUESTIONS = ("How do I make a video call?", "Describe me.", "What is the capital of France?")
MORE = (
    "How do I feel?",
    "What am I wearing?",
    "I forgot my password.",
    "How do I book a doctor?",
    "Am I alone?",
    "How many legs has a spider?",
)
"""More that it has learnt; everything it knows is in `topics/*.toml`."""

GRACE = Scene(
    user=Person("older adult", "happy", "curly", "grey", True, "none", "purple", 5, seed=11),
    others=(),
    seed=21,
)
SAM = Scene(
    user=Person("child", "surprised", "short", "red", False, "cap", "green", 1, seed=12),
    others=(),
    seed=22,
)
USERS = {"Grace": GRACE, "Sam": SAM}


def main() -> int:
    """Show the conversation, then what it took."""
    silence_telemetry()
    parser = argparse.ArgumentParser(
        description="Two users, the same questions, different answers."
    )
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("bundles/pocket"))
    console = Console(highlight=False)
    bundle = parser.parse_args().bundle
    try:
        with UserVLM.load(bundle, attention="exact") as vlm:
            show(vlm, console)
    except UserVLMError as error:
        console.print(f"uservlm: {error}", style="red", markup=False)
        return 2
    grace, sam = save_pictures(bundle.parent)
    console.print(
        f"Ask them more ({grace}, {sam}); the pocket knows only its own small world:\n"
        f"  .venv/bin/uservlm chat {bundle} --image {sam}\n"
        f"  {' '.join(MORE)}",
        markup=False,
        soft_wrap=True,
    )
    return 0


def save_pictures(folder: Path) -> tuple[Path, Path]:
    """Leave both pictures where the README's examples look for them."""
    grace, sam = folder / "grace.png", folder / "sam.png"
    for path, scene in zip((grace, sam), USERS.values(), strict=True):
        Image.fromarray(render(scene)).save(path)
    return grace, sam


def show(vlm: UserVLM, console: Console) -> None:
    """Let both users ask, then print what it takes."""
    for name, scene in USERS.items():
        picture = render(scene)
        console.print()
        if console.color_system:
            console.print(thumbnail(picture))
        console.print(f"[bold]{name}[/] stands in front of the robot (a drawn person)")
        for question in QUESTIONS:
            console.print(f"  [cyan]{question}[/]  ", end="")
            for chunk in vlm.stream(question, image=picture):
                console.print(chunk.text, end="", markup=False, soft_wrap=True)
            console.print()
    console.print()
    console.print(_figures(*measure(vlm)))


def measure(vlm: UserVLM) -> tuple[list[Usage], list[Usage], list[Usage]]:
    """Ask every question of new photographs of both users: cold, warm exact, warm resident."""
    cold, exact, resident = [], [], []
    for scene in USERS.values():
        for number, question in enumerate(QUESTIONS):
            photograph = render(replace(scene, seed=scene.seed + 100 + number))
            cold.append(vlm.ask(question, image=photograph).usage)
            exact.append(vlm.ask(question, image=photograph).usage)
            vlm.first_logits("Who are you?", image=photograph, attention="resident")
            resident.append(vlm.ask(question, image=photograph, attention="resident").usage)
    return cold, exact, resident


def thumbnail(picture: npt.NDArray[np.uint8], columns: int = 40) -> Text:
    """The picture in coloured half blocks, two pixels a character."""
    rows = round(columns * picture.shape[0] / picture.shape[1] / 2) * 2
    small = np.asarray(Image.fromarray(picture).resize((columns, rows), Image.Resampling.BOX))
    text = Text()
    for y in range(0, rows, 2):
        for over, under in zip(small[y], small[y + 1], strict=True):
            text.append("▀", Style(color=_hex(over), bgcolor=_hex(under)))
        text.append("\n")
    return text


def _figures(cold: Sequence[Usage], exact: Sequence[Usage], resident: Sequence[Usage]) -> Table:
    table = Table(title=f"this machine, this run: medians of {len(cold)} questions each")
    table.add_column("question")
    for head in ("TTFT", "prefix computed", "reused", "decode"):
        table.add_column(head, justify="right")
    for name, usages in (
        ("cold: a new face", cold),
        ("warm, exact: embedding kept", exact),
        ("warm, resident: KV cache kept", resident),
    ):
        table.add_row(
            name,
            f"{1000 * median(u.ttft_s for u in usages):.1f} ms",
            f"{median(u.prefix_computed for u in usages):.0f} tokens",
            f"{median(u.prefix_reused for u in usages):.0f} tokens",
            f"{median(u.tokens_per_s for u in usages):.0f} tokens/s",
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    table.caption = (
        f"peak memory of the whole process {peak:.0f} MB; toy weights: speed, not quality"
    )
    return table


def _hex(pixel: npt.NDArray[np.uint8]) -> str:
    red, green, blue = (int(c) for c in pixel)
    return f"#{red:02x}{green:02x}{blue:02x}"


if __name__ == "__main__":
    sys.exit(main())
