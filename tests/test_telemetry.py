"""No run of ours tells anybody anything: onnxruntime leaves no file and looks for nobody.

Each program runs as a user would start it, in a home of its own and with the telemetry switched on
in the environment, under `network_log.c`. The control runs onnxruntime without us under the same
watch and must be caught, so that silence means something.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from serving import data_url
from tones import tone_model

from uservlm.bench.serve_load_server import listens_at
from uservlm.runtime.telemetry import VARIABLE, silence_telemetry

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("runtime", "runtime/server", "converters", "models", "pepper_app", "bench", "toolchain")
WATCHED = ("onnxruntime", "optimum", "sherpa_onnx")
"""onnxruntime, what imports it, and what brings one of its own."""
TRACE = "Microsoft"
"""In the path of what 1.32 writes."""
LOOKS_AFTER_S = 30.0
"""✔ 1.32 looks its collector up 9 s after the first session."""
LONGER_S = 2.0
"""That a silent process is watched longer than the control took."""

CONTROL = """
import sys, time
import onnxruntime
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(onnxruntime.__version__, flush=True)
time.sleep(float(sys.argv[2]))
"""


@dataclass(frozen=True)
class Watch:
    """A home for one program, and who it wanted to reach."""

    home: Path
    library: Path

    def environment(self) -> dict[str, str]:
        """As nobody has prepared it; the variable says that telemetry is wanted."""
        (self.home / "tmp").mkdir(parents=True, exist_ok=True)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.home / "tmp"),
            "LD_PRELOAD": str(self.library),
            "NETWORK_LOG": str(self.log),
            "HF_HUB_OFFLINE": "1",
            VARIABLE: "0",
        }

    @property
    def log(self) -> Path:
        return self.home.with_suffix(".log")

    def reached(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def left(self) -> list[Path]:
        """Files of onnxruntime's."""
        return [path for path in self.home.rglob("*") if TRACE in path.parts]

    def silent(self) -> bool:
        return not self.left() and not self.reached()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("NOBODY WATCHED FOR CONNECTIONS: that needs Linux and a C compiler, cc")
    path = tmp_path_factory.mktemp("watch") / "network_log.so"
    source = ROOT / "tests/network_log.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", path, source, "-ldl"], check=True)
    return path


class Control:
    """onnxruntime without us."""

    def __init__(self, bundle: Path, watch: Watch) -> None:
        self.watch = watch
        command = [sys.executable, "-c", CONTROL, bundle / "vision.onnx", str(LOOKS_AFTER_S)]
        self.process = subprocess.Popen(
            command, env=watch.environment(), stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.version = self.process.stdout.readline().strip()
        self._opened = time.monotonic()

    def took(self) -> float | None:
        """Wait until it looks for somebody; gives the seconds since its session, None: never."""
        while not self.watch.reached() and self.process.poll() is None:
            time.sleep(0.05)
        lines = self.watch.reached()
        return float(lines[0].split()[-1]) - self._opened if lines else None


@pytest.fixture(scope="module")
def control(
    pocket_bundle: Path, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Control]:
    """Begun before everything else: it takes its time."""
    begun = Control(pocket_bundle, Watch(tmp_path_factory.mktemp("control") / "home", library))
    yield begun
    begun.process.kill()
    begun.process.communicate()


@pytest.fixture
def watch(tmp_path: Path, library: Path) -> Watch:
    return Watch(tmp_path / "home", library)


def run(watch: Watch, *command: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        env=watch.environment(),
        cwd=watch.home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_who_is_seen_and_heard_by_a_server_is_told_on_to_nobody(
    control: Control, pocket_bundle: Path, pictures: Path, watch: Watch, tmp_path: Path
) -> None:
    """HTTP, vision and ears in one process, longer than onnxruntime waits before it looks."""
    ears = tone_model(tmp_path / "speech")
    command = [sys.executable, "-m", "uservlm.runtime", "serve", str(pocket_bundle)]
    command += ["--port", "0", "--hear", str(ears), "--threads", "1"]
    log = tmp_path / "serve.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=watch.environment(), cwd=watch.home, stderr=file, stdout=file
        )
    try:
        url = listens_at(process, log, 0)
        body = {"image": data_url(pictures / "grace.png")}
        assert httpx.post(f"{url}/v1/users/encode", json=body, timeout=60).status_code == 200
        seen = time.monotonic()
        took = control.took()
        while took is not None and time.monotonic() < seen + took + LONGER_S:
            time.sleep(0.1)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert watch.silent(), (watch.left(), watch.reached())
    if took is None or not control.watch.left():
        pytest.skip(f"onnxruntime {control.version} has no telemetry here that could be caught")
    assert any("microsoft.com" in line for line in control.watch.reached())


def test_a_question_on_the_command_line_is_told_to_nobody(
    control: Control, pocket_bundle: Path, pictures: Path, watch: Watch
) -> None:
    program = Path(sys.executable).with_name("uservlm")
    picture = pictures / "grace.png"
    assert run(watch, program, "ask", pocket_bundle, "--image", picture, "How do I feel?").strip()
    assert watch.silent(), (watch.left(), watch.reached())


def test_an_export_is_told_to_nobody(
    control: Control, tiny_checkpoint: Path, watch: Watch, tmp_path: Path
) -> None:
    """It quantises and measures with onnxruntime, and draws the graph with optimum."""
    out = tmp_path / "bundle"
    program = ROOT / "converters/export.py"
    run(watch, program, "--model", tiny_checkpoint, "--out", out, "--quant", "q4_0", "--cases", "1")
    assert (out / "manifest.json").is_file()
    assert watch.silent(), (watch.left(), watch.reached())


def imports(tree: ast.AST) -> set[str]:
    """Names at the top of what is imported while a module runs."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
        found |= imports(node)
    return found


def calls(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_who_imports_it_silences_it() -> None:
    """Also what no test here runs: the benchmark, for one."""
    importing = {}
    for folder in FOLDERS:
        for path in (ROOT / folder).glob("*.py"):
            tree = ast.parse(path.read_text())
            if imports(tree) & set(WATCHED):
                importing[path.relative_to(ROOT).as_posix()] = calls(tree)
    assert {"runtime/vision_onnx.py", "converters/vision_graph.py"} <= set(importing)
    assert not [path for path, made in importing.items() if "silence_telemetry" not in made]


def test_what_the_environment_says_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "0", "false"):
        monkeypatch.setenv(VARIABLE, value)
        silence_telemetry()
        assert os.environ[VARIABLE] == "1"
