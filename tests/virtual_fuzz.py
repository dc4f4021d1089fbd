"""Calls every method of the virtual Pepper with anything; prints the errors' texts as JSON.

python tests/virtual_fuzz.py ADDRESS SEED COUNT
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

from virtual_pepper import client

from uservlm.pepper_app.qi_session import load_library

SERVICES = """ALMemory ALVideoDevice ALAudioDevice ALPeoplePerception ALEngagementZones
    ALFaceDetection ALTextToSpeech ALAnimatedSpeech ALSpeechRecognition ALDialog ALTabletService
    ALLeds ALAutonomousLife ALBasicAwareness ALTouch ALMotion ALRobotPosture ALSystem
    PackageManager ALServiceManager VirtualPepper""".split()
NEVER = ("restart", "end")
"""Steps that would end the test."""
VALUES: list[Any] = [
    *(
        "",
        "a",
        "x" * 5000,
        "nul\0",
        "../..",
        "^call(x)",
        "ALMemory",
        "who",
        "arrive",
        "FrontTactilTouched",
    ),
    *(0, 1, -1, 11, 2**31, -(2**40), 0.5, float("inf"), float("nan"), True, None),
    *([], [1], ["a"], [["a", 1]], [[]], [None], {}, {"who": "x"}, {"zone": []}, {1: 2}),
    *({"names": [["a"]]}, {"bodyLanguageMode": 3}),
]


def main(url: str, seed: int, count: int) -> None:
    qi = load_library()

    qi.logging.setLevel(qi.logging.FATAL)
    lot = random.Random(seed)
    told: set[str] = set()
    with client(url) as bus:
        found = []
        for name in SERVICES:
            proxy = bus.service(name)
            for method in proxy.metaObject()["methods"].values():
                if method["uid"] >= 100:
                    takes = len(_split(method["parametersSignature"][1:-1]))
                    found.append((proxy, method["name"], takes))
        for _ in range(count):
            proxy, name, takes = lot.choice(found)
            values = [lot.choice(VALUES) for _ in range(takes)]
            if name == "do" and values[0] in NEVER:
                continue
            try:
                future = getattr(proxy, name)(*values, _async=True)
                if name not in ("say", "learnFace") and future.hasError(10_000):
                    told.add(future.error())
            except (RuntimeError, OverflowError, ValueError) as error:
                told.add(f"unsent: {error}"[:80])
        bus.call("VirtualPepper", "people")
    print(json.dumps({"methods": len(found), "told": sorted(told)}), flush=True)


def _split(signature: str) -> list[str]:
    from uservlm.pepper_app.virtual_calls import split

    return split(signature)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
