"""The wheel against the folders, and what importing the runtime may load and leave behind.

Owns: the proof that setup.py's hand-written lists are whole. Knows nothing of what modules do.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOT_INSTALLED: frozenset[str] = frozenset()
"""Sub-folders whose Python files stay out of the wheel on purpose, as "pepper_app/choregraphe"."""
HEAVY = (
    "torch",
    "transformers",
    "optimum",
    "peft",
    "onnx",
    "cv2",
    "qi",
    "onnxruntime",
    "sherpa_onnx",
)
"""Not for the runtime at all; onnxruntime only where a session is opened, not on import."""
SERVED = ("fastapi", "openai", "psutil", "pydantic", "starlette", "uvicorn")
"""For the server alone: who answers from Python needs no web framework."""
LEFT_BY_TOOLS = shutil.ignore_patterns("__pycache__", "build", ".*", "*.egg-info")


def assigned(name: str) -> dict[str, str]:
    """Read a dictionary out of setup.py without running it."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            value: dict[str, str] = ast.literal_eval(node.value)
            return value
    raise AssertionError(f"setup.py assigns no {name}")


def package_data() -> dict[str, list[str]]:
    """Read the patterns of data files out of the call of setup()."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())):
        if isinstance(node, ast.keyword) and node.arg == "package_data":
            value: dict[str, list[str]] = ast.literal_eval(node.value)
            return value
    raise AssertionError("setup.py passes no package_data")


PACKAGES = assigned("PACKAGES")
RUNTIME_MODULES = sorted(path.stem for path in (ROOT / "runtime").glob("*.py"))
SERVER_MODULES = sorted(
    f"server.{path.stem}" for path in (ROOT / "runtime/server").glob("[!_]*.py")
)


@dataclass(frozen=True)
class Built:
    """A wheel and the tree it was built from."""

    tree: Path
    path: Path
    files: list[str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the wheel, offline, from a copy into which no stale build/ can leak."""
    base = tmp_path_factory.mktemp("wheel")
    tree = base / "tree"
    tree.mkdir()
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tree)
    for folder in PACKAGES.values():
        if not (tree / folder).exists():  # one within another came with it
            shutil.copytree(ROOT / folder, tree / folder, ignore=LEFT_BY_TOOLS)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(base)]
    done = subprocess.run([*command, str(tree)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = base.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return Built(tree, built, [name for name in archive.namelist() if not name.endswith("/")])


def expected_files(source: Path, package: str) -> set[str]:
    """What the wheel must hold of one folder: its modules, its marker and its data files."""
    files = {*source.glob("*.py"), source / "py.typed", *source.rglob("*.toml")}
    for pattern in package_data().get(package, []):
        files.update(source.glob(pattern))
    inside = package.replace(".", "/")
    return {f"{inside}/{path.relative_to(source).as_posix()}" for path in files}


@pytest.mark.parametrize(("package", "folder"), sorted(PACKAGES.items()))
def test_wheel_holds_the_whole_folder_and_nothing_else(
    wheel: Built, package: str, folder: str
) -> None:
    inside = package.replace(".", "/") + "/"
    within = tuple(f"{one.replace('.', '/')}/" for one in PACKAGES if one.startswith(f"{package}."))
    found = {name for name in wheel.files if name.startswith(inside)}
    found -= {name for name in found if within and name.startswith(within)}
    wanted = expected_files(wheel.tree / folder, package)
    assert found == {name for name in wanted if not (within and name.startswith(within))}


def test_the_robot_s_package_is_the_same_from_the_wheel(wheel: Built, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel.path) as archive:
        archive.extractall(tmp_path / "site")
    script = "import uservlm.pepper_app.package as p; print(p.__file__); p.main(['--out', 'x.pkg'])"
    for name, path in (("site", str(tmp_path / "site")), ("tree", "")):
        (tmp_path / name).mkdir(exist_ok=True)
        command = [sys.executable, "-c", script]
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(
            command,
            env=environment,
            cwd=tmp_path / name,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith(path or str(ROOT)), done.stdout
    packed = [(tmp_path / name / "x.pkg").read_bytes() for name in ("site", "tree")]
    assert packed[0] == packed[1]


def test_only_our_name_reaches_site_packages(wheel: Built) -> None:
    tops = {name.split("/")[0] for name in wheel.files}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"uservlm"}


def test_namespace_itself_stays_without_a_module(wheel: Built) -> None:
    """A `uservlm/__init__.py` would end the namespace that the packages share."""
    assert not [
        name for name in wheel.files if name.count("/") == 1 and name.startswith("uservlm/")
    ]


def test_no_python_file_lies_in_a_folder_that_no_list_names() -> None:
    """Folders are flat; a sub-folder would silently be missing from the wheel (wyoming 1.6.0)."""
    known = {*PACKAGES.values(), *NOT_INSTALLED}
    stray = {
        parent
        for folder in PACKAGES.values()
        for path in (ROOT / folder).rglob("*.py")
        if (parent := path.parent.relative_to(ROOT).as_posix()) not in known
        and not any(part.startswith(".") or part == "build" for part in parent.split("/"))
    }
    assert not stray, "add to PACKAGES in setup.py, or to NOT_INSTALLED here"


def test_every_folder_is_a_typed_package() -> None:
    """Editable installs need `__init__.py` (setuptools issue 4943), type checkers the marker."""
    for folder in PACKAGES.values():
        assert (ROOT / folder / "__init__.py").is_file(), folder
        assert (ROOT / folder / "py.typed").is_file(), folder


@pytest.mark.parametrize("module", [*RUNTIME_MODULES, *SERVER_MODULES])
def test_importing_the_runtime_loads_nothing_heavy_and_leaves_no_file(
    module: str, tmp_path: Path
) -> None:
    name = "uservlm.runtime" if module == "__init__" else f"uservlm.runtime.{module}"
    heavy = HEAVY if module in SERVER_MODULES else (*HEAVY, *SERVED)
    script = f"import {name}, sys; print(*(set({heavy!r}) & set(sys.modules)))"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
    environment = {**kept, "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    # As for a user who imports us without make: nobody else has switched the telemetry off.
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
    assert list(tmp_path.iterdir()) == []
