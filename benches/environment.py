"""Virtual environments that scripts make for themselves."""

import os
import pathlib
import subprocess
import sys
import venv


def enter(folder, requirements, script, pip_options=()):
    """Goes on in a virtual environment, which is made where it is missing or holds other versions than `requirements`.

    The script starts again there with the same arguments; there, this does nothing."""
    folder = folder.resolve()
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if pathlib.Path(sys.prefix).resolve() == folder:
        return
    wanted = requirements.read_text()
    installed = folder / "installed.txt"
    if not installed.exists() or installed.read_text() != wanted:
        print(f"installing {requirements.name} into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
        subprocess.check_call([python, "-m", "pip", "install", "--quiet", "-r", requirements, *pip_options])
        installed.write_text(wanted)
    sys.stdout.flush()
    os.execv(python, [str(python), str(script), *sys.argv[1:], "--venv", str(folder)])
