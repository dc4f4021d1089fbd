"""What can stop an export, each error naming the value and the way out.

Knows nothing of how they are shown; `export.py` prints them as one line.
"""

from uservlm.runtime.errors import UserVLMError


class CheckpointError(UserVLMError):
    """The checkpoint is missing, damaged, not a PaliGemma 2, or its tensors do not fit it."""


class TokenizerError(UserVLMError):
    """The tokenizer cannot be written as a GGUF vocabulary that gives the same ids."""


class ConversionError(UserVLMError):
    """A tensor or graph cannot be written in the form asked for."""


class ParityError(UserVLMError):
    """The exported bundle does not answer like the original."""


class OutputError(UserVLMError):
    """The place the bundle should go to cannot take it."""
