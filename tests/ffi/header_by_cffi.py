"""elman.h as a tool for another language reads it: Python's cffi, which sees no macros (pip install cffi).

    python3 tests/ffi/header_by_cffi.py target/c/libelman.so

Every constant must be there, under every function that the header declares, and a network must run.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

import cffi

HEADER = pathlib.Path(__file__).resolve().parents[2] / "include" / "elman.h"


def preprocessed():
    """The declarations alone: cffi knows the system's types."""
    with tempfile.TemporaryDirectory() as empty:
        for name in ("stdbool.h", "stddef.h", "stdint.h"):
            (pathlib.Path(empty) / name).touch()
        command = [os.environ.get("CC", "cc"), "-E", "-P", "-nostdinc", "-I", empty, "-x", "c", str(HEADER)]
        return subprocess.check_output(command, text=True)


def main():
    ffi = cffi.FFI()
    ffi.cdef(preprocessed())
    library = ffi.dlopen(str(pathlib.Path(sys.argv[1]).resolve()))

    text = HEADER.read_text()
    constants = re.findall(r"^    (ELMAN_\w+) = (\d+),$", text, re.MULTILINE)
    assert len(constants) > 50, constants
    for name, value in constants:
        assert getattr(library, name) == int(value), name
    functions = re.findall(r"\b(elman_\w+)\([^)]*\);", text)
    for name in functions:
        assert getattr(library, name), name

    major, minor, patch = map(int, ffi.string(library.elman_version()).decode().split("."))
    assert library.elman_version_number() == major * 1000000 + minor * 1000 + patch

    out = ffi.new("elman_sequential **")
    assert library.elman_sequential_new(3, out) == library.ELMAN_STATUS_OK
    network = ffi.gc(out[0], library.elman_sequential_free)
    assert library.elman_sequential_add_dense(network, 2, library.ELMAN_ACTIVATION_TANH) == library.ELMAN_STATUS_OK
    assert library.elman_sequential_build(network, 1) == library.ELMAN_STATUS_OK
    y = ffi.new("float[2]")
    assert library.elman_sequential_predict(network, [1.0, 2.0, 3.0], 3, 1, 1, y, 2) == library.ELMAN_STATUS_OK
    assert library.elman_sequential_predict(network, [1.0], 1, 1, 1, y, 2) == library.ELMAN_STATUS_LENGTH_MISMATCH
    print(f"{len(constants)} constants, {len(functions)} functions, {list(y)}")


if __name__ == "__main__":
    main()
