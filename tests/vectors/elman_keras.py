"""What the vector scripts share: the number generator, layer configs, their Keras layers, running and writing cases.

Weights and inputs are not stored. They come from `values(seed, ...)` and `tokens(seed, ...)`, which the Rust tests
repeat. A weight's seed is case_seed * 1000 + layer * 10 + its place in WEIGHTS, with the scale in `weight`; the
input's is case_seed * 1000 + 999, scale 1.

Keras runs in float64 on these float32 numbers and the results are rounded to float32 once, so a reference is right to
half a unit in the last place. Each case also runs in float32 as a check.

Where Keras contradicts itself the references follow the plain rule. Keras runs looped whatever a config's "unroll"
says: unrolled, go_backwards with zero_output_for_mask zeroes by the unreversed mask. A recurrent layer gets the mask
of its input as an argument: with an initial_state argument Keras 3.15 would forget the mask that the input carries.
"""

import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import safetensors.numpy
import tensorflow as tf

WEIGHTS = [
    "kernel",
    "recurrent_kernel",
    "bias",
    "embedding",
    "backward_kernel",
    "backward_recurrent_kernel",
    "backward_bias",
]
INPUT, OUTPUT_GRADIENT, INITIAL_STATE, STATE_GRADIENT = 999, 998, 990, 980


def bits(seed, count):
    i = np.arange(1, count + 1, dtype=np.uint64)
    z = np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64) + i * np.uint64(0xD1B54A32D192ED03)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def values(seed, shape, scale=1.0):
    """float32 numbers in [-scale, scale)."""
    unit = (bits(seed, int(np.prod(shape))) >> np.uint64(40)).astype("float32") / np.float32(2**24)
    return ((2 * unit - 1) * np.float32(scale)).reshape(shape)


def tokens(seed, shape, vocabulary):
    return ((bits(seed, int(np.prod(shape))) >> np.uint64(33)) % np.uint64(vocabulary)).astype("int32").reshape(shape)


def rnn(units, activation="tanh", **changes):
    layer = {
        "type": "simple_rnn",
        "units": units,
        "activation": activation,
        "use_bias": True,
        "return_sequences": False,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "zero_output_for_mask": False,
        "unroll": "auto",
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
    }
    assert not changes.keys() - layer.keys()
    return layer | changes


def sequence_rnn(units, activation="tanh", **changes):
    return rnn(units, activation, return_sequences=True, **changes)


def bidirectional(merge_mode, simple_rnn):
    inner = {key: value for key, value in simple_rnn.items() if key != "type"}
    return {"type": "bidirectional", "merge_mode": merge_mode, "simple_rnn": inner}


def dense(units, activation="linear", use_bias=True):
    return {"type": "dense", "units": units, "activation": activation, "use_bias": use_bias}


def embedding(vocabulary, size, mask_zero):
    return {"type": "embedding", "vocabulary": vocabulary, "size": size, "mask_zero": mask_zero}


def dropout(rate):
    return {"type": "dropout", "rate": rate}


def masking(mask_value):
    return {"type": "masking", "mask_value": mask_value}


def case(name, layers, batch, steps, features=1, mask=None, **more):
    """A case's metadata and its mask [batch, steps], with a leading axis of calls if there are several.

    mask_by_value: the mask is no argument; in the input, masked steps hold token 0 or the Masking layer's value.
    initial_state: in the first call the k-th recurrent layer, a bidirectional one counting twice, starts from seed
    case_seed * 1000 + 990 + k, scale 0.5. reset_before: the calls before which states are reset. time_distributed:
    Keras ran TimeDistributed(Dense). state_gradient: see make_training_vectors.py.
    """
    given = {
        "name": name,
        "config": {"input_size": features, "layers": layers},
        "batch": batch,
        "steps": steps,
        "input": "tokens" if layers[0]["type"] == "embedding" else "floats",
        "mask": mask is not None,
        "mask_by_value": layers[0]["type"] in ("embedding", "masking") and mask is not None,
        "initial_state": False,
        "calls": 1,
        "reset_before": [],
        "time_distributed": False,
        "state_gradient": False,
    }
    assert not more.keys() - given.keys()
    return given | more, mask


def recurrent(layer):
    """The simple_rnn object of a recurrent layer and its number of states."""
    if layer["type"] == "bidirectional":
        return layer["simple_rnn"], 2
    return (layer, 1) if layer["type"] == "simple_rnn" else (None, 0)


def keras_layer(layer, time_distributed, dtype):
    config = {key: value for key, value in layer.items() if key != "type"} | {"dtype": dtype}
    simple_rnn, _ = recurrent(layer)
    if simple_rnn:
        config = {key: value for key, value in simple_rnn.items() if key != "type"}
        # Keras 3.15 fails on a stateful Bidirectional that returns its state.
        return_state = not (simple_rnn["stateful"] and layer["type"] == "bidirectional")
        config |= {"unroll": False, "return_state": return_state, "dtype": dtype}
        made = keras.layers.SimpleRNN(**config)
        if layer["type"] == "bidirectional":
            merge_mode = None if layer["merge_mode"] == "none" else layer["merge_mode"]
            made = keras.layers.Bidirectional(made, merge_mode, dtype=dtype)
    elif layer["type"] == "embedding":
        made = keras.layers.Embedding(config.pop("vocabulary"), config.pop("size"), **config)
    else:
        made = {"dense": keras.layers.Dense, "dropout": keras.layers.Dropout, "masking": keras.layers.Masking}[
            layer["type"]
        ](**config)
        if layer["type"] == "dense" and time_distributed:
            made = keras.layers.TimeDistributed(made, dtype=dtype)
    return made


def weight_names(layer):
    """In Keras's order."""
    simple_rnn, states = recurrent(layer)
    if simple_rnn:
        names = WEIGHTS[:3] if simple_rnn["use_bias"] else WEIGHTS[:2]
        return names + [f"backward_{name}" for name in names] if states == 2 else names
    if layer["type"] == "dense":
        return ["kernel", "bias"] if layer["use_bias"] else ["kernel"]
    return ["embedding"] if layer["type"] == "embedding" else []


def weight(name, shape, seed):
    if name.endswith("recurrent_kernel"):
        scale = 0.9 * np.sqrt(3 / shape[0])
    elif name.endswith("kernel"):
        scale = np.sqrt(6 / (shape[0] + shape[1]))
    else:
        scale = 0.5 if name == "embedding" else 0.1
    return values(seed + WEIGHTS.index(name), shape, scale)


def set_weights(made, names, seed):
    for name, variable in zip(names, made.trainable_weights, strict=True):
        variable.assign(weight(name, variable.shape, seed))


def make_input(meta, mask):
    """[calls, batch, steps] tokens or [calls, batch, steps, features] floats."""
    first, seed = meta["config"]["layers"][0], meta["case_seed"] * 1000 + INPUT
    shape = (meta["calls"], meta["batch"], meta["steps"])
    if meta["input"] == "tokens":
        x = tokens(seed, shape, first["vocabulary"])
    else:
        x = values(seed, (*shape, meta["config"]["input_size"]))
    if meta["mask_by_value"]:
        x[~mask.reshape(shape)] = first.get("mask_value", 0)
    return x


def apply(config, layer, y, arguments):
    """A layer's output, its backward output where a bidirectional layer does not merge, and its states."""
    y = layer(y, **arguments)
    count = recurrent(config)[1]
    if not count:
        return y, None, []
    if not layer.return_state:
        return y, None, [tf.identity(state.value) for state in layer.states]
    *outputs, last_state = y
    states = [outputs.pop(), last_state] if count == 2 else [last_state]
    return outputs[0], outputs[1] if len(outputs) == 2 else None, states


def run(meta, mask, dtype="float64", gradients=False):
    """A case's reference tensors by the end of their names."""
    configs, seed, calls = meta["config"]["layers"], meta["case_seed"] * 1000, meta["calls"]
    made = [keras_layer(config, meta["time_distributed"], dtype) for config in configs]
    x = [tf.constant(call, dtype if meta["input"] == "floats" else "int32") for call in make_input(meta, mask)]
    masks = None
    if mask is not None and not meta["mask_by_value"]:
        masks = tf.constant(mask.reshape(calls, meta["batch"], meta["steps"]))
    initial = []
    if meta["initial_state"]:
        units = [simple_rnn["units"] for simple_rnn, count in map(recurrent, configs) for _ in range(count)]
        initial = [values(seed + INITIAL_STATE + k, (meta["batch"], n), 0.5) for k, n in enumerate(units)]
        initial = [tf.constant(state, dtype) for state in initial]

    outputs, sources = [], {f"state.{k}": state for k, state in enumerate(initial)}
    if meta["input"] == "floats":
        sources["x"] = x[0]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        for call in range(calls):
            y, all_states = x[call], []
            for i, (config, layer) in enumerate(zip(configs, made)):
                arguments, count = {}, recurrent(config)[1]
                if count and call in meta["reset_before"]:
                    layer.reset_states()
                if i == 0 and masks is not None:
                    arguments["mask"] = masks[call]
                elif count:
                    arguments["mask"] = getattr(y, "_keras_mask", None)
                if count and initial and call == 0:
                    arguments["initial_state"] = initial[len(all_states) : len(all_states) + count]
                if call == 0:
                    layer.build(tuple(y.shape))
                    names = weight_names(config)
                    set_weights(layer, names, seed + i * 10)
                    sources |= {f"{i}.{name}": w.value for name, w in zip(names, layer.trainable_weights)}
                y, backward, states = apply(config, layer, y, arguments)
                all_states += states
            output = {"y": y} | {f"state.{k}": state for k, state in enumerate(all_states)}
            outputs.append(output if backward is None else output | {"y_backward": backward})
        loss = tf.reduce_sum(y * values(seed + OUTPUT_GRADIENT, y.shape))
        if meta["state_gradient"]:
            for k, state in enumerate(all_states):
                loss += tf.reduce_sum(state * values(seed + STATE_GRADIENT + k, state.shape))

    result = {name: np.stack([output[name] for output in outputs]) for name in outputs[0]}
    if calls == 1:
        result = {name: tensor[0] for name, tensor in result.items()}
    if gradients:
        found = tape.gradient(loss, sources)
        result |= {f"grad.{name}": tf.convert_to_tensor(gradient).numpy() for name, gradient in found.items()}
    return result


def run_all(cases, base, gradients=False):
    """Numbers the cases from base; their metadata and tensors."""
    metadata, tensors, worst = [], {}, (0.0, "")
    for case_seed, (meta, mask) in enumerate(cases, base):
        meta = {"name": meta["name"], "case_seed": case_seed} | meta
        metadata.append(meta)
        exact, single = (run(meta, mask, dtype, gradients) for dtype in ("float64", "float32"))
        for name, tensor in exact.items():
            key = f"{meta['name']}.{name}"
            assert key not in tensors
            tensors[key] = tensor.astype("float32")
            error = np.abs(single[name] - tensor).max() / max(1.0, np.abs(tensor).max())
            worst = max(worst, (error, key))
        if mask is not None:
            tensors[f"{meta['name']}.mask"] = mask.astype("uint8")
    print(f"{len(cases)} cases; Keras in float32 differs by at most {worst[0]:.1e} of the largest value, in {worst[1]}")
    return metadata, tensors


def write(path, tensors, **metadata):
    """The library's file with its header in a fixed order, so that it can be repeated to the byte."""
    file = safetensors.numpy.save(tensors, {key: json.dumps(value) for key, value in metadata.items()})
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + file[start:])
    print(f"{path.name}: {path.stat().st_size} bytes")
