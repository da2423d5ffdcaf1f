#!/usr/bin/env python3
"""Has PyTorch, ONNX Runtime and Keras read what elman exports, and compares what they compute with elman's predictions.

    cargo test --test export -- --ignored          writes models, inputs and outputs to target/tmp/export
    python3 check_export.py [directory]            checks them

The modules and layers are made from the description in elman's own file, as a user would make them by hand.

Tried with torch 2.15.0, safetensors 0.8.0, onnx 1.23.2, onnxruntime 1.32.0, keras 3.15.1 on tensorflow 2.21.0, numpy 2.4.6.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-5
RECURRENT = ("simple_rnn", "lstm", "gru")


def described(path):
    """The input's features and the layers of elman's own file."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    config = json.loads(header["__metadata__"]["config"])
    return config["input_size"], config["layers"]


def recurrent(layer):
    """The kind of a recurrent layer, its options, and whether it walks both ways."""
    if layer["type"] == "bidirectional":
        kind = next(kind for kind in RECURRENT if kind in layer)
        return kind, layer[kind], True
    return layer["type"], layer, False


def in_torch(input_size, layers, state):
    import torch
    from torch import nn

    functions = {
        "linear": lambda x: x,
        "hard_sigmoid": nn.functional.hardsigmoid,
        "hard_sigmoid_keras2": lambda x: torch.clamp(x / 5 + 0.5, 0, 1),
        "leaky_relu": lambda x: nn.functional.leaky_relu(x, 0.2),
        "softmax": lambda x: torch.softmax(x, -1),
        "elu": nn.functional.elu,
        "softplus": nn.functional.softplus,
        **{name: getattr(torch, name) for name in ("tanh", "relu", "sigmoid")},
    }
    modules, width = nn.ModuleList(), input_size
    for layer in layers:
        if layer["type"] == "embedding":
            modules.append(nn.Embedding(layer["vocabulary"], layer["size"]))
            width = layer["size"]
        elif layer["type"] == "dense":
            modules.append(nn.Linear(width, layer["units"], bias=layer["use_bias"]))
            width = layer["units"]
        elif layer["type"] == "dropout":
            modules.append(nn.Dropout(layer["rate"]))
        elif layer["type"] == "last_step":
            modules.append(nn.Identity())
        else:
            kind, options, both = recurrent(layer)
            more = {"nonlinearity": options["activation"]} if kind == "simple_rnn" else {}
            made = {"simple_rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind]
            units = options["units"]
            modules.append(
                made(width, units, batch_first=True, bidirectional=both, bias=options["use_bias"], **more)
            )
            width = 2 * units if both else units
    modules.load_state_dict(state, strict=True)
    modules.eval()

    def forward(x):
        for layer, module in zip(layers, modules):
            if layer["type"] == "dense":
                x = functions[layer["activation"]](module(x))
            elif layer["type"] == "last_step":
                x = x[:, -1]
            elif layer["type"] in ("embedding", "dropout"):
                x = module(x)
            else:
                _, options, both = recurrent(layer)
                y, h = module(x)
                h = h[0] if isinstance(h, tuple) else h
                last = torch.cat((h[0], h[1]), dim=1) if both else h[0]
                x = y if options["return_sequences"] else last
        return x

    return forward


def check_torch(path, end, input_size, layers, io):
    import torch
    from safetensors.torch import load_file

    file = f"{path}{end}"
    state = load_file(file) if end == ".safetensors" else torch.load(file, weights_only=True)
    forward = in_torch(input_size, layers, state)
    with torch.no_grad():
        x = torch.from_numpy(io["x"]) if "x" in io else torch.from_numpy(io["ids"].astype(np.int64))
        return forward(x).numpy()


def check_onnx(path, end, input_size, layers, io):
    import onnx
    import onnxruntime

    file = f"{path}{end}"
    onnx.checker.check_model(file, full_check=True)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    given = {"x": io["x"]} if "x" in io else {"ids": io["ids"].astype(np.int64)}
    batch = len(next(iter(given.values())))
    for state in session.get_inputs()[1:]:  # those that are kept from call to call
        given[state.name] = np.zeros([batch if size == "batch" else size for size in state.shape], np.float32)
    return session.run(["y"], given)[0]


def in_keras(input_size, layers):
    import keras

    # By name, since a wrapper writes its layer down and reads it again.
    @keras.saving.register_keras_serializable()
    def hard_sigmoid_keras2(x):
        return keras.ops.clip(x / 5 + 0.5, 0, 1)

    def function(name):
        return hard_sigmoid_keras2 if name == "hard_sigmoid_keras2" else name

    made = {"simple_rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
    ids = layers[0]["type"] == "embedding"
    model = keras.Sequential([keras.Input((None,), dtype="int32") if ids else keras.Input((None, input_size))])
    for layer in layers:
        if layer["type"] == "embedding":
            model.add(keras.layers.Embedding(layer["vocabulary"], layer["size"], mask_zero=layer["mask_zero"]))
        elif layer["type"] == "masking":
            model.add(keras.layers.Masking(layer["mask_value"]))
        elif layer["type"] == "dense":
            model.add(
                keras.layers.Dense(
                    layer["units"], activation=function(layer["activation"]), use_bias=layer["use_bias"]
                )
            )
        elif layer["type"] == "dropout":
            model.add(keras.layers.Dropout(layer["rate"]))
        elif layer["type"] == "last_step":
            model.add(keras.layers.Lambda(lambda x: x[:, -1]))
        else:
            kind, options, both = recurrent(layer)
            names = ("units", "use_bias", "return_sequences", "go_backwards", "reset_after", "dropout", "recurrent_dropout")
            given = {name: options[name] for name in names if name in options}
            for name in ("activation", "recurrent_activation"):
                if name in options:
                    given[name] = function(options[name])
            one = made[kind](**given)
            mode = layer.get("merge_mode")
            model.add(keras.layers.Bidirectional(one, merge_mode=mode) if both else one)
    return model


def check_keras(path, end, input_size, layers, io):
    model = in_keras(input_size, layers)
    model.load_weights(f"{path}{end}")
    return np.asarray(model(io["x"] if "x" in io else io["ids"]))


CHECKS = {
    "Torch": (check_torch, (".pt", ".safetensors")),
    "Onnx": (check_onnx, (".onnx",)),
    "KerasWeights": (check_keras, (".weights.h5",)),
}


def main():
    from safetensors.numpy import load_file

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parents[2] / "target/tmp/export"
    wrong = 0
    for kind, (check, ends) in CHECKS.items():
        models, largest = 0, 0.0
        for file in sorted(directory.glob(f"{kind}_*.elman")):
            path = file.with_suffix("")
            input_size, layers = described(file)
            io = load_file(f"{path}.io")
            if "x" in io:
                io["x"] = io["x"].reshape(*io["x"].shape[:2], input_size)
            for end in ends:
                if not Path(f"{path}{end}").exists():
                    continue
                models += 1
                try:
                    y = check(path, end, input_size, layers, io).reshape(-1)
                    far = np.abs(y - io["y"]) / np.maximum(1, np.abs(io["y"]))
                    far = float(far.max()) if y.shape == io["y"].shape else np.inf
                except Exception as error:  # whatever a framework says of a file
                    print(f"{path.name}{end}: {type(error).__name__}: {error}")
                    far = np.inf
                largest = max(largest, far)
                if not far <= TOLERANCE:
                    wrong += 1
                    print(f"{path.name}{end}: {far:.3g} away: {layers}")
        print(f"{kind}: {models} files, largest difference {largest:.3g}")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
