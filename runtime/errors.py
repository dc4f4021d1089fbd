"""Every error the runtime raises on purpose, each naming the value and the way out.

They are raised where the fault is found and caught once, at the edge: the command line, a server's
request, a robot's dialogue turn. Nothing here knows how an error is shown or spoken.
"""


class UserVLMError(Exception):
    """Base of all errors that a user of the runtime can cause or mend."""


class BundleError(UserVLMError):
    """The bundle is missing, damaged, from another format, or its parts disagree."""


class ImageError(UserVLMError):
    """The picture cannot be read, is empty, or is not an image."""


class EmbeddingError(UserVLMError):
    """The user embedding has another shape, or was made by another vision encoder."""


class QuestionError(UserVLMError):
    """The question is empty or does not fit into the context."""


class RequestError(UserVLMError):
    """The call itself is wrong: two pictures, no picture, an option outside its range."""


class UnknownUserError(UserVLMError):
    """No user of that name is kept."""


class PictureNeededError(UnknownUserError):
    """The user is known, but nothing that this bundle can use is kept of them: look again."""


class AttentionError(UserVLMError):
    """The way of attending that was asked for is not known or not possible with this bundle."""


class AdapterError(UserVLMError):
    """The bundle has no adapter of that name."""


class AuditError(UserVLMError):
    """What is to be served has not passed an audit, or an audit would decide nothing."""


class IdentityError(UserVLMError):
    """Who is in view cannot be told: nothing was measured for this bundle, or not for so many."""


class IdentityOffError(IdentityError):
    """Nobody may be compared with those who are kept: so whoever runs this has decided."""


class BusyError(UserVLMError):
    """Too many questions are waiting for this engine: ask again later."""


class CancelledError(UserVLMError):
    """The turn was told to stop; what it had said until then has been given."""


class DeadlineError(UserVLMError):
    """The first word did not come in the time that the caller gave."""


class EngineError(UserVLMError):
    """llama.cpp, onnxruntime or ggml refused work that should have been possible."""


class ConsentError(UserVLMError):
    """Nobody consented to this being kept, or the consent has run out: record a new one."""


class StoreError(UserVLMError):
    """The users' store cannot be read or written: the disk, its rights, or the wrong key."""


class SealError(StoreError):
    """One sealed file is damaged, foreign, moved, or no plain file; nothing of it is given out."""


class BudgetError(UserVLMError):
    """The memory the caller allows does not hold the bundle."""
