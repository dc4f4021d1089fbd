"""Answer a question about the user in view: vision (ONNX), language (GGUF), one prefix.

    with UserVLM.load("bundle") as vlm:
        for chunk in vlm.stream("What should I wear today?", image="me.jpg"):
            print(chunk.text, end="", flush=True)

Importing this loads neither llama.cpp nor onnxruntime; opening a bundle does.
"""

from uservlm.runtime.agreement import ShadowPolicy
from uservlm.runtime.answers import Answer, Chunk, GenerationOptions
from uservlm.runtime.engine import UserVLM
from uservlm.runtime.identity import Identification
from uservlm.runtime.profiles import Consent, Profile
from uservlm.runtime.users import UserEmbedding

__all__ = [
    "Answer",
    "Chunk",
    "Consent",
    "GenerationOptions",
    "Identification",
    "Profile",
    "ShadowPolicy",
    "UserEmbedding",
    "UserVLM",
]
