"""The command line of the converter: `python converters/export.py` from a checkout.

Owns: options, their defaults and the exit code. The work is `pipeline.export`. Only the standard
library is imported before the options are read, so that `--help` and a missing install are quick.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
POCKET = ROOT / "models" / "pocket"
BUNDLES = ROOT / "bundles"


def main(arguments: Sequence[str] | None = None) -> int:
    """Export as the arguments say; 0 when the bundle is there, 2 when it could not be made."""
    given = _parser().parse_args(arguments)
    try:
        from uservlm.converters.options import ExportOptions
        from uservlm.converters.output import work_folder
        from uservlm.converters.pipeline import export
        from uservlm.converters.progress import Steps
        from uservlm.runtime.adapters import places_by_name
        from uservlm.runtime.errors import UserVLMError
        from uservlm.runtime.telemetry import silence_telemetry
    except ModuleNotFoundError as error:
        print(
            f"{error}: run `make bootstrap` and use .venv/bin/python, "
            "or `pip install -e .[convert]`",
            file=sys.stderr,
        )
        return 2
    silence_telemetry()
    chosen = {name: value for name, value in vars(given).items() if value is not None}
    chosen.setdefault("out", BUNDLES / Path(chosen["model"]).name)
    chosen["adapters"] = tuple(chosen.get("adapters", ()))
    try:
        chosen["kept"] = places_by_name(chosen.get("kept", ()))
        export(ExportOptions(**chosen), Steps())
    except UserVLMError as error:
        print(f"export stopped: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        left = work_folder(chosen["out"])
        print(
            f"export interrupted: finished steps are kept in {left}; the same command goes on, "
            f"`rm -r {left}` drops them"
            if left.exists()
            else "export interrupted: nothing is left",
            file=sys.stderr,
        )
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="export.py",
        allow_abbrev=False,
        description="Turn a PaliGemma 2 checkpoint into a bundle for the CPU and prove them equal.",
    )
    parser.add_argument(
        "--model",
        default=str(POCKET),
        metavar="DIR_OR_HUB_ID",
        help="checkpoint, or PEFT adapter whose base can be found; default: the pocket model",
    )
    parser.add_argument("--revision", help="branch or commit of the hub repository")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the bundle; default: bundles/<name>"
    )
    parser.add_argument(
        "--quant", choices=("q4_k_m", "q4_0", "q8_0", "f16"), help="language model; default: q4_k_m"
    )
    parser.add_argument(
        "--vision", choices=("int8", "fp32", "none"), help="vision.onnx; default: int8"
    )
    parser.add_argument(
        "--vision-gguf",
        choices=("q8_0", "f32", "none"),
        help="vision.gguf, for processors without onnxruntime; default: only for small models",
    )
    parser.add_argument(
        "--adapter",
        action="append",
        dest="adapters",
        metavar="DIR_OR_HUB_ID",
        help="PEFT LoRA adapter to merge; repeat for several, in order",
    )
    parser.add_argument(
        "--keep-adapter",
        action="append",
        dest="kept",
        metavar="NAME=DIR_OR_HUB_ID",
        help="PEFT LoRA adapter to keep apart, switched on by name at run time; repeatable",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="DIR",
        help="pictures to measure int8 vision on, of which nothing is kept; default: drawn people",
    )
    parser.add_argument(
        "--importance",
        type=int,
        metavar="PROMPTS",
        help="measure an importance matrix on so many prompts before quantising; default: 0",
    )
    parser.add_argument(
        "--template", type=_unescaped, help=r"text around {question}, e.g. '{question}\n'"
    )
    parser.add_argument(
        "--mask",
        choices=("paligemma", "user-first"),
        help="what it was tuned with: user-first if the image never saw the question",
    )
    parser.add_argument(
        "--cases",
        type=int,
        help="pairs of picture and question to compare on; default: by the model's size",
    )
    parser.add_argument(
        "--force", action="store_true", help="export again even if the bundle is there"
    )
    return parser


def _unescaped(text: str) -> str:
    return text.replace("\\n", "\n")


if __name__ == "__main__":
    # `kill` ends an export as Ctrl-C does: finished steps stay, and where they lie is said.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # This folder stands first in sys.path, where its modules would shadow other top-level names.
    sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT / "converters"]
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before there was anything to interrupt
        print("export interrupted: nothing is left", file=sys.stderr)
        sys.exit(130)
