"""Write pytorch.safetensors, reference outputs and gradients of torch.nn.RNN for the Rust tests.

    pip install -r ../../ffi-examples/data/requirements.txt torch
    python make_pytorch_vectors.py

Cases are those of make_training_vectors.py, run by PyTorch in float64: the loss is sum(y * g), and with "state_gradient"
sum(state * h) is added. PyTorch has two biases a layer, whose sum is ours; here the second is half the first one's seed
values, so that neither is zero. Their gradients are equal, which the script asserts.
"""

import pathlib

from elman_keras import INITIAL_STATE, INPUT, OUTPUT_GRADIENT, STATE_GRADIENT
from elman_keras import bidirectional, case, recurrent, rnn, sequence_rnn, values, weight, weight_names, write

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent


def cases():
    def stack(count, units, activation, last=False):
        return [sequence_rnn(units, activation)] * (count - 1) + [(rnn if last else sequence_rnn)(units, activation)]

    both = {"initial_state": True, "state_gradient": True}
    yield case("tanh_1", stack(1, 7, "tanh"), 3, 5, 4)
    yield case("relu_1", stack(1, 9, "relu"), 4, 6, 3, **both)
    yield case("last_tanh_1", stack(1, 16, "tanh", last=True), 2, 8, 5, **both)
    yield case("tanh_2", stack(2, 10, "tanh"), 5, 7, 3, **both)
    yield case("relu_2", stack(2, 6, "relu", last=True), 1, 9, 2)
    yield case("tanh_3", stack(3, 5, "tanh"), 3, 6, 2, **both)
    yield case("relu_3", stack(3, 8, "relu"), 2, 5, 6, initial_state=True)
    yield case("wide", stack(1, 70, "tanh"), 2, 12, 33, initial_state=True)
    yield case("no_bias", [sequence_rnn(9, use_bias=False)], 3, 5, 3, **both)
    yield case("both_ways", [bidirectional("concat", sequence_rnn(6))] * 2, 3, 5, 4, **both)


def names(kind, layer, half):
    """torch's name of a parameter."""
    return f"{kind}_l{layer}" + ("_reverse" if half else "")


def run(meta):
    seed, batch, configs = meta["case_seed"] * 1000, meta["batch"], meta["config"]["layers"]
    simple_rnn, directions = recurrent(configs[0])
    units, bias = simple_rnn["units"], simple_rnn["use_bias"]
    made = torch.nn.RNN(
        meta["config"]["input_size"],
        units,
        len(configs),
        nonlinearity=simple_rnn["activation"],
        bias=bias,
        batch_first=True,
        bidirectional=directions == 2,
        dtype=torch.float64,
    )
    parameters = dict(made.named_parameters())
    # Ours, theirs, and whether theirs is the transpose.
    pairs = []
    with torch.no_grad():
        for i, config in enumerate(configs):
            for name in weight_names(config):
                half = name.startswith("backward_")
                kind = name.removeprefix("backward_")
                theirs = names({"kernel": "weight_ih", "recurrent_kernel": "weight_hh", "bias": "bias_ih"}[kind], i, half)
                shape = tuple(parameters[theirs].T.shape)
                ours = torch.tensor(weight(name, shape, seed + i * 10).astype("float64"))
                if kind == "bias":
                    parameters[names("bias_hh", i, half)].copy_(ours / 2)
                    ours = ours / 2
                parameters[theirs].copy_(ours.T)
                pairs.append((f"{i}.{name}", theirs, kind == "bias"))
    x = torch.tensor(values(seed + INPUT, (batch, meta["steps"], made.input_size)).astype("float64"), requires_grad=True)
    count = len(configs) * directions
    initial = None
    if meta["initial_state"]:
        states = [values(seed + INITIAL_STATE + k, (batch, units), 0.5) for k in range(count)]
        initial = torch.tensor(np.stack(states).astype("float64"), requires_grad=True)
    y, states = made(x, initial)
    if not recurrent(configs[-1])[0]["return_sequences"]:
        y = y[:, -1]
    loss = (y * torch.tensor(values(seed + OUTPUT_GRADIENT, tuple(y.shape)))).sum()
    if meta["state_gradient"]:
        for k in range(count):
            loss = loss + (states[k] * torch.tensor(values(seed + STATE_GRADIENT + k, (batch, units)))).sum()
    loss.backward()

    result = {"y": y, "grad.x": x.grad} | {f"state.{k}": states[k] for k in range(count)}
    if initial is not None:
        result |= {f"grad.state.{k}": initial.grad[k] for k in range(count)}
    for ours, theirs, is_bias in pairs:
        result[f"grad.{ours}"] = parameters[theirs].grad.T
        if is_bias:
            torch.testing.assert_close(parameters[theirs].grad, parameters[theirs.replace("_ih_", "_hh_")].grad)
    return {name: tensor.detach().numpy() for name, tensor in result.items()}


def main():
    metadata, tensors = [], {}
    for case_seed, (meta, _) in enumerate(cases(), 3001):
        meta = {"name": meta["name"], "case_seed": case_seed} | meta
        metadata.append(meta)
        for name, tensor in run(meta).items():
            tensors[f"{meta['name']}.{name}"] = np.ascontiguousarray(tensor.astype("float32"))
    print(f"{len(metadata)} cases, torch {torch.__version__}")
    write(HERE / "pytorch.safetensors", tensors, cases=metadata)


if __name__ == "__main__":
    main()
