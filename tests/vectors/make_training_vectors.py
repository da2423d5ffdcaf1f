"""Write training.safetensors, reference gradients, losses and optimizer steps of Keras for the Rust tests.

    pip install -r ../../ffi-examples/data/requirements.txt
    python make_training_vectors.py

Metadata "cases" is as in make_keras_vectors.py, with the same tensors and the gradients of sum(y * g), dropout off:
`{name}.grad.{layer}.{weight}`, `{name}.grad.x`, `{name}.grad.state.{k}`. g comes from seed case_seed * 1000 + 998,
scale 1; with "state_gradient", sum(state * h) is added for each final state k, h from case_seed * 1000 + 980 + k.

Metadata "optimizers", "clips", "schedules" and "losses" are JSON lists of one object per test:
- `optimizer.{name}` [6, 17]: a variable after each of 6 steps. It starts as values(1, 17); the gradient of step s,
  from 0, is values(100 + s, 17).
- `clip.{name}.{0, 1, 2}`: the gradients values(200 + i, shape) of shapes [5], [7, 3], [17] after clipping.
- `schedule.{name}`: the learning rate at each of the object's steps.
- `loss.{name}.{prediction, target, weight, mask, value, grad}`: value is the scalar loss, grad its gradient with
  respect to the prediction; weight and mask (1 to count a sample) where the object says so. Losses are Keras's in
  float32, all else as elman_keras.py says.
"""

import pathlib

from elman_keras import bidirectional, case, dense, dropout, embedding, masking, rnn, run_all, sequence_rnn
from elman_keras import values, write

import keras
import numpy as np
import tensorflow as tf

HERE = pathlib.Path(__file__).parent


def gradient_cases():
    used = np.ones((5, 6), bool)
    used[0, :2] = used[1, 4:] = used[2, [1, 3]] = used[3] = False
    backwards, both = {"go_backwards": True}, {"initial_state": True, "state_gradient": True}
    for activation in ["tanh", "relu", "sigmoid", "linear"]:
        yield case(f"last_{activation}", [rnn(9, activation)], 5, 6, 4)
        yield case(f"sequence_{activation}", [sequence_rnn(7, activation)], 3, 5, 2, **both)
    yield case("no_bias", [sequence_rnn(16, use_bias=False)], 4, 5, 3)
    yield case("backwards", [sequence_rnn(6, **backwards)], 3, 5, 2, initial_state=True)
    yield case("batch_1", [rnn(17)], 1, 9, 5)
    yield case("batch_33", [rnn(8)], 33, 3, 3)
    yield case("wide", [rnn(65)], 2, 20, 13, initial_state=True)
    yield case("one_step", [rnn(5)], 3, 1, 4, **both)
    yield case("mask_last", [rnn(7)], 5, 6, 3, mask=used, **both)
    yield case("mask_sequence", [sequence_rnn(7)], 5, 6, 3, mask=used, **both)
    yield case("mask_zero_output", [sequence_rnn(7, zero_output_for_mask=True)], 5, 6, 3, mask=used, initial_state=True)
    yield case("mask_backwards", [sequence_rnn(6, **backwards)], 5, 6, 3, mask=used, initial_state=True)
    yield case("masking", [masking(0.0), sequence_rnn(6), rnn(4)], 5, 6, 3, mask=used)
    yield case("stack", [sequence_rnn(9), dropout(0.5), rnn(5, "relu")], 4, 5, 3, initial_state=True)
    yield case("stack_mask", [sequence_rnn(9), rnn(5, **backwards)], 5, 6, 3, mask=used, **both)
    yield case("stack_3", [sequence_rnn(4), sequence_rnn(9, "sigmoid"), sequence_rnn(3)], 2, 6, 5)
    for activation in ["linear", "tanh", "relu", "sigmoid", "softmax"]:
        yield case(f"dense_{activation}", [rnn(6), dense(5, activation)], 4, 3, 2)
    yield case("dense_sequence", [sequence_rnn(6), dense(3, "softmax", use_bias=False)], 3, 4, 2)
    yield case("dense_sequence_mask", [sequence_rnn(6), dense(3, "sigmoid")], 5, 6, 2, mask=used)
    yield case("embedding", [embedding(12, 5, False), rnn(6)], 4, 7)
    layers = [embedding(12, 5, True), sequence_rnn(8), rnn(6), dense(1, "sigmoid")]
    yield case("embedding_mask", layers, 5, 6, mask=used)
    yield case("bidirectional", [bidirectional("concat", sequence_rnn(5))], 3, 4, 2, **both)
    yield case("bidirectional_mul", [bidirectional("mul", rnn(5))], 3, 4, 2)
    layers = [bidirectional("sum", sequence_rnn(5)), bidirectional("ave", rnn(4)), dense(2)]
    yield case("bidirectional_mask", layers, 5, 6, 3, mask=used)


OPTIMIZERS = {"sgd": keras.optimizers.SGD, "rmsprop": keras.optimizers.RMSprop}
OPTIMIZERS |= {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}


def optimizer_steps(kind, dtype="float64", **options):
    variable = keras.Variable(values(1, (17,)), dtype=dtype)
    optimizer = OPTIMIZERS[kind](**options)
    steps = []
    for step in range(6):
        optimizer.apply([tf.constant(values(100 + step, (17,)), dtype)], [variable])
        steps.append(variable.numpy())
    return np.stack(steps)


def optimizers():
    sgd = {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False}
    rmsprop = {"learning_rate": 0.001, "rho": 0.9, "momentum": 0.0, "epsilon": 1e-7, "centered": False}
    adam = {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False}
    fast = {"learning_rate": 0.1, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3}
    tests = {
        "sgd": ("sgd", sgd),
        "sgd_momentum": ("sgd", sgd | {"momentum": 0.9}),
        "sgd_nesterov": ("sgd", sgd | {"momentum": 0.9, "nesterov": True}),
        "sgd_fast": ("sgd", sgd | {"learning_rate": 0.3}),
        "rmsprop": ("rmsprop", rmsprop),
        "rmsprop_momentum": ("rmsprop", rmsprop | {"momentum": 0.8}),
        "rmsprop_centered": ("rmsprop", rmsprop | {"centered": True}),
        "rmsprop_centered_momentum": ("rmsprop", rmsprop | {"centered": True, "momentum": 0.8}),
        "adam": ("adam", adam),
        "adam_fast": ("adam", adam | fast),
        "adam_amsgrad": ("adam", adam | {"learning_rate": 0.01, "beta_2": 0.5, "amsgrad": True}),
        "adamw": ("adamw", adam | {"weight_decay": 0.004}),
        "adamw_fast": ("adamw", adam | fast | {"weight_decay": 0.1}),
    }
    metadata, tensors = [], {}
    for name, (kind, options) in tests.items():
        metadata.append({"name": name, "kind": kind} | options)
        exact = optimizer_steps(kind, **options)
        assert np.abs(optimizer_steps(kind, "float32", **options) - exact).max() < 1e-5, name
        tensors[f"optimizer.{name}"] = exact.astype("float32")
    return metadata, tensors


def clips():
    """SGD with learning rate 1 turns a zero into minus the clipped gradient."""
    metadata, tensors = [], {}
    for kind, argument in {"global_norm": "global_clipnorm", "norm": "clipnorm", "value": "clipvalue"}.items():
        for limit in (0.5, 2.0, 100.0):
            name = f"{kind}_{limit:g}"
            metadata.append({"name": name, "kind": kind, "limit": limit})
            gradients = [values(200 + i, shape) for i, shape in enumerate([(5,), (7, 3), (17,)])]
            variables = [keras.Variable(np.zeros(g.shape), dtype="float64") for g in gradients]
            optimizer = keras.optimizers.SGD(1.0, **{argument: limit})
            optimizer.apply([tf.constant(g, "float64") for g in gradients], variables)
            tensors |= {f"clip.{name}.{i}": (0 - v.numpy()).astype("float32") for i, v in enumerate(variables)}
    return metadata, tensors


def schedules():
    made = keras.optimizers.schedules
    kinds = {"exponential": made.ExponentialDecay, "cosine": made.CosineDecay}
    exponential = {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5, "staircase": False}
    cosine = {"initial_learning_rate": 0.1, "decay_steps": 40, "alpha": 0.0}
    tests = {
        "exponential": ("exponential", exponential),
        "exponential_slow": ("exponential", exponential | {"decay_steps": 100, "decay_rate": 0.96}),
        "exponential_staircase": ("exponential", exponential | {"staircase": True}),
        "cosine": ("cosine", cosine),
        "cosine_alpha": ("cosine", cosine | {"alpha": 0.1, "decay_steps": 100}),
        "cosine_warmup": ("cosine", cosine | {"warmup_target": 0.4, "warmup_steps": 10}),
    }
    metadata, tensors, steps = [], {}, [0, 1, 5, 10, 50]
    for name, (kind, options) in tests.items():
        metadata.append({"name": name, "kind": kind, "steps": steps} | options)
        schedule = kinds[kind](**options)
        tensors[f"schedule.{name}"] = np.array([schedule(step) for step in steps], "float32")
    return metadata, tensors


def loss_data(kind, from_logits, shape):
    """A prediction and a target."""
    prediction, picks = values(1, shape, 3.0), values(2, shape)
    if kind == "mse":
        return prediction, picks
    if kind == "bce":
        target = (picks > 0).astype("float32")
        return prediction if from_logits else 1 / (1 + np.exp(-prediction)), target
    if not from_logits:
        prediction = np.exp(prediction) / np.exp(prediction).sum(-1, keepdims=True)
    classes = np.argmax(picks, -1)
    return prediction, classes.astype("int32") if kind == "sparse_cce" else np.eye(shape[-1], dtype="float32")[classes]


def loss_tests():
    """(name, kind, from_logits, prediction, target, weight, mask): also where clipping acts."""
    logits = [(kind, from_logits) for kind in ("bce", "cce", "sparse_cce") for from_logits in (False, True)]
    for kind, from_logits in [("mse", False), *logits]:
        name = kind + "_logits" * from_logits
        for shape in [(7, 5), (3, 4, 5)] if kind.endswith("cce") else [(6, 1), (7, 5), (3, 4, 5)]:
            prediction, target = loss_data(kind, from_logits, shape)
            weight, mask = values(3, shape[:-1]) + 1, values(4, shape[:-1]) > -0.3
            sized = f"{name}_{'x'.join(map(str, shape))}"
            yield sized, kind, from_logits, prediction, target, None, None
            yield f"{sized}_weight", kind, from_logits, prediction, target, weight, None
            if len(shape) == 3:
                yield f"{sized}_mask", kind, from_logits, prediction, target, None, mask
                yield f"{sized}_weight_mask", kind, from_logits, prediction, target, weight, mask
    edges = np.array([[0, 0, 1, 1, 1e-9, 0.5]], "float32").T
    yield "bce_edges", "bce", False, edges, np.array([[0, 1, 0, 1, 1, 0.25]], "float32").T, None, None
    odd = np.array([[0.5, 0, 1.5], [0, 1, 0], [0.2, 0.2, 0.1]], "float32")
    yield "cce_edges", "cce", False, odd, np.eye(3, dtype="float32")[[0, 0, 2]], None, None
    yield "sparse_cce_edges", "sparse_cce", False, odd, np.array([0, 0, 2], "int32"), None, None


def losses():
    kinds = {
        "mse": keras.losses.MeanSquaredError,
        "bce": keras.losses.BinaryCrossentropy,
        "cce": keras.losses.CategoricalCrossentropy,
        "sparse_cce": keras.losses.SparseCategoricalCrossentropy,
    }
    metadata, tensors = [], {}
    for name, kind, from_logits, prediction, target, weight, mask in loss_tests():
        loss = kinds[kind](**{} if kind == "mse" else {"from_logits": from_logits})
        y = tf.constant(prediction)
        if mask is not None:
            y._keras_mask = tf.constant(mask)
        with tf.GradientTape() as tape:
            tape.watch(y)
            value = loss(target, y, sample_weight=weight)
        given = {"prediction": prediction, "target": target, "weight": weight, "mask": mask}
        given |= {"value": value.numpy(), "grad": tape.gradient(value, y).numpy()}
        has = {"weight": weight is not None, "mask": mask is not None}
        metadata.append({"name": name, "kind": kind, "from_logits": from_logits} | has)
        for key, tensor in given.items():
            if tensor is not None:
                tensors[f"loss.{name}.{key}"] = np.asarray(tensor, "uint8" if key == "mask" else None)
    return metadata, tensors


def main():
    cases, tensors = run_all(list(gradient_cases()), 2001, gradients=True)
    metadata = {"cases": cases}
    for make in (optimizers, clips, schedules, losses):
        metadata[make.__name__], more = make()
        tensors |= more
    write(HERE / "training.safetensors", tensors, **metadata)
    print({key: len(value) for key, value in metadata.items()})


if __name__ == "__main__":
    main()
