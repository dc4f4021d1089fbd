"""Why there is no proof: an error each, naming what is missing and the way out.

They are raised where the fault is found and caught once, by `prove.py`. A proof that was run and
did not hold is no error: it is written down as such. Imports nothing, because the programs that
shut others in start quickly.
"""


class ProofError(Exception):
    """Base of them all."""


class EmptyRootError(ProofError):
    """Nothing can be shut in on this machine."""


class OldKernelError(ProofError):
    """The kernel takes no filter of system calls."""


class CountError(ProofError):
    """The instructions cannot be counted."""


class SubjectError(ProofError):
    """What is to be proven is missing or damaged: a runtime, a bundle, the host's own answers."""


class RecordError(ProofError):
    """A proof that was written down cannot be read."""
