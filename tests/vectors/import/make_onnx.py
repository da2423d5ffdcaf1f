#!/usr/bin/env python3
"""Models that the exporters of PyTorch and TensorFlow write, and the ONNX standard's own node tests, with what ONNX
Runtime (for nodes with layout 1, which it does not run: ONNX's reference) computes.

    python3 make_onnx.py            writes onnx/*.onnx and onnx.safetensors beside this file

Versions of the committed files: torch 2.15.0, onnxscript 0.7.2, tensorflow-cpu 2.21.0, keras 3.15.1, tf2onnx 1.17.0,
onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.

onnx.safetensors has for each model NAME.x (floats) or NAME.ids, [batch, steps, ...]; NAME.y, batch first; and where the
model has them NAME.lengths, NAME.h0 and NAME.hn (states as elman lays them out).
"""

import os
import sys
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore")

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "onnx")
rng = np.random.default_rng(13)
arrays = {}


def floats(*shape):
    return rng.uniform(-1, 1, shape).astype(np.float32)


def run(path, feeds):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def keep(name, **values):
    for key, value in values.items():
        dtype = np.int32 if key in ("ids", "lengths") else np.float32
        arrays[f"{name}.{key}"] = np.ascontiguousarray(value, dtype)


def torch_models():
    import torch
    from torch import nn

    torch.manual_seed(13)

    class Model(nn.Module):
        def __init__(self, kind, take, layers=1, both=False, batch_first=True, vocabulary=0, outputs=3, **options):
            super().__init__()
            self.embedding = nn.Embedding(vocabulary, 5) if vocabulary else None
            self.rnn = getattr(nn, kind)(5, 6, layers, bidirectional=both, batch_first=batch_first, **options)
            wide = both and take in ("last", "state", "sequence")
            self.fc = nn.Linear(12 if wide else 6, outputs) if outputs else None
            self.take, self.batch_first, self.both = take, batch_first, both

        def forward(self, x):
            if self.embedding is not None:
                x = self.embedding(x)
            y, h = self.rnn(x)
            h = h[0] if isinstance(h, tuple) else h
            if self.take == "last":
                y = y[:, -1] if self.batch_first else y[-1]
            elif self.take == "state":
                y = torch.cat((h[-2], h[-1]), dim=1) if self.both else h[-1]
            # Directions that are joined into one, as tutorials do it.
            elif self.take == "sum":
                y = y[:, :, :6] + y[:, :, 6:]
            elif self.take == "view_sum":
                y = y.view(y.shape[0], y.shape[1], 2, 6)
                y = y[:, :, 0] + y[:, :, 1]
            elif self.take == "view_mean":
                y = y.view(y.shape[0], y.shape[1], 2, 6).mean(2)
            elif self.take == "product":
                y = y[:, :, :6] * y[:, :, 6:]
            elif self.take == "last_sum":
                y = y[:, -1, :6] + y[:, -1, 6:]
            elif self.take == "state_sum":
                y = h[0] + h[1]
            elif self.take == "state_mean":
                y = h.mean(0)
            return y if self.fc is None else torch.softmax(self.fc(y), dim=-1)

    class Stateful(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.rnn = getattr(nn, kind)(5, 6, 2, batch_first=True)
            self.fc = nn.Linear(6, 3)

        def forward(self, x, *states):
            y, states = self.rnn(x, states if len(states) > 1 else states[0])
            return (torch.sigmoid(self.fc(y)), *(states if isinstance(states, tuple) else (states,)))

    def export(name, model, args, axes, inputs, outputs, legacy):
        path = os.path.join(OUT, name + ".onnx")
        if legacy:
            named = {name: dict(a) for name, a in zip(inputs, axes)}
            torch.onnx.export(model, args, path, dynamo=False, input_names=inputs, output_names=outputs,
                              dynamic_axes=named)
        else:
            dims = {name: torch.export.Dim(name) for name in ("batch", "steps")}
            shapes = tuple({axis: dims[of] for axis, of in a.items()} for a in axes)
            if len(args) > 1:
                shapes = (shapes[0], shapes[1:])
            torch.onnx.export(model, args, path, dynamo=True, input_names=inputs, output_names=outputs,
                              dynamic_shapes=shapes, external_data=False, verbose=False)
        proto = onnx.load(path)
        proto.doc_string = ""
        for node in proto.graph.node:
            node.doc_string = ""
            del node.metadata_props[:]
        for value in list(proto.graph.value_info) + list(proto.graph.input) + list(proto.graph.output):
            del value.metadata_props[:]
        del proto.graph.metadata_props[:]
        del proto.functions[:]
        onnx.save(proto, path)
        return path

    def one(name, model, legacy=True):
        model.eval()
        axes = {0: "batch", 1: "steps"} if model.batch_first else {0: "steps", 1: "batch"}
        def example(batch, steps):
            outer = (batch, steps) if model.batch_first else (steps, batch)
            if model.embedding is not None:
                return torch.from_numpy(rng.integers(0, 11, outer))
            return torch.from_numpy(floats(*outer, 5))
        path = export(name, model, (example(2, 4),), [axes], ["x"], ["y"], legacy)
        if name.endswith("unrolled"):
            return
        x = example(3, 7).numpy()
        y, = run(path, {"x": x})
        if not model.batch_first:
            x = x.swapaxes(0, 1)
            y = y.swapaxes(0, 1) if y.ndim == 3 else y
        keep(name, y=y, **({"ids": x} if model.embedding is not None else {"x": x}))

    def states(name, kind, legacy=True):
        model = Stateful(kind).eval()
        count = 2 if kind == "LSTM" else 1
        args = lambda batch, steps: (floats(batch, steps, 5), *(floats(2, batch, 6) for _ in range(count)))
        axes = [{0: "batch", 1: "steps"}] + [{1: "batch"}] * count
        inputs = ["x", "h0", "c0"][: 1 + count]
        path = export(name, model, tuple(map(torch.from_numpy, args(2, 4))), axes, inputs, ["y", "hn", "cn"][: 1 + count], legacy)
        given = args(3, 7)
        y, *last = run(path, dict(zip(inputs, given)))
        # For each layer h, then c.
        laid_out = lambda parts: np.stack(parts, axis=1)
        keep(name, x=given[0], y=y, h0=laid_out(given[1:]), hn=laid_out(last))

    for exporter, legacy in (("legacy", True), ("dynamo", False)):
        kinds = ["RNN", "LSTM", "GRU"] if legacy else ["LSTM", "GRU"]
        for kind in kinds:
            lower = kind.lower()
            one(f"{exporter}_{lower}_last", Model(kind, "last"), legacy)
            one(f"{exporter}_{lower}_sequence_both", Model(kind, "sequence", 2, True), legacy)
            one(f"{exporter}_{lower}_state_both", Model(kind, "state", 2, True), legacy)
            one(f"{exporter}_{lower}_last_both", Model(kind, "last", 1, True), legacy)
            one(f"{exporter}_{lower}_ids_steps_first", Model(kind, "last", batch_first=False, vocabulary=11), legacy)
            states(f"{exporter}_{lower}_states", kind, legacy)
    one("legacy_rnn_relu", Model("RNN", "sequence", nonlinearity="relu", bias=False, outputs=0))
    one("dynamo_rnn_unrolled", Model("RNN", "last"), False)
    for take in ("sum", "product", "last_sum", "state_sum", "state_mean", "view_sum", "view_mean"):
        one(f"legacy_gru_{take}", Model("GRU", take, 1, True))
        one(f"dynamo_lstm_{take}", Model("LSTM", take, 1, True), False)


def keras_models():
    import keras
    from keras import layers

    keras.utils.set_random_seed(13)

    def one(name, stack, shape=(None, 5)):
        model = keras.Sequential([keras.Input(shape)] + stack)
        ids = len(shape) == 1
        x = rng.integers(0, 11, (3, 7)).astype(np.float32) if ids else floats(3, 7, 5)
        model(x)
        for weight in model.weights:
            weight.assign(floats(*weight.shape) * (0.5 if len(weight.shape) > 1 else 1.0) + (1.0 if "variance" in weight.name else 0.0) * 1.5)
        path = os.path.join(OUT, name + ".onnx")
        model.export(path, format="onnx", verbose=False)
        proto = onnx.load(path)
        y, = run(path, {proto.graph.input[0].name: x})
        keep(name, y=y, **({"ids": x} if ids else {"x": x}))

    one("keras_lstm", [layers.LSTM(6), layers.Dense(3, activation="softmax")])
    one("keras_lstm_sequence_both", [layers.Bidirectional(layers.LSTM(6, return_sequences=True)),
                                     layers.LSTM(4, return_sequences=True), layers.Dense(3, activation="tanh")])
    one("keras_lstm_ids", [layers.Embedding(11, 5), layers.LSTM(6), layers.Dropout(0.5), layers.Dense(3)], (None,))
    one("keras_gru_loop", [layers.GRU(6)])


def node_tests():
    """The standard's cases, with their weights as constants instead of inputs."""
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        model = case.model
        if len(model.graph.node) != 1 or model.graph.node[0].op_type not in ("RNN", "LSTM", "GRU"):
            continue
        node = model.graph.node[0]
        inputs, outputs = case.data_sets[0]
        x, *weights = inputs
        names = [name for name in node.input if name]
        for name, array in zip(names[1:], weights):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        kept = [i for i in model.graph.input if i.name == names[0]]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        layout = {a.name: a.i for a in node.attribute}.get("layout", 0)
        name = "node_" + case.name.removeprefix("test_")
        onnx.save(model, os.path.join(OUT, name + ".onnx"))
        x = x if layout else x.swapaxes(0, 1)
        given = dict(zip([o for o in node.output if o], outputs))
        first = next(iter(given))
        y = given[first]
        if first == node.output[0]:
            y = y if layout else y.transpose(2, 0, 1, 3)
        else:
            y = y if layout else y.swapaxes(0, 1)
        keep(name, x=x, y=y)


def made_by_hand():
    def save(name, nodes, inputs, outputs, constants, feeds):
        value = lambda n, shape, kind=TensorProto.FLOAT: helper.make_tensor_value_info(n, kind, shape)
        graph = helper.make_graph(nodes, name, [value(*i) for i in inputs], [value(o, None) for o in outputs],
                                  [numpy_helper.from_array(a, n) for n, a in constants.items()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path = os.path.join(OUT, name + ".onnx")
        onnx.save(model, path)
        return run(path, feeds) if feeds else None

    x = floats(7, 3, 5)
    weights = {"w": floats(2, 6, 5), "r": floats(2, 6, 6), "b": floats(2, 12)}
    single = {key: value[:1] for key, value in weights.items()}
    both = helper.make_node("RNN", ["x", "w", "r", "b", "lengths"], ["y", "h"], hidden_size=6, direction="bidirectional",
                            name="rnn")
    lengths = np.array([7, 2, 5], np.int32)
    y, h = save("lengths", [both], [("x", [None, None, 5]), ("lengths", [None], TensorProto.INT32)], ["y", "h"], weights,
                {"x": x, "lengths": lengths})
    keep("lengths", x=x.swapaxes(0, 1), y=y.transpose(2, 0, 1, 3), lengths=lengths, hn=h)

    reverse = helper.make_node("RNN", ["x", "w", "r", "b"], ["", "h"], hidden_size=6, direction="reverse",
                               activations=["Relu"], name="rnn")
    h, = save("reverse", [reverse], [("x", [None, None, 5])], ["h"], single, {"x": x})
    keep("reverse", x=x.swapaxes(0, 1), y=h[0])

    # A normalisation below and above, constants made of constants, and a branch that a constant decides.
    normal = lambda name, size: {name + "_" + key: value for key, value in
                                 (("s", floats(size)), ("b", floats(size)), ("m", floats(size)), ("v", floats(size) + 2))}
    branch = lambda name, operator: helper.make_graph(
        [helper.make_node(operator, ["last"], [name])], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])
    nodes = [
        helper.make_node("Mul", ["x", "scales"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "shifts"], ["moved"]),
        helper.make_node("Concat", ["w0", "w1"], ["w_flat"], axis=0),
        helper.make_node("Unsqueeze", ["w_flat", "zero"], ["w"]),
        helper.make_node("Transpose", ["r_columns"], ["r"], perm=[0, 2, 1]),
        helper.make_node("RNN", ["moved", "w", "r", "b"], ["y", ""], hidden_size=6, name="rnn"),
        helper.make_node("Squeeze", ["y", "one"], ["sequence"]),
        helper.make_node("Slice", ["sequence", "minus_one", "end", "zero"], ["last_step"]),
        helper.make_node("Squeeze", ["last_step", "zero"], ["last"]),
        helper.make_node("If", ["yes"], ["chosen"], then_branch=branch("then", "Relu"), else_branch=branch("else", "Sin")),
        helper.make_node("BatchNormalization", ["chosen", "n_s", "n_b", "n_m", "n_v"], ["normal"]),
        helper.make_node("Gemm", ["normal", "k", "kb"], ["dense"], transB=1),
        helper.make_node("BatchNormalization", ["dense", "o_s", "o_b", "o_m", "o_v"], ["normal_again"]),
        helper.make_node("Tanh", ["normal_again"], ["out"]),
    ]
    constants = {
        "scales": floats(5), "shifts": floats(5), "w0": floats(2, 5), "w1": floats(4, 5), "r_columns": floats(1, 6, 6),
        "b": floats(1, 12), "zero": np.array([0]), "one": np.array([1]), "minus_one": np.array([-1]),
        "end": np.array([2**63 - 1]), "yes": np.array(True), "k": floats(4, 6), "kb": floats(4), **normal("n", 6), **normal("o", 4),
    }
    y, = save("folded", nodes, [("x", [None, None, 5])], ["out"], constants, {"x": x})
    keep("folded", x=x.swapaxes(0, 1), y=y)

    # Refused: each by its name.
    rnn = lambda **attributes: helper.make_node("RNN", ["x", "w", "r", "b"], ["y", "h"], hidden_size=6, name="first", **attributes)
    refuse = lambda name, nodes, outputs=("h",), more={}: save(
        "refused_" + name, nodes, [("x", [None, None, 5])], outputs, single | more, None)
    refuse("clip", [rnn(clip=3.0)])
    refuse("activation", [rnn(activations=["Elu"], activation_alpha=[0.5])])
    refuse("operator", [rnn(), helper.make_node("Erf", ["h"], ["e"], name="second")], ["e"])
    refuse("middle_step", [rnn(), helper.make_node("Gather", ["y", "r"], ["g"], name="second")], ["g"])
    refuse("mean_of_steps", [rnn(), helper.make_node("ReduceMean", ["y"], ["mean"], axes=[0], keepdims=0, name="second")], ["mean"])
    turned = helper.make_node("Slice", ["y", "minus_one", "end", "zero", "minus_one"], ["turned"], name="second")
    refuse("turned", [rnn(), turned], ["turned"], {"minus_one": np.array([-1]), "end": np.array([-(2**63)]), "zero": np.array([0])})
    refuse("two_ways", [rnn(), helper.make_node("Add", ["h", "h"], ["sum"], name="second")], ["sum"])

    # Values in another file, as torch.onnx.export leaves them where it is not told otherwise.
    elsewhere = onnx.load(os.path.join(OUT, "refused_clip.onnx"))
    del elsewhere.graph.node[0].attribute[:]
    for tensor in elsewhere.graph.initializer:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="refused_external.onnx.data")
        tensor.ClearField("raw_data")
    with open(os.path.join(OUT, "refused_external.onnx"), "wb") as file:
        file.write(elsewhere.SerializeToString())


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    made_by_hand()
    node_tests()
    torch_models()
    keras_models()
    save_file(arrays, os.path.join(HERE, "onnx.safetensors"))
