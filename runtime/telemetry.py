"""onnxruntime's telemetry, kept off.

Owns: the one variable that does it, and that it is set whatever the environment says. Knows nothing
of sessions. Who imports onnxruntime, or a library that does, calls this first.
"""

from __future__ import annotations

import os
from typing import Final

VARIABLE: Final = "ORT_DISABLE_TELEMETRY"


def silence_telemetry() -> None:
    """Keep onnxruntime from phoning home, in this process and in those it starts.

    It looks once, while it is imported: ✔ 1.32 for Linux otherwise writes
    Microsoft/DeveloperTools/.onnxruntime under the cache folder at once, and asks for
    mobile.events.data.microsoft.com nine seconds after the first session. ✔ It does both also where
    the variable is empty, 0 or false, so an inherited value is never left as it is: nobody who runs
    a robot that looks at faces can have meant it. sherpa-onnx brings an onnxruntime of its own,
    ✔ without any telemetry in 2.0.1; a later one may have it.
    """
    os.environ[VARIABLE] = "1"
