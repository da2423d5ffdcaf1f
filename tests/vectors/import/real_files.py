#!/usr/bin/env python3
"""Tries files that people really ship: downloads their packages from PyPI and loads them through the C functions.

    cargo rustc --lib --crate-type cdylib
    python3 real_files.py ../../../target/debug/libelman.so

The LSTM of silero-vad (MIT) is selected by a prefix and compared with PyTorch's; the graphs of silero-vad must name what
they refuse; the weights of reactionrnn 0.1 (MIT, Keras 2) go into a network of its layers and are compared with Keras's.
Nothing of the packages is run or kept.
"""

import ctypes
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

PACKAGES = (("silero-vad==6.2.3", ()), ("reactionrnn==0.1", ("--no-binary", ":all:")))


class Options(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("prefix", ctypes.c_char_p), ("output", ctypes.c_uint32),
                ("activation", ctypes.c_uint32), ("between", ctypes.c_uint32), ("last", ctypes.c_uint32),
                ("has_between", ctypes.c_uint8)]


def fetch(folder):
    for package, options in PACKAGES:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", *options, "-d", folder, package], check=True)
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.endswith(".whl"):
            zipfile.ZipFile(path).extractall(folder)
        elif name.endswith(".tar.gz"):
            tarfile.open(path).extractall(folder, filter="data")


class Library:
    def __init__(self, path):
        self.c = ctypes.CDLL(path)
        self.c.elman_last_error.restype = ctypes.c_char_p

    def check(self, status):
        if status:
            raise RuntimeError(f"{status}: {self.c.elman_last_error().decode()}")

    def load(self, path, **options):
        given = Options()
        self.check(self.c.elman_load_options_init(ctypes.byref(given), ctypes.c_size_t(ctypes.sizeof(given))))
        for name, value in options.items():
            setattr(given, name, value)
        network = ctypes.c_void_p()
        self.check(self.c.elman_sequential_load_with(path.encode(), ctypes.byref(given), ctypes.byref(network)))
        return network

    def predict(self, network, x):
        x = np.ascontiguousarray(x)
        size = ctypes.c_size_t
        length = size()
        self.check(self.c.elman_sequential_output_len(network, size(x.shape[0]), size(x.shape[1]), ctypes.byref(length)))
        y = np.zeros(length.value, np.float32)
        call = self.c.elman_sequential_predict_tokens if x.dtype == np.int32 else self.c.elman_sequential_predict
        self.check(call(network, x.ctypes.data_as(ctypes.c_void_p), size(x.size), size(x.shape[0]), size(x.shape[1]),
                        y.ctypes.data_as(ctypes.c_void_p), size(y.size)))
        return y


def silero(library, folder):
    import torch
    from safetensors.torch import load_file

    path = os.path.join(folder, "silero_vad/data/silero_vad_16k.safetensors")
    tensors = load_file(path)
    (name,) = [name for name in tensors if name.endswith("weight_hh")]
    prefix = name[: -len("weight_hh")]
    units = tensors[name].shape[1]
    cell = torch.nn.LSTMCell(tensors[prefix + "weight_ih"].shape[1], units)
    cell.load_state_dict({key[len(prefix):]: value for key, value in tensors.items() if key.startswith(prefix)})
    x = torch.rand(2, 9, cell.input_size) - 0.5
    state = None
    with torch.no_grad():
        for step in x.unbind(1):
            state = cell(step, state)
    network = library.load(path, prefix=prefix.encode(), output=2)
    far = np.abs(library.predict(network, x.numpy()) - state[0].numpy().ravel()).max()
    print(f"silero_vad_16k.safetensors, {prefix}*: LSTM of {units}, at most {far:.1e} from PyTorch")
    assert far < 1e-5
    for name in sorted(os.listdir(os.path.join(folder, "silero_vad/data"))):
        if name.endswith(".onnx"):
            try:
                library.load(os.path.join(folder, "silero_vad/data", name))
                raise AssertionError(f"{name} has loaded")
            except RuntimeError as error:
                assert str(error).startswith("8: ") and ("node" in str(error) or "input" in str(error)), error
                print(f"{name}: {str(error).split('.onnx: ')[-1]}")
    try:
        library.load(path)
    except RuntimeError as error:
        print(f"silero_vad_16k.safetensors, whole: {str(error).split('.safetensors: ')[-1]}")


def reactionrnn(library, folder):
    import h5py
    import keras
    from keras import layers

    path = os.path.join(folder, "reactionrnn-0.1/reactionrnn/reactionrnn_weights.hdf5")
    # Keras 2.0's defaults.
    hard = lambda x: keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)
    model = keras.Sequential([keras.Input((None,)), layers.Embedding(401, 100, mask_zero=True),
                              layers.GRU(256, reset_after=False, recurrent_activation=hard), layers.Dense(5)])
    with h5py.File(path) as file:
        weights = lambda layer: [file[layer][name.decode()][()] for name in file[layer].attrs["weight_names"]]
        for layer, name in zip(model.layers, ("embedding", "rnn", "output")):
            layer.set_weights(weights(name))
    ids = np.random.default_rng(13).integers(1, 401, (2, 30)).astype(np.int32)
    ids[1, 20:] = 0
    network, size = ctypes.c_void_p(), ctypes.c_size_t
    c = library.c
    library.check(c.elman_sequential_new(size(1), ctypes.byref(network)))
    library.check(c.elman_sequential_add_embedding(network, size(401), size(100), ctypes.c_bool(True)))
    config = (ctypes.c_uint8 * 512)()
    library.check(c.elman_gru_config_init(config, size(512), size(256)))
    # The fields of the header, by its compiler: a host in C writes config.reset_after = 0.
    offsets = os.environ["GRU_OFFSETS"].split(",")
    config[int(offsets[0])] = 0
    ctypes.c_uint32.from_buffer(config, int(offsets[1])).value = 6
    library.check(c.elman_sequential_add_gru(network, config))
    library.check(c.elman_sequential_add_dense(network, size(5), ctypes.c_uint32(0)))
    library.check(c.elman_sequential_build(network, ctypes.c_uint64(1)))
    library.check(c.elman_sequential_load_weights(network, path.encode()))
    expected = np.asarray(model(ids)).ravel()
    far = (np.abs(library.predict(network, ids) - expected) / np.maximum(1, np.abs(expected))).max()
    print(f"reactionrnn_weights.hdf5: GRU of 256, reset before, at most {far:.1e} from Keras")
    assert far < 1e-5


def offsets():
    """Where two fields of elman_gru_config are, as a C compiler says."""
    program = r"""
    #include <stdio.h>
    #include "elman.h"
    int main(void) {
        printf("%zu,%zu", offsetof(elman_gru_config, reset_after), offsetof(elman_gru_config, recurrent_activation));
    }"""
    include = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../include")
    with tempfile.TemporaryDirectory() as folder:
        source, binary = os.path.join(folder, "o.c"), os.path.join(folder, "o")
        with open(source, "w") as file:
            file.write(program)
        subprocess.run(["cc", "-I", include, source, "-o", binary], check=True)
        return subprocess.run([binary], check=True, capture_output=True, text=True).stdout


def main():
    os.environ["GRU_OFFSETS"] = offsets()
    library = Library(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        if len(sys.argv) > 2:
            folder = sys.argv[2]
        else:
            fetch(folder)
        silero(library, folder)
        reactionrnn(library, folder)


if __name__ == "__main__":
    main()
