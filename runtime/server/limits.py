"""What one brain takes on: sizes, numbers and times, the same at every door.

Owns: the figures. Knows nothing of who asks or how a refusal looks (`faults.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from uservlm.runtime.worker import MAX_WAITING


@dataclass(frozen=True)
class Limits:
    """Beyond these a request is refused at once, before anything is computed for it."""

    body_bytes: int = 16 * 2**20
    """Of an HTTP request; holds a picture of `image_bytes` in base64."""
    body_s: float = 30.0
    """For an HTTP request's body to arrive."""
    image_bytes: int = 11 * 10**6
    """Encoded, as a camera sends it."""
    pixels: int = 13 * 10**6
    """Of a picture, as its header says; Pepper's largest frame has 5 million, a telephone's usual
    one 12. Decoding one of 25 takes 574 MB, however few bytes it came in (measured, WebP)."""
    question_characters: int = 4_000
    name_bytes: int = 256
    """Of a user's id."""
    how_characters: int = 1_000
    """Of how somebody agreed to be kept."""
    answer_tokens: int = 1_024
    stops: int = 4
    waiting: int = MAX_WAITING
    """Turns that wait or run."""
    looking: int = 8
    """Pictures being looked at outside a turn, and people being prepared."""
    deadline_s: float = 120.0
    """To the first word, waiting included, for who names no deadline; and the most one may name."""
    turn_s: float = 600.0
    """For a whole answer."""
    watchers: int = 16
    """Pages open at once."""
    remembered_turns: int = 50
    """Turns the page can look back on; in memory only."""
    listenings: int = 8
    """Speakers that are listened to at once."""
    listening_s: float = 30.0
    """How long one is waited for of whom no sound comes."""
    sound_bytes: int = 2**16
    """Of one piece of sound: 2 s."""
    unheard_bytes: int = 5 * 32_000
    """Of one speaker's sound that waits to be decoded: 5 s."""
    unseen_s: float = 3_600.0
    """How long somebody who agreed to nothing stays in memory after they were last seen."""
    view_s: float = 120.0
    """How long a picture stays in view after it came; in memory only."""
    compares: bool = True
    """Whether anybody who is seen may be compared with those who are kept."""
