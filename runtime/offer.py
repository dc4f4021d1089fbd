"""What a server answers with: the weights as they are, the adapters, or only some of these.

Owns: how `--adapter` and `--only` decide it. Knows nothing of a model's name on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass

from uservlm.runtime.adapters import NO_ADAPTER, choose
from uservlm.runtime.errors import AdapterError
from uservlm.runtime.manifest import Manifest


@dataclass(frozen=True)
class Offer:
    """What may be asked for, by adapter; NO_ADAPTER is the weights as they are."""

    usual: str
    """What answers whoever asks for nothing in particular."""
    adapters: tuple[str, ...]
    """That can be asked for by name."""
    plain: bool
    """Whether the model's name alone may be asked for; it is answered by `usual`."""

    @property
    def all(self) -> tuple[str, ...]:
        """Everything that may answer, each once."""
        return tuple(dict.fromkeys((self.usual, *self.adapters)))


def offer(adapter: str | None, only: str | None, manifest: Manifest) -> Offer:
    """Decide what is served.

    Args:
        adapter: of --adapter: what answers who asks for none of their own.
        only: of --only: names with commas between them, NO_ADAPTER among them or not; None for all.
        manifest: of the bundle.

    Raises:
        AdapterError: a name that the bundle has not, or an `adapter` that `only` leaves out.
    """
    if only is None:
        return Offer(choose(adapter, None, manifest) or NO_ADAPTER, tuple(manifest.adapters), True)
    names = tuple(dict.fromkeys(name.strip() for name in only.split(",") if name.strip()))
    for name in names:
        choose(name, None, manifest)
    if not names:
        raise AdapterError(
            "--only names nothing: give adapters, or none for the weights as they are"
        )
    if adapter is None:
        usual = NO_ADAPTER if NO_ADAPTER in names else names[0]
    else:
        usual = choose(adapter, None, manifest) or NO_ADAPTER
    if usual not in names:
        raise AdapterError(f"--adapter {usual} is not among --only {only}: give it there too")
    adapters = tuple(name for name in names if name != NO_ADAPTER)
    return Offer(usual, adapters, plain=NO_ADAPTER in names)
