"""What the vector scripts share: the number generator, layer configs, their Keras layers, running and writing cases.

Weights and inputs are not stored. They come from `values(seed, ...)` and `tokens(seed, ...)`, which the Rust tests
repeat. A weight's seed is case_seed * 1000 + layer * 10 + its place in WEIGHTS, with the scale in `weight`; the
input's is case_seed * 1000 + 999, scale 1. Of an LSTM with unit_forget_bias, 1 is added to the bias of the forget gate.

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

RECURRENT = {"simple_rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
WEIGHTS = [
    "kernel",
    "recurrent_kernel",
    "bias",
    "embedding",
    "backward_kernel",
    "backward_recurrent_kernel",
    "backward_bias",
]
INPUT, OUTPUT_GRADIENT, INITIAL_STATE, STATE_GRADIENT, DROPOUT = 999, 998, 990, 980, 900


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


def gated(kind, units, recurrent_activation="sigmoid", **changes):
    """An LSTM or a GRU."""
    own = {"lstm": {"unit_forget_bias": True}, "gru": {"reset_after": True}}[kind]
    own |= {"recurrent_activation": recurrent_activation}
    mine = {key: changes.pop(key) for key in own.keys() & changes.keys()}
    return rnn(units, **changes) | {"type": kind} | own | mine


def lstm(units, **changes):
    return gated("lstm", units, **changes)


def gru(units, **changes):
    return gated("gru", units, **changes)


def sequence_rnn(units, activation="tanh", **changes):
    return rnn(units, activation, return_sequences=True, **changes)


def bidirectional(merge_mode, layer):
    inner = {key: value for key, value in layer.items() if key != "type"}
    return {"type": "bidirectional", "merge_mode": merge_mode, layer["type"]: inner}


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
    initial_state: in the first call the k-th state starts from seed case_seed * 1000 + 990 + k, scale 0.5. Layer by
    layer, a bidirectional one forward first, each direction has one state, an LSTM two: h, then c. reset_before: the
    calls before which states are reset. time_distributed: Keras ran TimeDistributed(Dense). state_gradient: see make_training_vectors.py. dropout_masks, told only where it is
    true: see `give_dropout_masks`.
    """
    told = {"dropout_masks": True} if more.pop("dropout_masks", False) else {}
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
    return given | more | told, mask


def recurrent_kind(layer):
    """"simple_rnn", "lstm" or "gru"; None for other layers."""
    names = layer if layer["type"] == "bidirectional" else [layer["type"]]
    return next((kind for kind in RECURRENT if kind in names), None)


def recurrent(layer):
    """The options of a recurrent layer and its number of directions."""
    if layer["type"] == "bidirectional":
        return layer[recurrent_kind(layer)], 2
    return (layer, 1) if recurrent_kind(layer) else (None, 0)


def state_count(layer):
    return recurrent(layer)[1] * (2 if recurrent_kind(layer) == "lstm" else 1)


def keras_layer(layer, time_distributed, dtype, unroll=False):
    config = {key: value for key, value in layer.items() if key != "type"} | {"dtype": dtype}
    options, _ = recurrent(layer)
    if options:
        config = {key: value for key, value in options.items() if key != "type"}
        # Keras 3.15 fails on a stateful Bidirectional that returns its state.
        return_state = not (options["stateful"] and layer["type"] == "bidirectional")
        config |= {"unroll": unroll, "return_state": return_state, "dtype": dtype}
        made = RECURRENT[recurrent_kind(layer)](**config)
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
    options, directions = recurrent(layer)
    if options:
        names = WEIGHTS[:3] if options["use_bias"] else WEIGHTS[:2]
        return names + [f"backward_{name}" for name in names] if directions == 2 else names
    if layer["type"] == "dense":
        return ["kernel", "bias"] if layer["use_bias"] else ["kernel"]
    return ["embedding"] if layer["type"] == "embedding" else []


def weight(name, shape, seed, layer=None):
    """A weight of a layer; only the bias of an LSTM asks which layer."""
    if name.endswith("recurrent_kernel"):
        scale = 0.9 * np.sqrt(3 / shape[0])
    elif name.endswith("kernel"):
        scale = np.sqrt(6 / (shape[0] + shape[1]))
    else:
        scale = 0.5 if name == "embedding" else 0.1
    made = values(seed + WEIGHTS.index(name), shape, scale)
    if layer and name.endswith("bias") and recurrent_kind(layer) == "lstm":
        options, _ = recurrent(layer)
        made[options["units"] : 2 * options["units"]] += options["unit_forget_bias"]
    return made


def set_weights(made, layer, seed):
    for name, variable in zip(weight_names(layer), made.trainable_weights, strict=True):
        variable.assign(weight(name, variable.shape, seed, layer))


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


def give_dropout_masks(config, layer, meta, features):
    """Makes a layer drop what seeds say instead of what Keras draws, and gives the layer's argument for training.

    An element is dropped where values(seed, shape, 1) < 2 x rate - 1, all others are scaled by 1 / (1 - rate). The
    seed is case_seed * 1000 + 900 + 20 for the backward half + 10 for the state's masks (batch, units) + the gate; the
    input's (batch, features) are one a gate if recurrent_dropout > 0, otherwise there is one for all gates.
    """
    options, directions = recurrent(config)
    gates = {"simple_rnn": 1, "gru": 3, "lstm": 4}[recurrent_kind(config)]
    for half, inner in enumerate([layer.forward_layer, layer.backward_layer] if directions == 2 else [layer]):
        cell = inner.cell
        count = getattr(cell, "dropout_mask_count", None)
        assert count in (None, gates) and (count is None) == (options["recurrent_dropout"] == 0)

        def mask(kind, gate, size, rate, half=half):
            seed = meta["case_seed"] * 1000 + DROPOUT + 20 * half + 10 * kind + gate
            return np.where(values(seed, (meta["batch"], size)) < 2 * rate - 1, 0, 1 / (1 - rate))

        inputs = [mask(0, gate, features, options["dropout"]) for gate in range(count or 1)]
        states = [mask(1, gate, options["units"], options["recurrent_dropout"]) for gate in range(gates)]
        cast = lambda masks, cell=cell: [tf.constant(mask, cell.compute_dtype) for mask in masks]
        cell.get_dropout_mask = lambda _, given=cast(inputs), count=count: given if count else given[0]
        cell.get_recurrent_dropout_mask = lambda _, given=cast(states): given
    return {"training": True}


def apply(config, layer, y, arguments):
    """A layer's output, its backward output where a bidirectional layer does not merge, and its states."""
    y = layer(y, **arguments)
    count = state_count(config)
    if not count:
        return y, None, []
    if not layer.return_state:
        return y, None, [tf.identity(state.value) for state in layer.states]
    outputs, states = list(y[:-count]), list(y[-count:])
    return outputs[0], outputs[1] if len(outputs) == 2 else None, states


def run(meta, mask, dtype="float64", gradients=False, unroll=False):
    """A case's reference tensors by the end of their names."""
    configs, seed, calls = meta["config"]["layers"], meta["case_seed"] * 1000, meta["calls"]
    made = [keras_layer(config, meta["time_distributed"], dtype, unroll) for config in configs]
    x = [tf.constant(call, dtype if meta["input"] == "floats" else "int32") for call in make_input(meta, mask)]
    masks = None
    if mask is not None and not meta["mask_by_value"]:
        masks = tf.constant(mask.reshape(calls, meta["batch"], meta["steps"]))
    initial = []
    if meta["initial_state"]:
        units = [recurrent(config)[0]["units"] for config in configs for _ in range(state_count(config))]
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
                arguments, count = {}, state_count(config)
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
                    set_weights(layer, config, seed + i * 10)
                    weights = zip(weight_names(config), layer.trainable_weights, strict=True)
                    sources |= {f"{i}.{name}": w.value for name, w in weights}
                if count and meta.get("dropout_masks"):
                    arguments |= give_dropout_masks(config, layer, meta, y.shape[-1])
                y, backward, states = apply(config, layer, y, arguments)
                all_states += states
            output = {"y": y} | {f"state.{k}": state for k, state in enumerate(all_states)}
            outputs.append(output if backward is None else output | {"y_backward": backward})
        halves = [y] if backward is None else [y, backward]
        weighting = values(seed + OUTPUT_GRADIENT, (len(halves), *y.shape))
        loss = tf.add_n([tf.reduce_sum(half * g) for half, g in zip(halves, weighting)])
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


def unrolls(meta):
    """Whether Keras, too, shall run looped and unrolled."""
    return any((recurrent(layer)[0] or {}).get("unroll") == "unrolled" for layer in meta["config"]["layers"])


def run_all(cases, base, gradients=False, unrolled=False):
    """Numbers the cases from base; their metadata and tensors. With `unrolled`, those that say so run unrolled, too."""
    metadata, tensors, worst = [], {}, (0.0, "")
    for case_seed, (meta, mask) in enumerate(cases, base):
        meta = {"name": meta["name"], "case_seed": case_seed} | meta
        metadata.append(meta)
        exact, single = (run(meta, mask, dtype, gradients) for dtype in ("float64", "float32"))
        if unrolled and unrolls(meta):
            for name, tensor in run(meta, mask, gradients=gradients, unroll=True).items():
                np.testing.assert_allclose(tensor, exact[name], 1e-10, 1e-12, err_msg=f"{meta['name']}.{name}")
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
