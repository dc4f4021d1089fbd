"""From a camera's frame to a PNG; pure, and with nothing but Python's own zlib.

Owns: the few bytes of the format that are needed (PNG, second edition, chunks IHDR, IDAT and
IEND). Knows nothing of cameras.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EFFORT = 1
"""Of 9: the network is faster than the head's processor."""


def png(width, height, rgb):  # type: (int, int, bytes) -> bytes
    """Write a picture.

    Args:
        width: in pixels.
        height: in pixels.
        rgb: uint8 [height, width, 3], row by row.

    Raises:
        ValueError: the size is not that of the data.
    """
    row = width * 3
    if width < 1 or height < 1 or len(rgb) != row * height:
        raise ValueError("%d bytes are no %d x %d picture" % (len(rgb), width, height))
    unfiltered = b"".join(b"\0" + rgb[at : at + row] for at in range(0, len(rgb), row))
    header = struct.pack(str(">IIBBBBB"), width, height, 8, 2, 0, 0, 0)
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", zlib.compress(unfiltered, _EFFORT)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind, data):  # type: (bytes, bytes) -> bytes
    size = struct.pack(str(">I"), len(data))
    check = struct.pack(str(">I"), zlib.crc32(kind + data) & 0xFFFFFFFF)
    return size + kind + data + check
