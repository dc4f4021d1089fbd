"""What crosses to the robot and back, in the form each side likes; pure.

Owns: that a text is text here whatever libqi makes of it, a raw buffer bytes, and a number a plain
one. Knows nothing of connections.

Python 2.7's libqi gives byte strings for text and `long` for every whole number, and sends its own
`str` most safely; libqi-python 3 gives what one would expect.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import sys
from numbers import Integral

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

_OLD = sys.version_info[0] == 2
_TEXT = type("")


def text(value):  # type: (Any) -> bool
    """Tell whether something that has crossed is text; whoever is on the bus may send anything."""
    return isinstance(value, _TEXT)


def plain(value):  # type: (Any) -> Any
    """Give a value as Python 3 would: Python 2.7's libqi has byte strings for text, and longs."""
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return dict((plain(key), plain(one)) for key, one in value.items())
    if _OLD and isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    if _OLD and isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    return value


def raw(value):  # type: (Any) -> Optional[bytes]
    """Give a raw buffer's bytes; None when it is none.

    An older libqi gives them as a byte string, which `plain` has taken for text if it could.
    """
    if _OLD and hasattr(value, "encode") and not isinstance(value, bytes):
        return bytes(value.encode("utf-8"))
    return value if isinstance(value, bytes) else None


def native(value):  # type: (Any) -> Any
    """Give a value as this Python's libqi sends it: text as its `str`."""
    if _OLD and not isinstance(value, bytes) and hasattr(value, "encode"):
        return value.encode("utf-8")
    if isinstance(value, (list, tuple)):
        return [native(one) for one in value]
    if isinstance(value, dict):
        return dict((native(key), native(one)) for key, one in value.items())
    return value
