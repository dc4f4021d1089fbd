"""A runtime for one target, complete: Python, libraries, our code, launcher, manifest, licences.

Owns: the order of the work. Knows nothing of compiling, nor of what a runtime is proven to do.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from packaging.utils import parse_wheel_filename

from uservlm.runtime.durable import locked
from uservlm.toolchain import archive, debian, integrity, launcher, licences, provenance
from uservlm.toolchain import python_packages as python
from uservlm.toolchain import runtime_tree as tree_of
from uservlm.toolchain.compile import CACHE
from uservlm.toolchain.debian import UnavailableError
from uservlm.toolchain.debian_parts import (
    MODULES,
    STDLIB,
    Unpacked,
    debian_packages,
    libraries,
)
from uservlm.toolchain.provenance import LICENCES, Origin
from uservlm.toolchain.runtime_tree import Tree, empty
from uservlm.toolchain.targets import TARGETS, Target

ROOT: Final = Path(__file__).resolve().parents[1]
TREES: Final = ROOT / "build/runtime"
"""Where the newest of each target lies unpacked."""
OPENED: Final = ("libgcc_s.so.1",)
"""Libraries that nothing names: glibc opens this one when a thread is ended."""
PROVIDER: Final = "ossl-modules/legacy.so"
"""cryptography 38 opens it, and refuses to be imported without."""
COMPILE_S: Final = 600.0
PATIENCE_S: Final = 1800.0
"""For another build, which may fetch and pack meanwhile."""

Say = Callable[[str], None]


def build(target: Target, llama: Path, out: Path, say: Say, *, refresh: bool = False) -> Path:
    """Build a runtime; gives its archive. Two at once wait for each other.

    Args:
        target: for which machine.
        llama: llama-cpp-python's wheel for it.
        out: the folder of archives.
        say: shows a line of progress.
        refresh: whether Debian's servers are asked again for packages that are here.

    Raises:
        UnavailableError: something cannot be had, or does not fit together.
        StoreError: another build takes too long.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(CACHE, PATIENCE_S):  # what is kept there is of all targets
        return _build(target, llama, out, say, refresh=refresh)


def _build(target: Target, llama: Path, out: Path, say: Say, *, refresh: bool) -> Path:
    say("Debian's packages")
    unpacked = debian_packages(target, CACHE, refresh=refresh)
    if not unpacked.secured:
        say(
            "no server that apt knows has the security suite whole for "
            f"{target.debian}: some packages may lack fixes; later, try --refresh"
        )
    say("wheels")
    ours = python.our_wheel(CACHE / "ours")
    wheels = python.wheels(target, [ours, llama], CACHE / f"wheels-{target.name}")
    commit = provenance.commit()
    say("files")
    making = empty(TREES / f"{target.name}.making")
    tree = Tree(making)
    origins = _fill(tree, target, unpacked, wheels, commit.name)
    say("bytecode")
    _compile(tree)
    say("manifest")
    facts = {
        "name": name_of(target),
        "target": target.name,
        "machine": target.machine,
        "loader": f"lib/{target.loader}",
        "commit": commit.name,
        "debian": unpacked.sources.splitlines(),
        "changed": {f"lib/{tree_of.LIBC}": "DF_1_NODEFLIB is set"},
    }
    told = provenance.describe(making, tree.origins, origins, facts)
    (making / integrity.MANIFEST_FILE).write_bytes(told)
    shutil.rmtree(TREES / target.name, ignore_errors=True)
    making.rename(TREES / target.name)
    say("archive")
    return _packed(target, out, commit.time)


def _packed(target: Target, out: Path, time: int) -> Path:
    """Pack the tree, unless the archive that is there already was packed from the very same."""
    tree, packed = TREES / target.name, out / f"{name_of(target)}.tar.xz"
    out.mkdir(parents=True, exist_ok=True)
    note = CACHE / f"packed-{target.name}"
    of = f"{integrity.digest(tree / integrity.MANIFEST_FILE)} {time} {archive.PRESET} "
    if packed.is_file() and note.is_file() and note.read_text() == of + integrity.digest(packed):
        return packed
    archive.pack(tree, packed, name=name_of(target), time=time)
    note.write_text(of + integrity.digest(packed))
    return packed


def name_of(target: Target) -> str:
    """Name a target's runtime: its archive, and the folder in it."""
    return f"uservlm-runtime-{target.name}"


def _fill(
    tree: Tree, target: Target, unpacked: Unpacked, wheels: Sequence[Path], commit: str
) -> list[Origin]:
    """Put everything into the tree but bytecode and manifest; gives where it is from."""
    for name in (MODULES[one] for one in target.from_debian):
        tree_of.add_modules(tree, unpacked.roots[name], unpacked.origins[name].key)
    ours, theirs = _add_wheels(tree, wheels, commit)
    for name in launcher.PROGRAMS:
        text = launcher.script(name, target.loader).encode()
        tree.write(f"bin/{name}", text, ours.key, executable=True)
    tree.write(f"{tree_of.SITE}/sitecustomize.py", launcher.SITECUSTOMIZE.encode(), ours.key)
    tree.write("lib/openssl.cnf", launcher.OPENSSL.encode(), ours.key)
    tree_of.drop_unused(tree)
    _add_python(tree, target, unpacked)
    _add_debian_licences(tree, unpacked)
    return [*unpacked.origins.values(), *theirs]


def _add_python(tree: Tree, target: Target, unpacked: Unpacked) -> None:
    """Add Python, and the libraries that it and all that is in the tree already need.

    Raises:
        UnavailableError: a library is in no package.
    """
    for name in STDLIB:
        tree_of.add_stdlib(tree, unpacked.roots[name], unpacked.origins[name].key)
    there = libraries(unpacked)
    file, origin = there[Path(PROVIDER).name]
    tree.copy(file, f"lib/{PROVIDER}", origin)
    try:
        tree_of.add_libraries(tree, there, (*OPENED, target.loader))
    except LookupError as error:
        raise UnavailableError(f"{target.name}: {error.args[0]}") from error


def _add_wheels(tree: Tree, wheels: Sequence[Path], commit: str) -> tuple[Origin, list[Origin]]:
    """Unpack wheels and their licences; gives our own origin, and all of them."""
    origins = []
    for wheel in wheels:
        name, version, *_ = parse_wheel_filename(wheel.name)
        texts = {
            f"{LICENCES}/{name}/{file}": text for file, text in licences.wheel_texts(wheel).items()
        }
        is_ours = name == "uservlm"
        origin = Origin(
            "ours" if is_ours else "wheel",
            name,
            str(version),
            commit if is_ours else wheel.name,
            None if is_ours else integrity.digest(wheel),
            licences.wheel_names(python.metadata(wheel)),
            tuple(sorted(texts)),
        )
        tree.add_wheel(wheel, origin.key)
        for path, text in texts.items():
            tree.write(path, text, origin.key)
        origins.append(origin)
    (ours,) = [origin for origin in origins if origin.kind == "ours"]
    return ours, origins


def _add_debian_licences(tree: Tree, unpacked: Unpacked) -> None:
    """Add the texts about the packages that files are from, and those that they refer to."""
    used = set(tree.origins.values())
    named = {name: one for name, one in unpacked.origins.items() if one.key in used and one.texts}
    base = unpacked.origins["base-files"]
    texts = {}
    for name, origin in {**named, base.name: base}.items():
        if file := licences.copyright_file(name, unpacked.roots):
            texts[name] = file.read_bytes()
            tree.write(origin.texts[0], texts[name], origin.key)
    shared = unpacked.roots[base.name] / licences.SHARED
    for name in sorted(licences.shared_names(b"\n".join(texts.values()).decode(errors="replace"))):
        if (shared / name).is_file():
            tree.copy(shared / name, f"{LICENCES}/common/{name}", base.key)


def _host() -> Target:
    """Give the target that this machine is.

    Raises:
        UnavailableError: it is none, so that Debian's Python does not run here.
    """
    for target in TARGETS.values():
        if target.machine == platform.machine():
            return target
    raise UnavailableError(f"no Debian packages are known for a {platform.machine()} to build on")


def _python_here() -> list[Path]:
    """Give the command of Debian's Python for this machine, which is made of its packages once.

    Raises:
        UnavailableError: its packages cannot be had.
    """
    host = _host()
    unpacked = debian_packages(host, CACHE)
    version = unpacked.origins[STDLIB[0]].version
    place = CACHE / f"python-{version}-{host.debian}"
    if not place.is_dir():
        making = empty(place.with_name(f"{place.name}.making"))
        tree = Tree(making)
        _add_python(tree, host, unpacked)
        making.rename(place)
    return [*map(Path, launcher.command(place, host.loader))]


def _compile(tree: Tree) -> None:
    """Add the bytecode of every module, which Python then takes without a look at the source.

    With the Python that runs it later, here: bytecode is the same for every processor.
    """
    names = ("-s", tree.folder, "-p", "uservlm")
    compiler = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", *names)
    debian.run(tree.folder, *_python_here(), *compiler, tree.folder / "lib", limit_s=COMPILE_S)
    for path in sorted(tree.origins):
        if path.endswith(".py"):
            folder, _, name = path.rpartition("/")
            tree.adopt(f"{folder}/__pycache__/{name[:-3]}.cpython-311.pyc", tree.origins[path])
