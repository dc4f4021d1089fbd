"""Kinds of command-line arguments that several benchmarks take.

Owns: their checks. Knows nothing of what they are for.
"""

from __future__ import annotations

import argparse


def count(text: str) -> int:
    """Read a number of 1 or more, for `type=` of argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give 1 or more")
    return int(text)
