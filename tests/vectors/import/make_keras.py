#!/usr/bin/env python3
"""Keras's files (.keras, .h5, .weights.h5) and what Keras computes.

    python3 make_keras.py           writes keras/* and keras.safetensors beside this file

Versions of the committed files: keras 3.15.1 on tensorflow-cpu 2.21.0, h5py 3.14.0 (HDF5 1.14.6), numpy 2.4.6.

Files of older versions are made of today's: their description in the words of their time, and their weights in its order.
What they should give is computed by today's layers with those options.
"""

import json
import os
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import keras
import numpy as np
from keras import layers
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "keras")
rng = np.random.default_rng(13)
arrays = {}


def path(name):
    return os.path.join(OUT, name)


def fill(model):
    for weight in model.weights:
        if "seed" in weight.path:
            continue
        values = rng.uniform(-1, 1, weight.shape).astype(np.float32)
        if "variance" in weight.name:
            values = values + 2
        elif len(weight.shape) > 1:
            values = values * 0.6
        weight.assign(values)


def keep(name, model, ids=False, x=None):
    if x is None:
        x = rng.integers(0, 11, (3, 7)) if ids else rng.uniform(-1, 1, (3, 7, 5))
    y = model(np.asarray(x, np.int32 if ids else np.float32))
    if isinstance(y, (list, tuple)):
        arrays[f"{name}.hn"] = np.stack([np.asarray(state) for state in y[1:]], axis=0)
        y = y[0]
    arrays[f"{name}.{'ids' if ids else 'x'}"] = np.asarray(x, np.int32 if ids else np.float32)
    arrays[f"{name}.y"] = np.ascontiguousarray(np.asarray(y, np.float32))


def fixed_zip(source, target, method):
    """The same members without the time of day."""
    with zipfile.ZipFile(source) as old:
        members = [(info.filename, old.read(info)) for info in old.infolist()]
    with zipfile.ZipFile(target, "w", method) as new:
        for name, content in members:
            if name == "metadata.json":
                content = json.dumps({"keras_version": "3.15.1", "date_saved": "2026-11-26@00:00:00"}).encode()
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = method
            new.writestr(info, content)


# Models that are also written as .h5, which takes more room.
ALSO_H5 = ("lstm_last", "gru_both", "simple_rnn_sequence", "lstm_cells", "normalised", "functional", "forms")


def save(name, model, ids=False, x=None, forms=None):
    forms = forms or (("keras", "h5") if name in ALSO_H5 else ("keras",))
    fill(model)
    keep(name, model, ids, x)
    if "keras" in forms:
        model.save(path(name + ".keras"))
        fixed_zip(path(name + ".keras"), path(name + ".keras"), zipfile.ZIP_STORED)
    if "h5" in forms:
        model.save(path(name + ".h5"))
    return model


def stack(*parts, shape=(None, 5)):
    return keras.Sequential([keras.Input(shape), *parts])


def current():
    for kind in ("SimpleRNN", "LSTM", "GRU"):
        lower = kind.lower().replace("simplernn", "simple_rnn")
        layer = getattr(layers, kind)
        save(f"{lower}_last", stack(layers.Embedding(11, 5, mask_zero=True), layer(6), layers.Dropout(0.3),
                                    layers.Dense(3, activation="softmax"), shape=(None,)), ids=True)
        save(f"{lower}_both", stack(layers.Bidirectional(layer(6, return_sequences=True, dropout=0.2, recurrent_dropout=0.1)),
                                    layers.Bidirectional(layer(4), merge_mode="sum"), layers.Dense(3, activation="tanh")))
        save(f"{lower}_sequence", stack(layer(6, return_sequences=True, use_bias=False, go_backwards=True),
                                        layers.TimeDistributed(layers.Dense(4)), layers.Activation("relu"), layers.Dense(2)))
        cell = getattr(layers, kind + "Cell")
        x = rng.uniform(-1, 1, (3, 7, 5)).astype(np.float32)
        x[1, 2] = x[2, 5:] = -1
        save(f"{lower}_cells", stack(layers.Masking(-1.0), layers.RNN([cell(6), cell(4)], return_sequences=True), layers.RNN(cell(3)),
                                     layers.Dense(2)), x=x)
    save("gru_before", stack(layers.GRU(6, reset_after=False, recurrent_activation="hard_sigmoid", activation="softplus"), layers.Dense(2)))
    save("activations", stack(layers.LSTM(6, recurrent_activation="hard_sigmoid", activation="elu", return_sequences=True),
                              layers.Dense(4), layers.ReLU(), layers.Dense(4), layers.LeakyReLU(negative_slope=0.2), layers.Dense(4),
                              layers.ELU(), layers.Dense(4, activation="leaky_relu"), layers.Dense(3), layers.Softmax()))
    save("normalised", stack(layers.BatchNormalization(), layers.GRU(6, return_sequences=True), layers.BatchNormalization(scale=False),
                             layers.GaussianNoise(0.1), layers.SpatialDropout1D(0.2), layers.LSTM(4), layers.BatchNormalization(center=False),
                             layers.Dense(3), layers.BatchNormalization(), layers.Activation("tanh"), layers.BatchNormalization()))
    inputs = keras.Input((None, 5), name="first")
    below = layers.LSTM(6, return_sequences=True, name="below")(inputs)
    above = layers.Dense(3, name="above")(layers.Dropout(0.5)(layers.GRU(4, name="middle")(below)))
    save("functional", keras.Model(inputs, above))
    model = save("forms", stack(layers.Bidirectional(layers.GRU(6, return_sequences=True)), layers.LSTM(4), layers.Dense(3)))
    model.save_weights(path("forms.weights.h5"))
    fixed_zip(path("forms.keras"), path("forms_deflated.keras"), zipfile.ZIP_DEFLATED)
    # What newer HDF5 libraries write unless told not to, with more members than fit into an object's header.
    many = save("many", stack(*[layers.Dense(3 + i % 2) for i in range(12)]), forms=("h5",))
    many.save_weights(path("many.weights.h5"))
    for name in ("many.weights.h5", "many.h5", "forms.weights.h5", "forms.h5"):
        copy_new(path(name), path(name.replace("many", "many_new").replace("forms", "forms_new")))


def copy_new(source, target):
    with h5py.File(source) as old, h5py.File(target, "w", libver=("v110", "v110")) as new:
        for key, value in old.attrs.items():
            new.attrs[key] = value
        for key in old:
            old.copy(old[key], new, key)
        # h5py copies groups as they are: make them anew.
        for key in list(new):
            del new[key]
        def walk(group, to):
            for key, value in group.attrs.items():
                to.attrs[key] = value
            for key, item in group.items():
                if isinstance(item, h5py.Group):
                    walk(item, to.create_group(key))
                else:
                    to.create_dataset(key, data=item[()])
        walk(old, new)




def gates(values, count):
    return np.split(values, count, axis=-1)


def old():
    """Files of Keras 1 and 2."""
    def write(name, version, description, weights):
        with h5py.File(path(name), "w") as file:
            file.attrs["keras_version"] = version.encode()
            file.attrs["backend"] = b"tensorflow"
            file.attrs["model_config"] = json.dumps(description).encode()
            root = file.create_group("model_weights")
            root.attrs["layer_names"] = [layer.encode() for layer in weights]
            for layer, listed in weights.items():
                group = root.create_group(layer)
                group.attrs["weight_names"] = np.array([n.encode() for n, _ in listed]) if listed else []
                for weight, values in listed:
                    group.create_dataset(weight, data=values)

    def named(layer, arrays, names=("kernel", "recurrent_kernel", "bias")):
        return [(f"{layer}/{n}:0", np.asarray(a)) for n, a in zip(names, arrays)]

    # 2.2: recurrent activations were hard_sigmoid, with another slope, and GRU was reset before.
    model = stack(layers.LSTM(6, return_sequences=True, recurrent_activation=hard), layers.GRU(4, reset_after=False, recurrent_activation=hard),
                  layers.Dense(3))
    fill(model)
    keep("keras_2_2", model)
    lstm, gru, dense = model.layers
    description = {"class_name": "Sequential", "config": [
        {"class_name": "LSTM", "config": {"name": "lstm_1", "units": 6, "batch_input_shape": [None, None, 5], "return_sequences": True,
                                          "activation": "tanh", "recurrent_activation": "hard_sigmoid", "use_bias": True}},
        {"class_name": "GRU", "config": {"name": "gru_1", "units": 4, "activation": "tanh", "recurrent_activation": "hard_sigmoid"}},
        {"class_name": "Dense", "config": {"name": "dense_1", "units": 3, "activation": "linear"}}]}
    write("keras_2_2.h5", "2.2.4", description, {
        "lstm_1": named("lstm_1", lstm.get_weights()), "gru_1": named("gru_1", gru.get_weights()),
        "dense_1": named("dense_1", dense.get_weights(), ("kernel", "bias"))})

    with h5py.File(path("keras_2_2.h5")) as file, h5py.File(path("keras_2_2_weights.h5"), "w") as alone:
        for key in file["model_weights"].attrs:
            alone.attrs[key] = file["model_weights"].attrs[key]
        for key in file["model_weights"]:
            file["model_weights"].copy(key, alone)

    # 1: other words, and each gate's arrays for itself.
    names = ["W_i", "U_i", "b_i", "W_c", "U_c", "b_c", "W_f", "U_f", "b_f", "W_o", "U_o", "b_o"]
    k, u, b = (gates(w, 4) for w in lstm.get_weights())
    of_lstm = [a for g in (0, 2, 1, 3) for a in (k[g], u[g], b[g])]
    k, u, b = (gates(w, 3) for w in gru.get_weights())
    of_gru = [a for g in (0, 1, 2) for a in (k[g], u[g], b[g])]
    description = {"class_name": "Sequential", "config": [
        {"class_name": "LSTM", "config": {"name": "lstm_1", "output_dim": 6, "return_sequences": True, "activation": "tanh",
                                          "inner_activation": "hard_sigmoid", "dropout_W": 0.0, "dropout_U": 0.0}},
        {"class_name": "GRU", "config": {"name": "gru_1", "output_dim": 4, "activation": "tanh", "inner_activation": "hard_sigmoid"}},
        {"class_name": "Dense", "config": {"name": "dense_1", "output_dim": 3, "activation": "linear", "bias": True}}]}
    write("keras_1.h5", "1.2.2", description, {
        "lstm_1": [("lstm_1_" + n, a) for n, a in zip(names, of_lstm)],
        "gru_1": [(f"gru_1_{i}", a) for i, a in enumerate(of_gru)],
        "dense_1": [("dense_1_W", dense.get_weights()[0]), ("dense_1_b", dense.get_weights()[1])]})
    arrays.update({key.replace("keras_2_2", "keras_1"): value for key, value in list(arrays.items()) if "keras_2_2" in key})

    # CuDNN's layers: Keras's weights turned into their order.
    model = stack(layers.Bidirectional(layers.LSTM(6, return_sequences=True)), layers.GRU(4), layers.Dense(3))
    fill(model)
    keep("cudnn", model)
    both, gru, dense = model.layers
    kernel = lambda w, n: np.hstack([g.flatten("F").reshape(g.shape) for g in gates(w, n)])
    recurrent = lambda w, n: np.hstack([g.T for g in gates(w, n)])
    split = rng.uniform(-1, 1, 24).astype(np.float32)
    of_lstm = lambda w: [kernel(w[0], 4), recurrent(w[1], 4), np.concatenate([w[2] - split, split])]
    w = both.get_weights()
    of_gru = gru.get_weights()
    of_gru = [kernel(of_gru[0], 3), recurrent(of_gru[1], 3), of_gru[2].reshape(-1)]
    description = {"class_name": "Sequential", "config": [
        {"class_name": "Bidirectional", "config": {"name": "both", "merge_mode": "concat", "layer": {
            "class_name": "CuDNNLSTM", "config": {"name": "cu_dnnlstm_1", "units": 6, "return_sequences": True, "go_backwards": False}}}},
        {"class_name": "CuDNNGRU", "config": {"name": "cu_dnngru_1", "units": 4}},
        {"class_name": "Dense", "config": {"name": "dense_1", "units": 3, "activation": "linear"}}]}
    write("cudnn.h5", "2.1.5", description, {
        "both": named("both/forward", of_lstm(w[:3])) + named("both/backward", of_lstm(w[3:])),
        "cu_dnngru_1": named("cu_dnngru_1", of_gru), "dense_1": named("dense_1", dense.get_weights(), ("kernel", "bias"))})


def hard(x):
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def refused():
    for name, parts in {
        "selu": [layers.LSTM(6, name="first"), layers.Dense(3, activation="selu", name="second")],
        "flatten": [layers.LSTM(6, return_sequences=True), layers.GlobalMaxPooling1D(name="pool")],
        "layer_norm": [layers.LSTM(6), layers.LayerNormalization(name="norm")],
    }.items():
        stack(*parts).save(path(f"refused_{name}.keras"))
        fixed_zip(path(f"refused_{name}.keras"), path(f"refused_{name}.keras"), zipfile.ZIP_STORED)
    inputs = keras.Input((None, 5))
    y = layers.GRU(5, name="one")(inputs)
    model = keras.Model(inputs, layers.Add(name="sum")([y, layers.GRU(5, name="two")(inputs)]))
    model.save(path("refused_graph.h5"))
    with h5py.File(path("forms.h5")) as old_file, h5py.File(path("refused_chunks.h5"), "w") as new:
        for key, value in old_file.attrs.items():
            new.attrs[key] = value
        old_file.copy("model_weights", new)
        names = []
        new["model_weights"].visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in names:
            values = new["model_weights"][name][()]
            del new["model_weights"][name]
            new["model_weights"].create_dataset(name, data=values, chunks=True, compression="gzip")


def steps():
    """Functional models that take the last step of a sequence, masked or not, and one that takes another."""
    inputs = keras.Input((None, 5))
    sequence = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(inputs)
    save("step_last", keras.Model(inputs, layers.Dense(3)(sequence[:, -1, :])))
    ids = keras.Input((None,))
    embedded = layers.Embedding(11, 5, mask_zero=True)(ids)
    sequence = layers.Bidirectional(layers.GRU(6, return_sequences=True), merge_mode="ave")(embedded)
    tokens = rng.integers(1, 11, (3, 7))
    tokens[1, 4:] = tokens[2, 2] = 0
    save("step_last_masked", keras.Model(ids, layers.Dense(3)(sequence[:, -1])), ids=True, x=tokens)
    masked = layers.Masking(-1.0)(inputs)
    above = layers.GRU(4)(layers.Dropout(0.5)(layers.Dense(4)(layers.LSTM(6, return_sequences=True)(masked))))
    x = rng.uniform(-1, 1, (3, 7, 5)).astype(np.float32)
    x[1, 2] = x[2, 5:] = -1
    save("functional_masked", keras.Model(inputs, above), x=x)
    sequence = layers.SimpleRNN(6, return_sequences=True, go_backwards=True)(inputs)
    save("step_last_backwards", keras.Model(inputs, layers.Dense(3)(sequence[:, -1])))
    sequence = layers.GRU(6, return_sequences=True)(inputs)
    other = layers.LSTM(6)(layers.Embedding(11, 5, mask_zero=True)(ids), mask=keras.ops.not_equal(ids, 3))
    for name, model in {"step": keras.Model(inputs, sequence[:, 2]), "mask": keras.Model(ids, other)}.items():
        model.save(path(f"refused_{name}.keras"))
        fixed_zip(path(f"refused_{name}.keras"), path(f"refused_{name}.keras"), zipfile.ZIP_STORED)


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    keras.utils.set_random_seed(13)
    current()
    old()
    refused()
    steps()
    save_file(arrays, os.path.join(HERE, "keras.safetensors"))
