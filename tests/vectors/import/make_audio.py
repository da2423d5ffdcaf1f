#!/usr/bin/env python3
"""What audio plug-ins load, with what Keras and PyTorch compute: RTNeural's JSON of Keras's layers, laid out as RTNeural's
python/model_utils.py writes it, and .nam files of LSTMs, as neural-amp-modeler 0.13 exports them.

    python3 make_audio.py           writes audio/* and audio.safetensors beside this file

Versions of the committed files: keras 3.15.1 on tensorflow-cpu 2.21.0, torch 2.15.0, numpy 2.4.6.
"""

import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import torch
from keras import layers
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "audio")
rng = np.random.default_rng(13)
arrays = {}


def rtneural(name, stack):
    model = keras.Sequential([keras.Input((None, 1)), *stack])
    for weight in model.weights:
        weight.assign(rng.uniform(-1, 1, weight.shape))
    x = rng.uniform(-1, 1, (1, 9, 1)).astype(np.float32)
    arrays[f"{name}.x"], arrays[f"{name}.y"] = x, np.asarray(model(x), np.float32)
    kinds = {layers.TimeDistributed: "time-distributed-dense", layers.GRU: "gru", layers.LSTM: "lstm", layers.Dense: "dense",
             layers.Activation: "activation"}
    described = []
    for layer in model.layers:
        inner = layer.layer if isinstance(layer, layers.TimeDistributed) else layer
        activation = inner.activation.__name__
        described.append({"type": kinds[type(layer)], "activation": "" if activation == "linear" else activation,
                          "shape": [None, None, layer.output.shape[-1]], "weights": [w.tolist() for w in layer.get_weights()]})
    with open(os.path.join(OUT, name + ".json"), "w") as file:
        json.dump({"in_shape": [None, None, 1], "layers": described}, file, indent=4)


def nam(name, units, count):
    torch.manual_seed(13)
    core, head = torch.nn.LSTM(1, units, count, batch_first=True), torch.nn.Linear(units, 1)
    first = [torch.rand(count, 1, units) - 0.5 for _ in range(2)]
    x = torch.rand(1, 9, 1) - 0.5
    with torch.no_grad():
        y = head(core(x, tuple(first))[0])
    arrays[f"{name}.x"], arrays[f"{name}.y"] = x.numpy(), y.numpy()
    listed = []
    for i in range(count):
        get = lambda which: getattr(core, f"{which}_l{i}").data
        listed += [torch.cat([get("weight_ih"), get("weight_hh")], 1), get("bias_ih") + get("bias_hh"), first[0][i], first[1][i]]
    listed += [head.weight.data, head.bias.data]
    weights = np.concatenate([part.numpy().ravel() for part in listed]).tolist()
    config = {"input_size": 1, "hidden_size": units, "num_layers": count}
    with open(os.path.join(OUT, name + ".nam"), "w") as file:
        json.dump({"version": "0.5.4", "metadata": {}, "architecture": "LSTM", "config": config, "weights": weights,
                   "sample_rate": 48000}, file)


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    rtneural("gru", [layers.Dense(4, activation="tanh"), layers.GRU(6, return_sequences=True), layers.Dense(1)])
    rtneural("lstm", [layers.LSTM(6, return_sequences=True), layers.TimeDistributed(layers.Dense(3, activation="relu")),
                      layers.Activation("sigmoid"), layers.Dense(1)])
    nam("nam", 4, 2)
    with open(os.path.join(OUT, "refused_wavenet.nam"), "w") as file:
        json.dump({"version": "0.5.4", "architecture": "WaveNet", "config": {}, "weights": []}, file)
    with open(os.path.join(OUT, "refused_conv.json"), "w") as file:
        json.dump({"in_shape": [None, None, 1], "layers": [{"type": "conv1d", "activation": "tanh", "weights": [[], []]}]}, file)
    save_file(arrays, os.path.join(HERE, "audio.safetensors"))
