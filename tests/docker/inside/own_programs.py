"""Run in a sandbox: make programs where tools put theirs, and run them. Prints, for each, what became of it, as JSON.

As `go test` does: a program is written to $TMPDIR and run. As `npx`, hooks and wheels with entry points do: a script
with a first line that names its interpreter, in the home directory.
"""

import base64
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

HOME = pathlib.Path.home()


def run(*command: str) -> str:
    """`ok`, or why not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/workspace")
    except OSError as error:
        return type(error).__name__
    return "ok" if done.returncode == 0 else (done.stderr or done.stdout).strip()[-200:]


def copied(directory: pathlib.Path) -> str:
    program = directory / "program"
    shutil.copy("/bin/true", program)
    return run(str(program))


def script() -> str:
    hook = HOME / "hook"
    hook.write_text("#!/bin/sh\nexit 0\n")
    hook.chmod(0o755)
    return run(str(hook))


def library() -> str:
    """As JNI and ctypes do: a shared library from $TMPDIR, mapped to be executed."""
    found = next(pathlib.Path("/").glob("usr/lib/*/libz.so.1"), None) or next(pathlib.Path("/").glob("lib/*/libz.so.1"))
    copy = pathlib.Path(tempfile.gettempdir()) / "libcopy.so"
    shutil.copy(found, copy)
    return run(sys.executable, "-c", f"import ctypes; ctypes.CDLL({str(copy)!r})")


def wheel() -> pathlib.Path:
    """A package with an entry point, as pip gets one from an index."""
    info = "greeter-1.dist-info"
    files = {
        "greeter.py": "def main():\n    print('hello')\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: greeter\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ngreet = greeter:main\n",
    }
    lines = []
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(text)}")
    path = pathlib.Path(tempfile.gettempdir()) / "greeter-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,", ""]))
    return path


def main() -> None:
    found = {
        "a program in $TMPDIR": copied(pathlib.Path(tempfile.gettempdir())),
        "a program in $HOME": copied(HOME),
        "a script in $HOME": script(),
        "a library in $TMPDIR": library(),
    }
    if "python" in sys.argv[1:]:
        package, pip = str(wheel()), ("-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check")
        found["python -m venv"] = run(sys.executable, "-m", "venv", str(HOME / "venv"))
        found["pip install in a venv"] = run(str(HOME / "venv/bin/python"), *pip, package)
        found["its entry point"] = run(str(HOME / "venv/bin/greet"))
        found["pip install --user"] = run(sys.executable, *pip, "--user", package)
        found["the user's entry point, by PATH"] = run("greet")
        found["make"] = run("make", "--version")
        found["a time zone by name"] = run(sys.executable, "-c", "import zoneinfo; zoneinfo.ZoneInfo('Europe/Berlin')")
        found["authorities for TLS"] = run(
            sys.executable, "-c", "import ssl; assert ssl.create_default_context().cert_store_stats()['x509_ca'] > 50"
        )
    os.write(1, json.dumps(found).encode())


main()
