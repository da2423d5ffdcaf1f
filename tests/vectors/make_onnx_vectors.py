"""Write onnx.safetensors, reference outputs of ONNX Runtime's RNN for rows of different lengths.

    pip install -r ../../ffi-examples/data/requirements.txt onnx==1.23.2 onnxruntime==1.32.0
    python make_onnx_vectors.py

Metadata and tensors are those of make_keras_vectors.py; besides, a case has "lengths", one for each row, and means ONNX's
padding. ONNX Runtime computes in float32. Its arrays are put into elman's layout: batch first, the directions side by
side, and what a reversed layer gives (go_backwards) in the order it was made, where ONNX has time order.
"""

import pathlib

import numpy as np
import onnxruntime
from elman_keras import INITIAL_STATE, INPUT, bidirectional, case, recurrent, rnn, sequence_rnn, values, write
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
LENGTHS = [4, 7, 0, 1, 7, 2]
ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid", "linear": "Affine"}


def cases():
    for i, activation in enumerate(ACTIVATIONS):
        for j, units in enumerate([1, 5, 20, 33]):
            started = (i + j) % 2 == 1
            make = [sequence_rnn, rnn][(i + j) // 2 % 2]
            use_bias = (i + j) % 5 != 4
            layers = {
                "forward": make(units, activation, use_bias=use_bias),
                "reverse": make(units, activation, use_bias=use_bias, go_backwards=True),
                "both": bidirectional("concat", make(units, activation, use_bias=use_bias)),
            }
            for direction, layer in layers.items():
                yield f"{direction}_{activation}_{units}", [layer], 1 + 3 * j, LENGTHS, started
    both = bidirectional("concat", sequence_rnn(9))
    for started in (False, True):
        name = "_started" if started else ""
        yield f"stack{name}", [sequence_rnn(12), both, rnn(5)], 3, LENGTHS, started
        yield f"stack_reverse{name}", [both, both, sequence_rnn(17, go_backwards=True)], 3, LENGTHS, started
        yield f"empty{name}", [both, rnn(5)], 3, [0, 0], started
        yield f"full{name}", [both, rnn(5, go_backwards=True)], 3, [7] * 9, started
        yield f"one{name}", [both], 3, [3], started


def run(meta):
    config, seed, lengths = meta["config"], meta["case_seed"] * 1000, meta["lengths"]
    batch, steps, features = meta["batch"], meta["steps"], config["input_size"]
    nodes, arrays, states = [], {"lengths": np.array(lengths, np.int32)}, 0
    for i, layer in enumerate(config["layers"]):
        simple_rnn, directions = recurrent(layer)
        units = simple_rnn["units"]

        def weight(place, shape, scale, i=i, directions=directions):
            places = [place, place + 4][:directions]
            return np.stack([values(seed + i * 10 + p, shape, scale) for p in places])

        kernel = weight(0, (features, units), np.sqrt(6 / (features + units)))
        recurrent_kernel = weight(1, (units, units), 0.9 * np.sqrt(3 / units))
        bias = weight(2, (units,), 0.1) * simple_rnn["use_bias"]
        initial = [values(seed + INITIAL_STATE + states + k, (batch, units), 0.5) for k in range(directions)]
        arrays[f"W{i}"], arrays[f"R{i}"] = kernel.transpose(0, 2, 1), recurrent_kernel.transpose(0, 2, 1)
        arrays[f"B{i}"] = np.concatenate([bias, np.zeros_like(bias)], 1)
        arrays[f"h{i}"] = np.stack(initial) * np.float32(meta["initial_state"])
        arrays[f"shape{i}"] = np.array([0, 0, -1], np.int64)
        direction = "bidirectional" if directions == 2 else "reverse" if simple_rnn["go_backwards"] else "forward"
        activation = ACTIVATIONS[simple_rnn["activation"]]
        numbers = {"activation_alpha": [1.0] * directions, "activation_beta": [0.0] * directions}
        nodes += [
            helper.make_node(
                "RNN",
                [f"x{i}", f"W{i}", f"R{i}", f"B{i}", "lengths", f"h{i}"],
                [f"y{i}", f"state{i}"],
                hidden_size=units,
                direction=direction,
                activations=[activation] * directions,
                **(numbers if activation == "Affine" else {}),
            ),
            # [steps, directions, batch, units] to [steps, batch, directions x units].
            helper.make_node("Transpose", [f"y{i}"], [f"t{i}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"t{i}", f"shape{i}"], [f"x{i + 1}"]),
        ]
        states, features = states + directions, directions * units
    x = values(seed + INPUT, (batch, steps, config["input_size"])).transpose(1, 0, 2)
    layers = len(config["layers"])
    names = [f"x{layers}", *(f"state{i}" for i in range(layers))]
    graph = helper.make_graph(
        nodes,
        meta["name"],
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y, *last = session.run(names, {"x0": np.ascontiguousarray(x)})

    y = np.ascontiguousarray(y.transpose(1, 0, 2))
    simple_rnn, directions = recurrent(config["layers"][-1])
    if not simple_rnn["return_sequences"]:
        y = np.concatenate(list(last[-1]), -1)
    elif simple_rnn["go_backwards"]:
        for row, length in zip(y, lengths):
            row[:length] = row[:length][::-1].copy()
    return {"y": y} | {f"state.{k}": state for k, state in enumerate(s for array in last for s in array)}


def main():
    metadata, tensors = [], {}
    for case_seed, (name, layers, features, lengths, started) in enumerate(cases(), 2001):
        meta, _ = case(name, layers, len(lengths), 7, features, initial_state=started)
        meta = {"name": name, "case_seed": case_seed} | meta | {"lengths": lengths}
        metadata.append(meta)
        tensors |= {f"{name}.{key}": tensor for key, tensor in run(meta).items()}
    print(f"{len(metadata)} cases")
    write(HERE / "onnx.safetensors", tensors, cases=metadata)


if __name__ == "__main__":
    main()
