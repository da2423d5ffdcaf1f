"""Write onnx_gated.safetensors, reference outputs of ONNX Runtime's LSTM and GRU for rows of different lengths.

    pip install -r ../../ffi-examples/data/requirements.txt onnx==1.23.2 onnxruntime==1.32.0
    python make_onnx_gated_vectors.py

Metadata and tensors are those of make_keras_gated_vectors.py; besides, a case has "lengths", one for each row, and
means ONNX's padding. ONNX Runtime computes in float32. Its arrays are put into elman's layout, as in
make_onnx_vectors.py. Our gates become theirs so: LSTM i f c o to i o f c; GRU z r h stays. reset_after is
linear_before_reset 1, whose biases are W's and R's rows; elsewhere W's and R's are half of ours each. ONNX's
HardSigmoid has alpha 0.2 where nothing is said, which is Keras 2's (here "hard_sigmoid_keras2"); with alpha 1/6 it is
Keras 3's. Not in the cases: peepholes, input_forget and clip.
"""

import pathlib

import numpy as np
import onnxruntime
from elman_keras import INITIAL_STATE, INPUT, bidirectional, case, gru, lstm, recurrent, recurrent_kind, state_count
from elman_keras import values, weight, write
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
LENGTHS = [4, 7, 0, 1, 7, 2]
# Each with its alpha and beta, which ONNX wants for those alone that have one.
ACTIVATIONS = {
    "tanh": ("Tanh", [], []),
    "sigmoid": ("Sigmoid", [], []),
    "relu": ("Relu", [], []),
    "linear": ("Affine", [1.0], [0.0]),
    "hard_sigmoid": ("HardSigmoid", [1 / 6], [0.5]),
    "hard_sigmoid_keras2": ("HardSigmoid", [0.2], [0.5]),
    "softplus": ("Softplus", [], []),
    "elu": ("Elu", [1.0], []),
    "leaky_relu": ("LeakyRelu", [0.2], []),
}
PAIRS = [
    ("tanh", "sigmoid"),
    ("tanh", "hard_sigmoid_keras2"),
    ("relu", "hard_sigmoid"),
    ("leaky_relu", "sigmoid"),
    ("elu", "hard_sigmoid_keras2"),
    ("softplus", "tanh"),
    ("linear", "sigmoid"),
    ("sigmoid", "softplus"),
]


def before(units, **changes):
    """A GRU whose reset gate acts before the product."""
    return gru(units, reset_after=False, **changes)


def cases():
    for name, cell in {"lstm": lstm, "gru": gru, "gru_before": before}.items():
        for i, (activation, of_gates) in enumerate(PAIRS):
            units = [20, 8, 3, 1, 16, 3, 25, 8][i]
            options = {"activation": activation, "recurrent_activation": of_gates}
            options |= {"use_bias": i % 5 != 4, "return_sequences": i % 3 != 1}
            layers = {
                "forward": cell(units, **options),
                "reverse": cell(units, go_backwards=True, **options),
                "both": bidirectional("concat", cell(units, **options)),
            }
            for k, (direction, layer) in enumerate(layers.items()):
                title = f"{name}_{direction}_{activation}_{of_gates}"
                yield title, [layer], [3, 1, 7, 33][i % 4], LENGTHS, (i + k) % 2 == 1
        sequence = cell(5, return_sequences=True)
        both = bidirectional("concat", sequence)
        for end, started in {"": False, "_started": True}.items():
            yield f"{name}_stack{end}", [sequence, both, cell(3)], 3, LENGTHS, started
            reverse = cell(8, return_sequences=True, go_backwards=True)
            yield f"{name}_stack_reverse{end}", [both, reverse], 3, LENGTHS, started
            yield f"{name}_empty{end}", [both, cell(5)], 3, [0, 0], started
            yield f"{name}_full{end}", [both, cell(5, go_backwards=True)], 3, [7] * 9, started
            yield f"{name}_one{end}", [both], 3, [3], started
        yield f"{name}_wide", [cell(65)], 20, [7, 3], True
        yield f"{name}_40", [cell(40)], 1, [7], False
    for end, started in {"": False, "_started": True}.items():
        layers = [bidirectional("concat", lstm(5, return_sequences=True)), gru(8, return_sequences=True), before(3)]
        yield f"mixed{end}", layers, 3, LENGTHS, started


def onnx_weights(layer, features, seed):
    """W, R and B."""
    kind, (options, directions) = recurrent_kind(layer), recurrent(layer)
    units, gates = options["units"], {"lstm": 4, "gru": 3}[kind]
    rows = 2 if options.get("reset_after") else 1
    shapes = {"kernel": (features, gates * units), "recurrent_kernel": (units, gates * units)}
    shapes["bias"] = (rows, gates * units) if rows == 2 else (gates * units,)

    def direction(half):
        ours = [weight(half + name, shape, seed, layer) for name, shape in shapes.items()]
        if kind == "lstm":
            blocks = [np.split(array, 4, -1) for array in ours]
            ours = [np.concatenate([i, o, f, c], -1) for i, f, c, o in blocks]
        kernel, recurrent_kernel, bias = ours
        bias = bias if rows == 2 else np.stack([bias / 2, bias / 2])
        return kernel.T, recurrent_kernel.T, bias.ravel() * options["use_bias"]

    return [np.stack(arrays) for arrays in zip(*map(direction, ["", "backward_"][:directions]))]


def node(layer, i, started):
    kind, (options, directions) = recurrent_kind(layer), recurrent(layer)
    chosen = [options["recurrent_activation"], options["activation"]] + [options["activation"]] * (kind == "lstm")
    chosen = [ACTIVATIONS[name] for name in chosen] * directions
    more = {"linear_before_reset": int(options["reset_after"])} if kind == "gru" else {}
    states = ["h", "c"] if kind == "lstm" else ["h"]
    inputs = [f"x{i}", f"W{i}", f"R{i}", f"B{i}", "lengths"]
    for attribute, place in {"activation_alpha": 1, "activation_beta": 2}.items():
        numbers = [number for activation in chosen for number in activation[place]]
        more |= {attribute: numbers} if numbers else {}
    return helper.make_node(
        kind.upper(),
        inputs + [f"{state}{i}" for state in states] if started else inputs,
        [f"y{i}"] + [f"last_{state}{i}" for state in states],
        hidden_size=options["units"],
        direction="bidirectional" if directions == 2 else "reverse" if options["go_backwards"] else "forward",
        activations=[activation[0] for activation in chosen],
        **more,
    )


def run(meta):
    config, seed, lengths = meta["config"], meta["case_seed"] * 1000, meta["lengths"]
    batch, steps, features = meta["batch"], meta["steps"], config["input_size"]
    nodes, arrays, states = [], {"lengths": np.array(lengths, np.int32)}, []
    for i, layer in enumerate(config["layers"]):
        options, directions = recurrent(layer)
        units, each = options["units"], state_count(layer) // directions
        arrays[f"W{i}"], arrays[f"R{i}"], arrays[f"B{i}"] = onnx_weights(layer, features, seed + i * 10)
        # Ours are [h, c] for one direction after another.
        for name, place in {"h": 0, "c": 1}.items() if each == 2 else {"h": 0}.items():
            numbers = [INITIAL_STATE + len(states) + k * each + place for k in range(directions)]
            arrays[f"{name}{i}"] = np.stack([values(seed + number, (batch, units), 0.5) for number in numbers])
        for k in range(directions):
            states += [(f"last_{name}{i}", k) for name in "hc"[:each]]
        arrays[f"shape{i}"] = np.array([0, 0, -1], np.int64)
        nodes += [
            node(layer, i, meta["initial_state"]),
            # [steps, directions, batch, units] to [steps, batch, directions x units].
            helper.make_node("Transpose", [f"y{i}"], [f"t{i}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"t{i}", f"shape{i}"], [f"x{i + 1}"]),
        ]
        features = directions * units
    x = values(seed + INPUT, (batch, steps, config["input_size"])).transpose(1, 0, 2)
    layers = len(config["layers"])
    names = [f"x{layers}", *dict.fromkeys(name for name, _ in states)]
    used = {name for made in nodes for name in made.input}
    graph = helper.make_graph(
        nodes,
        meta["name"],
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results = dict(zip(names, session.run(names, {"x0": np.ascontiguousarray(x)})))

    y = np.ascontiguousarray(results[f"x{layers}"].transpose(1, 0, 2))
    options, _ = recurrent(config["layers"][-1])
    if not options["return_sequences"]:
        y = np.concatenate(list(results[f"last_h{layers - 1}"]), -1)
    elif options["go_backwards"]:
        for row, length in zip(y, lengths):
            row[:length] = row[:length][::-1].copy()
    last = {f"state.{k}": np.ascontiguousarray(results[name][half]) for k, (name, half) in enumerate(states)}
    return {"y": y} | last


def main():
    metadata, tensors = [], {}
    for case_seed, (name, layers, features, lengths, started) in enumerate(cases(), 9001):
        meta, _ = case(name, layers, len(lengths), 7, features, initial_state=started)
        meta = {"name": name, "case_seed": case_seed} | meta | {"lengths": lengths}
        metadata.append(meta)
        tensors |= {f"{name}.{key}": tensor for key, tensor in run(meta).items()}
    print(f"{len(metadata)} cases, ONNX Runtime {onnxruntime.__version__}")
    write(HERE / "onnx_gated.safetensors", tensors, cases=metadata)


if __name__ == "__main__":
    main()
