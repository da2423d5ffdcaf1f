"""elman's C ABI from Python: builds the library, and wraps the few functions that the benches need."""

import ctypes
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "include"
RANDOM_UNIFORM = 10


def target_dir():
    """Cargo's folder for what it builds."""
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1", "--manifest-path", str(ROOT / "Cargo.toml")]
    return pathlib.Path(json.loads(subprocess.check_output(command))["target_directory"])


def build():
    """The shared library, newly built."""
    subprocess.check_call(["make", "-C", str(ROOT), "libraries", f"CARGO_TARGET_DIR={target_dir()}"])
    return target_dir() / "c" / ("libelman.dylib" if sys.platform == "darwin" else "libelman.so")


def compile_c(source, program, *options):
    """Compiles one file of C or C++ with the compiler that CC or CXX names."""
    variable, default, standard = ("CXX", "c++", "c++17") if source.suffix == ".cpp" else ("CC", "cc", "gnu11")
    command = [os.environ.get(variable, default), f"-std={standard}", "-O2", "-Wall", "-Wextra", str(source)]
    subprocess.check_call([*command, "-o", str(program), *options])


class Peak:
    """What a core can do with the vectors that elman uses: peak.c."""

    VECTORS = {"avx512": (64, ["-mavx512f", "-mprefer-vector-width=512"]), "avx2": (32, ["-mavx2", "-mfma"])}

    def __init__(self, folder, isa):
        width, flags = self.VECTORS.get(isa, (16, []))
        program = folder / f"peak-{isa}"
        compile_c(ROOT / "benches" / "peak.c", program, "-O3", f"-DVECTOR_BYTES={width}", *flags)
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, what):
        """"flops": operations a second; "read N": bytes a second, again and again from an array of N bytes."""
        print(what, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())


class _Initializer(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_uint32), ("a", ctypes.c_float), ("b", ctypes.c_float)]


# What the configurations of all cells begin with.
_FIELDS = [
    ("struct_size", ctypes.c_size_t),
    ("units", ctypes.c_size_t),
    ("activation", ctypes.c_uint32),
    *((name, ctypes.c_uint8) for name in (
        "use_bias", "return_sequences", "go_backwards", "stateful", "zero_output_for_mask")),
    ("unroll", ctypes.c_uint32),
    ("dropout", ctypes.c_float),
    ("recurrent_dropout", ctypes.c_float),
    ("kernel_initializer", _Initializer),
    ("recurrent_initializer", _Initializer),
    ("bias_initializer", _Initializer),
]


class _SimpleRnn(ctypes.Structure):
    _fields_ = _FIELDS


class _Lstm(ctypes.Structure):
    _fields_ = [*_FIELDS, ("recurrent_activation", ctypes.c_uint32), ("unit_forget_bias", ctypes.c_uint8)]


class _Gru(ctypes.Structure):
    _fields_ = [*_FIELDS, ("recurrent_activation", ctypes.c_uint32), ("reset_after", ctypes.c_uint8)]


# The cell's name in C, and its configuration.
_CELLS = {"SimpleRNN": ("simple_rnn", _SimpleRnn), "LSTM": ("lstm", _Lstm), "GRU": ("gru", _Gru)}


def _config(library, cell, units):
    """(the cell's name in C, its configuration with Keras's defaults)"""
    name, kind = _CELLS[cell]
    config = kind()
    library.call(f"{name}_config_init", ctypes.byref(config), ctypes.sizeof(config), units)
    return name, config


def _floats(values):
    """A pointer to, and the length of, contiguous floats: an array.array, or a numpy array."""
    view = memoryview(values).cast("B")
    assert view.nbytes % 4 == 0 and not view.readonly
    count = view.nbytes // 4
    return (ctypes.c_float * count).from_buffer(view), ctypes.c_size_t(count)


class Library:
    def __init__(self, path):
        self._library = ctypes.CDLL(str(path))
        for name in ("version", "isa", "last_error"):
            self.function(name).restype = ctypes.c_char_p

    def function(self, name):
        return getattr(self._library, f"elman_{name}")

    def text(self, name):
        return self.function(name)().decode()

    def call(self, name, *arguments):
        """Calls a function that returns an elman_status; Python's int is a size_t, unless it is wrapped."""
        wrapped = [ctypes.c_size_t(a) if type(a) is int else a for a in arguments]
        if self.function(name)(*wrapped):
            raise RuntimeError(f"elman_{name}: {self.text('last_error')}")


class Network:
    """Recurrent layers of one cell; of the last one, the last step, or every one with `sequence`."""

    def __init__(
            self, library, features, units, *, cell="SimpleRNN", sequence=False, threads=1, seed=1, quick=False):
        """With `quick`, recurrent kernels start uniform with an orthogonal one's variance, which is soon made."""
        self._library, self._handle = library, ctypes.c_void_p()
        library.call("sequential_new", features, ctypes.byref(self._handle))
        for layer, count in enumerate(units):
            name, config = _config(library, cell, count)
            config.return_sequences = sequence or layer < len(units) - 1
            if quick:
                bound = (3 / count) ** 0.5
                config.recurrent_initializer = _Initializer(RANDOM_UNIFORM, -bound, bound)
            library.call(f"sequential_add_{name}", self._handle, ctypes.byref(config))
        self.build(seed)
        self.set_threads(threads)

    @classmethod
    def load(cls, library, path):
        self = cls.__new__(cls)
        self._library, self._handle = library, ctypes.c_void_p()
        library.call("sequential_load", os.fsencode(path), ctypes.byref(self._handle))
        return self

    def __del__(self):
        self._library.function("sequential_free")(self._handle)

    def build(self, seed):
        self._library.call("sequential_build", self._handle, ctypes.c_uint64(seed))

    def set_threads(self, threads):
        self._library.call("sequential_set_threads", self._handle, threads)

    def set_weight(self, layer, which, values):
        self._library.call("sequential_set_weight", self._handle, layer, ctypes.c_uint32(which), *_floats(values))

    def save(self, path):
        self._library.call("sequential_save", self._handle, os.fsencode(path))

    def predict(self, x, batch, steps, y):
        """A function without arguments that fills y: all that ctypes must prepare is prepared."""
        function = self._library.function("sequential_predict")
        sizes = ctypes.c_size_t(batch), ctypes.c_size_t(steps)
        arguments = (self._handle, *_floats(x), *sizes, *_floats(y))

        def call():
            if function(*arguments):
                raise RuntimeError(self._library.text("last_error"))

        return call


class Tape:
    """Forward and backward passes through a network as it is now."""

    def __init__(self, network, batch, steps):
        self._library, self._handle = network._library, ctypes.c_void_p()
        self._library.call("tape_new", network._handle, batch, steps, ctypes.byref(self._handle))
        self._sizes = ctypes.c_size_t(batch), ctypes.c_size_t(steps)

    def __del__(self):
        self._library.function("tape_free")(self._handle)

    def both(self, x, y, dy, dx):
        """A function without arguments that fills y, then dx and the gradients."""
        forward, backward = (self._library.function(f"tape_{name}") for name in ("forward", "backward"))
        x, y, dy, dx = (_floats(values) for values in (x, y, dy, dx))
        there = (self._handle, *x, *self._sizes, None, ctypes.c_bool(True), ctypes.c_uint64(0), *y)
        back = (self._handle, *dy, *dx)

        def call():
            if forward(*there) or backward(*back):
                raise RuntimeError(self._library.text("last_error"))

        return call

    def gradients(self, values):
        self._library.call("tape_get_gradients", self._handle, *_floats(values))


class Cell:
    """A SimpleRNN cell."""

    def __init__(self, library, features, units, weights):
        self._library, self._handle = library, ctypes.c_void_p()
        _, config = _config(library, "SimpleRNN", units)
        seed = ctypes.c_uint64(1)
        library.call("simple_rnn_cell_new", ctypes.byref(config), features, seed, ctypes.byref(self._handle))
        for which, values in enumerate(weights):
            library.call("simple_rnn_cell_set_weight", self._handle, ctypes.c_uint32(which), *_floats(values))

    def __del__(self):
        self._library.function("simple_rnn_cell_free")(self._handle)

    def step(self, x, h, batch, h_next):
        """A function without arguments that fills h_next."""
        function = self._library.function("simple_rnn_cell_step")
        arguments = (self._handle, *_floats(x), *_floats(h), ctypes.c_size_t(batch), *_floats(h_next))

        def call():
            if function(*arguments):
                raise RuntimeError(self._library.text("last_error"))

        return call
