"""Write pytorch_gated.safetensors, reference outputs and gradients of torch.nn.LSTM and GRU for the Rust tests.

    pip install -r ../../ffi-examples/data/requirements.txt torch
    python make_pytorch_gated_vectors.py

Cases are those of make_keras_gated_vectors.py, run by PyTorch in float64: the loss is sum(y * g), and with
"state_gradient" sum(state * h) is added. With "lengths", one for each row, sequences are packed, which means ONNX's
padding; torch knows no row of length 0. What differs from Keras is put into Keras's layout: all matrices are
transposed; the LSTM's gates are in the same order (torch: i f g o), the GRU's blocks go from r z n to z r h. The LSTM's
two biases are half of ours each, and have equal gradients, which the script asserts; the GRU's are the rows of ours.
"""

import pathlib

from elman_keras import INITIAL_STATE, INPUT, OUTPUT_GRADIENT, STATE_GRADIENT
from elman_keras import bidirectional, case, gru, lstm, recurrent, recurrent_kind, values, weight, weight_names, write

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

HERE = pathlib.Path(__file__).parent
LENGTHS = [4, 7, 1, 7, 2, 6]
CELLS = {"lstm": lstm, "gru": gru}


def cases():
    both = {"initial_state": True, "state_gradient": True}
    for name, cell in CELLS.items():

        def made(title, layers, *sizes, lengths=None, name=name, **more):
            return *case(f"{name}_{title}", layers, *sizes, **more), lengths

        def sequence(units, cell=cell, **more):
            return cell(units, return_sequences=True, **more)

        def two_way(layer):
            return bidirectional("concat", layer)

        yield made("1", [sequence(7)], 3, 5, 4)
        yield made("state", [sequence(9)], 4, 6, 3, **both)
        yield made("last", [cell(16)], 2, 8, 5, **both)
        yield made("one_unit", [sequence(1)], 9, 4, 1, **both)
        yield made("one_step", [sequence(8)], 1, 1, 3, **both)
        yield made("no_bias", [sequence(8, use_bias=False)], 3, 5, 3, **both)
        yield made("wide", [cell(25)], 2, 13, 33, initial_state=True)
        yield made("40", [sequence(40)], 1, 3, 1)
        yield made("2", [sequence(8)] * 2, 5, 7, 3, **both)
        yield made("2_last", [sequence(6), cell(6)], 1, 9, 2)
        yield made("both_ways", [two_way(sequence(6))], 3, 5, 4)
        yield made("both_ways_state", [two_way(sequence(5))], 3, 5, 1, **both)
        yield made("both_ways_2", [two_way(sequence(5))] * 2, 3, 5, 4, **both)
        yield made("both_ways_2_last", [two_way(sequence(3)), two_way(cell(3))], 4, 6, 2, **both)
        for end, more in {"": {}, "_state": both}.items():
            yield made(f"packed{end}", [sequence(8)], 6, 7, 3, lengths=LENGTHS, **more)
            yield made(f"packed_last{end}", [cell(5)], 6, 7, 3, lengths=LENGTHS, **more)
            yield made(f"packed_2{end}", [sequence(5)] * 2, 6, 7, 2, lengths=LENGTHS, **more)
            yield made(f"packed_both_ways{end}", [two_way(sequence(5))], 6, 7, 3, lengths=LENGTHS, **more)
            layers = [two_way(sequence(4)), two_way(cell(4))]
            yield made(f"packed_both_ways_2_last{end}", layers, 6, 7, 3, lengths=LENGTHS, **more)


def names(kind, layer, half):
    """torch's name of a parameter."""
    return f"{kind}_l{layer}" + ("_reverse" if half else "")


def swapped(kind, array):
    """Gates on the last axis, from torch's order to Keras's or back."""
    if kind == "lstm":
        return array
    first, second, third = np.split(np.asarray(array), 3, -1)
    return np.concatenate([second, first, third], -1)


def set_parameters(made, meta):
    """Gives torch our weights, and tells which parameters hold each of them."""
    parameters, pairs, features = dict(made.named_parameters()), {}, meta["config"]["input_size"]
    for i, config in enumerate(meta["config"]["layers"]):
        kind, (options, directions) = recurrent_kind(config), recurrent(config)
        columns = {"lstm": 4, "gru": 3}[kind] * options["units"]
        bias = (columns,) if kind == "lstm" else (2, columns)
        shapes = {"kernel": (features, columns), "recurrent_kernel": (options["units"], columns), "bias": bias}
        for name in weight_names(config):
            half, what = name.startswith("backward_"), name.removeprefix("backward_")
            ours = weight(name, shapes[what], meta["case_seed"] * 1000 + i * 10, config).astype("float64")
            theirs = {"kernel": ["weight_ih"], "recurrent_kernel": ["weight_hh"], "bias": ["bias_ih", "bias_hh"]}[what]
            theirs = [names(their, i, half) for their in theirs]
            if what != "bias":
                parts = [ours]
            else:
                parts = [ours / 2, ours / 2] if kind == "lstm" else list(ours)
            for their, part in zip(theirs, parts, strict=True):
                with torch.no_grad():
                    parameters[their].copy_(torch.tensor(np.ascontiguousarray(swapped(kind, part).T)))
            pairs[f"{i}.{name}"] = theirs
        features = directions * options["units"]
    assert sorted(sum(pairs.values(), [])) == sorted(parameters)
    return pairs


def gradient(kind, parameters):
    """Of a weight of ours."""
    found = [swapped(kind, parameter.grad.numpy().T) for parameter in parameters]
    if len(found) == 2 and kind == "lstm":
        np.testing.assert_allclose(*found, 1e-12, 1e-14)
    return np.stack(found) if len(found) == 2 and kind == "gru" else found[0]


def run(meta):
    seed, batch, configs = meta["case_seed"] * 1000, meta["batch"], meta["config"]["layers"]
    (options, directions), kind, steps = recurrent(configs[0]), recurrent_kind(configs[0]), meta["steps"]
    units, bias = options["units"], options["use_bias"]
    made = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](
        meta["config"]["input_size"],
        units,
        len(configs),
        bias=bias,
        batch_first=True,
        bidirectional=directions == 2,
        dtype=torch.float64,
    )
    pairs = set_parameters(made, meta)
    x = torch.tensor(values(seed + INPUT, (batch, steps, made.input_size)).astype("float64"), requires_grad=True)
    rows, each = len(configs) * directions, 2 if kind == "lstm" else 1
    # Ours are [h, c] for one direction after another, torch's all h, then all c.
    initial = [torch.zeros(rows, batch, units, dtype=torch.float64) for _ in range(each)]
    if meta["initial_state"]:
        for k in range(rows * each):
            state = values(seed + INITIAL_STATE + k, (batch, units), 0.5)
            initial[k % each][k // each] = torch.tensor(state)
        initial = [state.requires_grad_() for state in initial]
    given = (tuple(initial) if kind == "lstm" else initial[0],) if meta["initial_state"] else ()
    if meta["lengths"]:
        packed = pack_padded_sequence(x, meta["lengths"], batch_first=True, enforce_sorted=False)
        y, last = made(packed, *given)
        y, _ = pad_packed_sequence(y, batch_first=True, total_length=steps)
    else:
        y, last = made(x, *given)
    last = last if kind == "lstm" else (last,)
    if not recurrent(configs[-1])[0]["return_sequences"]:
        y = torch.cat(list(last[0][-directions:]), -1)
    states = {f"state.{k}": last[k % each][k // each] for k in range(rows * each)}
    loss = (y * torch.tensor(values(seed + OUTPUT_GRADIENT, tuple(y.shape)))).sum()
    if meta["state_gradient"]:
        for k, state in enumerate(states.values()):
            loss = loss + (state * torch.tensor(values(seed + STATE_GRADIENT + k, (batch, units)))).sum()
    loss.backward()

    result = {name: tensor.detach().numpy() for name, tensor in ({"y": y} | states).items()}
    result["grad.x"] = x.grad.numpy()
    if meta["initial_state"]:
        result |= {f"grad.state.{k}": initial[k % each].grad[k // each].numpy() for k in range(rows * each)}
    parameters = dict(made.named_parameters())
    return result | {f"grad.{ours}": gradient(kind, [parameters[t] for t in theirs]) for ours, theirs in pairs.items()}


def main():
    metadata, tensors = [], {}
    for case_seed, (meta, _, lengths) in enumerate(cases(), 8001):
        meta = {"name": meta["name"], "case_seed": case_seed} | meta | {"lengths": lengths}
        metadata.append(meta)
        for name, tensor in run(meta).items():
            tensors[f"{meta['name']}.{name}"] = np.ascontiguousarray(tensor.astype("float32"))
    print(f"{len(metadata)} cases, torch {torch.__version__}")
    write(HERE / "pytorch_gated.safetensors", tensors, cases=metadata)


if __name__ == "__main__":
    main()
