#!/usr/bin/env python3
"""Make `.venv`: every pinned package, and llama-cpp-python compiled for this very processor.

Owns: which Python is used, what the machine must offer, the order of installation, and the stamp
by which a second run sees that nothing is left to do. Knows nothing of what the packages are for,
nor their versions: those are in constraints.txt. Names no package index: pip's own configuration
says where packages come from.

The syntax is Python 2.7's on purpose (type comments, no f-strings): where `python` is too old this
file must still start, to hand over to a better one on the PATH or to say which one is needed.
"""
# ruff: noqa: UP004, UP010, UP024, UP032

from __future__ import print_function

import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
VENV_PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, "bootstrap.stamp")
WHEELS = os.path.join(ROOT, ".wheels")
SCRATCH = os.path.join(WHEELS, "tmp")
LOGS = os.path.join(WHEELS, "logs")
SETUP = os.path.join(ROOT, "setup.py")
CONSTRAINTS = os.path.join(ROOT, "constraints.txt")

PYTHONS = ((3, 12), (3, 11), (3, 10))
"""What setup.py's python_requires allows, the preferred one first."""
SETTINGS = "layout 2, extra dev"
"""Part of the stamp: change it when this file starts to install differently."""
NEED_BYTES = 4 * 10**9
"""Measured with a CPU build of torch: 1.7 GB in .venv, 0.6 GB of downloads, 0.5 GB of build."""
NEED_BYTES_CUDA = 9 * 10**9
"""What the CUDA packages add after torch itself: 2 GB of downloads, about 5 GB in .venv."""
HEARTBEAT_SECONDS = 30
"""Between two lines of progress where the output is not a terminal."""
FIXES = os.path.join(ROOT, "toolchain", "llama_cpp_fixes.h")
"""Read before every C++ file of llama.cpp; the file says why (docs/decisions/0003)."""
PATCHES = os.path.join(ROOT, "toolchain", "patches")
"""Changes of llama.cpp's own files."""
HERE = os.path.join(PATCHES, "here")
"""Changes for the build for this very processor alone; `targets/` are the others' (0017)."""
CXXFLAGS = "-include {} -fno-math-errno -fno-trapping-math".format(os.path.basename(FIXES))
"""With the fixes; the two others let loops over tanhf become vector code."""


class Refusal(Exception):
    """Something is missing; the message is one line and ends with the remedy."""


def main():
    # type: () -> int
    """Bring `.venv` up to date and return the exit code."""
    wanted = os.environ.get("PYTHON")
    try:
        check_system()
        for name in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, stop)
        if up_to_date(wanted):
            return 0
        hand_over(choose_python(wanted), wanted)
        check_machine()
        with Lock():
            if not up_to_date(wanted):
                install()
    except Refusal as refusal:
        print("bootstrap: {}".format(refusal), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbootstrap: interrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


def stop(number, frame):
    # type: (int, object) -> None
    """Turn a signal into an exception, so that the child processes are ended too."""
    raise KeyboardInterrupt


# -- which Python ---------------------------------------------------------------------------------


def choose_python(wanted):
    # type: (str | None) -> str
    """Return the interpreter to use: the one asked for, this one, or the best on the PATH."""
    if wanted:
        version, path = probe(wanted)
        if version in PYTHONS:
            return path
        found = "Python {}.{}".format(*version) if version else "nothing that runs"
        raise Refusal("PYTHON={} is {}; {}".format(wanted, found, needed()))
    if sys.version_info[:2] in PYTHONS:
        return sys.executable
    for version in PYTHONS:
        # A name on the PATH is not yet a Python: pyenv's shims exist for versions it will not run.
        version_found, path = probe("python{}.{}".format(*version))
        if version_found == version:
            return path
    raise Refusal("this is Python {}.{}; {}".format(*sys.version_info[:2] + (needed(),)))


def needed():
    # type: () -> str
    """Say which Python is needed, in words."""
    return "install Python 3.10, 3.11 or 3.12, or name one: PYTHON=/path/to/python3.12 make demo"


def probe(name):
    # type: (str) -> tuple[tuple[int, int] | None, str]
    """Ask an interpreter for its version and its own path; no version when it does not run."""
    question = "import sys; print('%d %d %s' % (sys.version_info[:2] + (sys.executable,)))"
    with open(os.devnull, "w") as nothing:
        try:
            answer = subprocess.check_output([name, "-c", question], stderr=nothing)
            major, minor, path = answer.decode("utf-8").strip().split(" ", 2)
            return (int(major), int(minor)), path
        except (OSError, ValueError, subprocess.CalledProcessError):
            return None, name


def hand_over(path, wanted):
    # type: (str, str | None) -> None
    """Go on in the chosen interpreter, unless this is it."""
    if path == sys.executable:
        return
    environment = dict(os.environ)
    if wanted:
        # By its own path, so that it recognises itself: a shim's name would send it round again.
        environment["PYTHON"] = path
    os.execve(path, [path, os.path.abspath(__file__)], environment)


def which(name):
    # type: (str) -> str | None
    """Find a program on the PATH (shutil.which is missing from Python 2.7)."""
    for folder in os.environ.get("PATH", "").split(os.pathsep) if os.sep not in name else [""]:
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.abspath(path)
    return None


# -- what the machine must offer ------------------------------------------------------------------


def check_system():
    # type: () -> None
    """Paths, signals and locks are POSIX's here."""
    if os.name != "posix":
        raise Refusal("Windows itself is not supported; run this inside WSL")


def check_machine():
    # type: () -> None
    """Refuse early what would otherwise fail late."""
    if not os.access(ROOT, os.W_OK):
        raise Refusal("cannot write to {}; make it yours or clone it elsewhere".format(ROOT))
    check_venv_module()
    check_disk(free_bytes(), NEED_BYTES)
    if llama_wheel() is None:
        check_compilers()


def check_venv_module():
    # type: () -> None
    """Debian takes ensurepip out of its Python."""
    from importlib.util import find_spec

    if find_spec("ensurepip") is None or find_spec("venv") is None:
        name = "python{}.{}".format(*sys.version_info[:2])
        raise Refusal("{0} has no ensurepip; sudo apt install {0}-venv".format(name))


def free_bytes():
    # type: () -> int
    """Free space where the repository lies."""
    figures = os.statvfs(ROOT)
    return figures.f_bavail * figures.f_frsize


def check_disk(free, need):
    # type: (int, int) -> None
    """Refuse when what will be written does not fit."""
    if free < need:
        raise Refusal(
            "{:.1f} GB free at {}, {:.0f} GB needed; free some space".format(
                free / 1e9, ROOT, need / 1e9
            )
        )


def check_compilers():
    # type: () -> None
    """llama.cpp needs a C and a C++ compiler."""
    for variable, language, names in (
        ("CC", "C", ("cc", "gcc", "clang")),
        ("CXX", "C++", ("c++", "g++", "clang++")),
    ):
        if os.environ.get(variable) or any(which(name) for name in names):
            continue
        remedy = "xcode-select --install"
        if sys.platform != "darwin":
            remedy = "sudo apt install build-essential (or your system's gcc and g++)"
        raise Refusal("no {} compiler, and llama.cpp is built here; {}".format(language, remedy))
    if changes() and not which("patch"):
        raise Refusal("no `patch` program, and llama.cpp is patched here; sudo apt install patch")


# -- the stamp ------------------------------------------------------------------------------------


def up_to_date(wanted):
    # type: (str | None) -> bool
    """Compare the stamp with what a finished installation would leave."""
    if not (os.path.exists(STAMP) and os.path.exists(VENV_PYTHON)):
        return False
    version = venv_version()
    if version is None or (wanted and probe(wanted)[0] != version):
        return False
    return read(STAMP).decode("utf-8").strip() == fingerprint(version)


def fingerprint(version):
    # type: (tuple[int, int]) -> str
    """Hash everything that decides what is installed, and where (`.venv` cannot be moved)."""
    digest = hashlib.sha256()
    for part in (read(SETUP), read(CONSTRAINTS)):
        digest.update(hashlib.sha256(part).digest())
    words = (SETTINGS, "{}.{}".format(*version), llama_folder(), ROOT)
    digest.update("\n".join(words).encode("utf-8"))
    return digest.hexdigest()


def venv_version():
    # type: () -> tuple[int, int] | None
    """Read from `.venv` which Python made it, without starting it."""
    path = os.path.join(VENV, "pyvenv.cfg")
    text = read(path).decode("utf-8") if os.path.exists(path) else ""
    found = re.search(r"^version(?:_info)?\s*=\s*(\d+)\.(\d+)", text, re.MULTILINE)
    return (int(found.group(1)), int(found.group(2))) if found else None


def read(path):
    # type: (str) -> bytes
    """Read a whole file."""
    with open(path, "rb") as file:
        return file.read()


# -- llama-cpp-python -----------------------------------------------------------------------------


def llama_version():
    # type: () -> str
    """Return the version that constraints.txt pins."""
    text = read(CONSTRAINTS).decode("utf-8")
    found = re.search(r"^llama[-_]cpp[-_]python==(\S+)", text, re.MULTILINE)
    if not found:
        raise Refusal("constraints.txt does not pin llama-cpp-python; restore the file")
    return found.group(1)


def processor():
    # type: () -> str
    """Name the processor with all its instruction sets: a native build runs on no lesser one."""
    if sys.platform == "darwin":
        return subprocess.check_output(["sysctl", "-n", "machdep.cpu.brand_string"]).decode("utf-8")
    if not os.path.exists("/proc/cpuinfo"):
        return platform.processor()
    fields = re.findall(
        r"^(?:model name|flags|Features|CPU part)\s*:\s*(.*)$",
        read("/proc/cpuinfo").decode("utf-8", "replace"),
        re.MULTILINE,
    )
    return "\n".join(sorted(set(fields)))


def build_key(version, machine, cpu, libc, compiled):
    # type: (str, str, str, str, str) -> str
    """Name the folder of one build; whatever could make the wheel unfit elsewhere is in it."""
    digest = hashlib.sha256("\n".join((cpu, libc, compiled)).encode("utf-8")).hexdigest()
    return "llama-cpp-python-{}-{}-{}".format(version, machine, digest[:12])


def llama_folder():
    # type: () -> str
    """Where the wheel for this machine lies; the folder exists only once the build is complete."""
    key = build_key(
        llama_version(),
        platform.machine(),
        processor(),
        "-".join(platform.libc_ver()),
        compiled(),
    )
    return os.path.join(WHEELS, key)


def compiled():
    # type: () -> str
    """Describe how llama.cpp is compiled, in no words that change with the place of this tree."""
    settings = compiler_settings(dict(os.environ))
    texts = [read(path).decode("utf-8") for path in [FIXES] + changes()]
    return "\n".join([settings["CMAKE_ARGS"], settings["CXXFLAGS"]] + texts)


def compiler_settings(environment):
    # type: (dict[str, str]) -> dict[str, str]
    """Return how llama.cpp is compiled: the user's own settings and ours, but for the paths."""
    given = environment.get("CXXFLAGS", "")
    flags = given if CXXFLAGS in given else (CXXFLAGS + " " + given).strip()
    return {"CMAKE_ARGS": environment.get("CMAKE_ARGS", ""), "CXXFLAGS": flags}


def llama_wheel():
    # type: () -> str | None
    """Path of the wheel for this machine; None when it is still to be built."""
    folder = llama_folder()
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    wheels = [os.path.join(folder, name) for name in names if name.endswith(".whl")]
    return wheels[0] if wheels else None


def build_llama():
    # type: () -> str
    """Return the wheel for this machine, built from its source when there is none yet."""
    version, wheel, folder = llama_version(), llama_wheel(), llama_folder()
    if wheel:
        say("llama-cpp-python {}: reusing {}".format(version, os.path.relpath(folder, ROOT)))
        return wheel
    say("llama-cpp-python {} is compiled for this processor, once:".format(version))
    say("2 to 3 minutes on 2 cores, log in {}".format(os.path.relpath(LOGS, ROOT)))
    made = os.path.join(SCRATCH, "wheel")
    # -v puts the compiler's own steps into the log, from which the progress is read.
    pip(
        "llama-cpp-python",
        ["wheel", "-v", "--no-deps", "--no-cache-dir", "-w", made, patched_source(version)],
    )
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(made, folder)
    return os.path.join(folder, os.listdir(folder)[0])


def patched_source(version):
    # type: (str) -> str
    """Fetch llama-cpp-python's source, change what our patches change, and return its folder."""
    archive = source_archive(version, os.path.join(SCRATCH, "archive"), SCRATCH)
    return unpacked_source(archive, os.path.join(SCRATCH, "source"), changes())


def source_archive(version, folder, scratch):
    # type: (str, str, str) -> str
    """Fetch llama-cpp-python's source distribution into an empty folder and return its path."""
    pip(
        "llama source",
        ["download", "--no-deps", "--no-binary", "llama-cpp-python", "--no-cache-dir"]
        + ["-d", folder, "llama-cpp-python==" + version],
        scratch,
    )
    return os.path.join(folder, os.listdir(folder)[0])


def unpacked_source(archive, folder, changes):
    # type: (str, str, list[str]) -> str
    """Unpack a source distribution into a new folder, patch it, and return its own folder."""
    with tarfile.open(archive) as file:
        file.extractall(folder)
    source = os.path.join(folder, os.listdir(folder)[0])
    place = os.path.join(source, "vendor", "llama.cpp")
    for path in changes:
        command = ["patch", "--forward", "--strip=1", "--directory", place, "--input", path]
        run(os.path.basename(path), command, dict(os.environ))
    return source


def changes():
    # type: () -> list[str]
    """List what is changed for the build for this very processor, in order."""
    return patches() + patches(HERE)


def patches(folder=PATCHES):
    # type: (str) -> list[str]
    """List our changes of llama.cpp, in order; each says at its head what it is for."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [os.path.join(folder, name) for name in names if name.endswith(".patch")]


# -- installing -----------------------------------------------------------------------------------


def install():
    # type: () -> None
    """Do every step; each one may have been interrupted halfway before."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
    os.makedirs(SCRATCH)
    if os.path.exists(STAMP):
        os.remove(STAMP)
    make_venv()
    pinned = ["install", "-c", CONSTRAINTS]
    pip("setuptools", pinned + ["setuptools"])
    wheel = build_llama()
    # The version says nothing about the processor it was built for: always take this wheel.
    pip("llama wheel", ["install", "--no-deps", "--force-reinstall", wheel])
    # Alone and first, so that what its choice costs is known before the rest is fetched;
    # --upgrade because 2.13.0+cpu counts as newer than 2.13.0.
    pip("torch", pinned + ["--upgrade", "--no-deps", "torch"])
    warn_of_cuda()
    pip("packages", pinned + ["--no-build-isolation", "-e", ROOT + "[dev]"])
    shutil.rmtree(SCRATCH, ignore_errors=True)
    version = venv_version()
    if version is None:
        raise Refusal("{} has no pyvenv.cfg; delete .venv and run again".format(VENV))
    with open(STAMP, "wb") as file:
        file.write(fingerprint(version).encode("utf-8"))
    say("done")


def make_venv():
    # type: () -> None
    """Create `.venv`, or keep it when it works, is this Python's and was made here."""
    if os.path.isdir(VENV):
        trouble = venv_trouble()
        if trouble is None:
            return
        say("making .venv anew: {}".format(trouble))
    run("venv", [sys.executable, "-m", "venv", "--clear", VENV], dict(os.environ))


def venv_trouble():
    # type: () -> str | None
    """Say what is wrong with the `.venv` that is there, if anything is."""
    if probe(VENV_PYTHON)[0] != sys.version_info[:2]:
        return "its Python is missing or not {}.{}".format(*sys.version_info[:2])
    activate = os.path.join(VENV, "bin", "activate")
    if not os.path.exists(activate) or VENV not in read(activate).decode("utf-8", "replace"):
        return "it was made at another place"
    with open(os.devnull, "w") as nothing:
        command = [VENV_PYTHON, "-m", "pip", "--version"]
        if subprocess.call(command, stdout=nothing, stderr=nothing):
            return "it has no pip"
    return None


def warn_of_cuda():
    # type: () -> None
    """On Linux the plain torch drags in CUDA: say so, and look at the disk again."""
    if not sys.platform.startswith("linux"):
        return
    script = (
        "from importlib.metadata import requires; "
        "print(any(r.startswith(('nvidia-', 'cuda-')) for r in requires('torch') or []))"
    )
    if subprocess.check_output([VENV_PYTHON, "-c", script]).split() != [b"True"]:
        return
    say("pip found torch's CUDA build, 2 GB more to fetch; the README says how to get the CPU's")
    check_disk(free_bytes(), NEED_BYTES_CUDA)


def pip(label, arguments, scratch=SCRATCH):
    # type: (str, list[str], str) -> None
    """Run the pip of `.venv`, with a folder that exists for what it needs meanwhile."""
    environment = dict(os.environ)
    # Packages of another tree (ROS sets PYTHONPATH) would count as installed here.
    environment.pop("PYTHONPATH", None)
    environment.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", TMPDIR=scratch)
    environment.update(compiler_settings(environment))
    # By name and search path, so that no space in a path can break a flag.
    paths = [os.path.dirname(FIXES), environment.get("CPLUS_INCLUDE_PATH", "")]
    environment["CPLUS_INCLUDE_PATH"] = os.pathsep.join(path for path in paths if path)
    # Build tools are pinned too; pip 25.3 renamed the variable that reaches them.
    environment.update(PIP_CONSTRAINT=CONSTRAINTS, PIP_BUILD_CONSTRAINT=CONSTRAINTS)
    run(label, [VENV_PYTHON, "-m", "pip"] + arguments, environment)


def run(label, command, environment):
    # type: (str, list[str], dict[str, str]) -> None
    """Run a command into its own log, with a sign of life on the terminal."""
    if not os.path.isdir(LOGS):
        os.makedirs(LOGS)
    log = os.path.join(LOGS, label.replace(" ", "-") + ".log")
    progress = Progress(label, log)
    with open(log, "wb") as sink, open(os.devnull, "rb") as nothing:
        # Its own session, so that a compiler and its children can be ended together.
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=nothing,
            stdout=sink,
            stderr=subprocess.STDOUT,
            preexec_fn=os.setsid,
        )
        try:
            while process.poll() is None:
                time.sleep(0.2)
                progress.tick()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    progress.end(process.returncode == 0)
    if process.returncode:
        where = os.path.relpath(log, ROOT)
        raise Refusal("{} failed: {}; see {}".format(label, first_error(log), where))


def first_error(log):
    # type: (str) -> str
    """Find the line of a log that says why."""
    for line in read(log).decode("utf-8", "replace").splitlines():
        if re.search(r"^\s*(ERROR|Error):|\berror: |CMake Error", line):
            return line.strip()[:200]
    return "no error was named"


# -- what is seen ---------------------------------------------------------------------------------


def say(text):
    # type: (str) -> None
    """Print one line at once, also into a pipe."""
    print(signed(text))
    sys.stdout.flush()


def signed(text):
    # type: (str) -> str
    """Put before it whose line it is: "bootstrap", or the command that goes through this module."""
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    return "{}: {}".format(name, text)


class Progress(object):
    """The line that shows that a step is alive: rewritten on a terminal, repeated elsewhere."""

    def __init__(self, label, log):
        # type: (str, str) -> None
        self.label = label
        self.log = log
        self.started = time.time()
        self.shown = self.started
        self.terminal = sys.stdout.isatty()
        if not self.terminal:
            say(label + " ...")

    def tick(self):
        # type: () -> None
        """Show the state when it is time to."""
        now = time.time()
        if now - self.shown < (1 if self.terminal else HEARTBEAT_SECONDS):
            return
        self.shown = now
        self.show(self.text())

    def end(self, well):
        # type: (bool) -> None
        """Leave one line behind."""
        seconds = time.time() - self.started
        word = "ready" if well else "failed"
        self.show("{}: {} after {:.0f} s".format(self.label, word, seconds))
        if self.terminal:
            print()

    def text(self):
        # type: () -> str
        """Elapsed time, and the compiler's own count where its log has one."""
        steps = re.findall(r"\[(\d+)/(\d+)\] ", self.tail())
        count = ", step {} of {}".format(*steps[-1]) if steps else ""
        return "{}: {:.0f} s{}".format(self.label, time.time() - self.started, count)

    def tail(self):
        # type: () -> str
        """Read the end of the log only: it grows to megabytes."""
        with open(self.log, "rb") as file:
            file.seek(max(0, os.path.getsize(self.log) - 4096))
            return file.read().decode("utf-8", "replace")

    def show(self, text):
        # type: (str) -> None
        """Rewrite the line, or add one."""
        if self.terminal:
            sys.stdout.write("\r\033[K" + signed(text))
            sys.stdout.flush()
        else:
            say(text)


class Lock(object):
    """Only one bootstrap at a time: two would clear each other's scratch folder."""

    def __enter__(self):
        # type: () -> None
        import fcntl

        if not os.path.isdir(WHEELS):
            os.makedirs(WHEELS)
        self.file = open(os.path.join(WHEELS, "lock"), "w")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (IOError, OSError):
            say("another bootstrap is at work; waiting for it")
            fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *error):
        # type: (object) -> None
        self.file.close()


if __name__ == "__main__":
    sys.exit(main())
