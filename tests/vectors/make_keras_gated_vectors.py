"""Write keras_gated_{cells, masks, sequences}.safetensors and keras_{lstm, gru}_gradients.safetensors.

    pip install -r ../../ffi-examples/data/requirements.txt
    python make_keras_gated_vectors.py

Metadata "cases" and tensors are those of make_keras_vectors.py, of gradients those of make_training_vectors.py. The
layers "lstm" and "gru" have in addition recurrent_activation, and unit_forget_bias or reset_after. Kernels are
[features, gates x units], gates in Keras's order (i f c o; z r h); a GRU's bias with reset_after is [2, 3 x units],
otherwise [3 x units]. An LSTM has two states a direction, h then c. With merge_mode "none" the loss weighs the backward output
with the numbers that follow those of the forward one. Cases that say "unrolled" ran unrolled, too, with equal results.

What Keras draws is random, so dropout masks are put in its place (`give_dropout_masks`), in the way that Keras 3.15.1
was seen to share them: all are drawn in a call's first step and hold for all steps, fresh in the next call; with
`dropout` alone one mask (batch, features) for all gates; with recurrent_dropout > 0 one mask (batch, units) a gate, and
then the input's, if any, are one a gate as well; input's first, gates in the order of weights. Of GRU's h, the one in
z x h is never dropped, and with reset_after=False the product is (r x (h x mask)) . U; LSTM's c is never dropped. Rate
1 draws masks and does not use them, so that nothing is dropped; SimpleRNN's inputs become zeros.
"""

import pathlib

from elman_keras import bidirectional, case, dense, dropout, embedding, gru, lstm, masking, rnn, run_all, sequence_rnn
from elman_keras import write
from make_keras_vectors import DRIVERS, pick, usage, zero_tokens

import keras
import numpy as np
import tensorflow as tf

HERE = pathlib.Path(__file__).parent
ACTIVATIONS = ["tanh", "sigmoid", "relu", "linear", "hard_sigmoid", "softplus", "elu", "leaky_relu"]
UNITS = [1, 3, 8, 16, 20, 25, 40, 64, 65]
SEQUENCES = {"return_sequences": True}
BACKWARDS = {"go_backwards": True}


def before(units, **changes):
    """A GRU whose reset gate acts before the product."""
    return gru(units, reset_after=False, **changes)


CELLS = {"lstm": lstm, "gru": gru, "gru_before": before}


def each_cell(make):
    """The cases of make(cell), whose last part is what `case` takes by name, for every cell."""
    for name, cell in CELLS.items():
        for title, layers, *given in make(cell):
            *sizes, more = given
            yield case(f"{name}_{title}", layers, *sizes, **more)


def sizes(cell):
    """Every width, with the other sizes in turn; whole sequences where they are small."""
    for i, units in enumerate(UNITS):
        features = pick([33, 1, 2, 5, 13, 20, 1, 7], 3 * i + 1)
        batch, steps = pick([2, 5, 9, 1, 6, 3, 8, 4, 7], i), pick([1, 7, 2, 13, 5, 3, 9], i)
        options = {"use_bias": i % 5 != 3, "go_backwards": i % 6 == 4, "unroll": pick(DRIVERS, i)}
        sequences = batch * steps * units <= 1500
        yield f"size_{units}", [cell(units, return_sequences=sequences, **options)], batch, steps, features, {}


def activations(cell):
    """Each activation beside the default of the other, and with another one."""
    for i, activation in enumerate(ACTIVATIONS):
        pairs = [(activation, "sigmoid"), ("tanh", activation), (activation, pick(ACTIVATIONS, 3 * i + 4))]
        for k, (of_cell, of_gates) in enumerate(pairs):
            options = {"activation": of_cell, "recurrent_activation": of_gates, "use_bias": (i + k) % 4 != 3}
            layer = cell(pick([5, 8, 3, 9], i + k), return_sequences=(i + k) % 2 == 0, **options)
            name = [f"activation_{activation}", f"gates_{activation}", f"pair_{of_cell}_{of_gates}"][k]
            yield name, [layer], pick([3, 1, 2], i), pick([4, 3, 5], k), 3, {"initial_state": i % 2 == 1}


def options(cell):
    """Every switch with every other."""
    for i in range(16):
        chosen = {
            "go_backwards": i & 1 != 0,
            "return_sequences": i & 2 != 0,
            "use_bias": i & 4 == 0,
            "unroll": "unrolled" if i & 8 else "looped",
        }
        if cell is lstm:
            chosen["unit_forget_bias"] = i % 3 != 0
        words = [key for key in chosen if chosen[key] is True] + ["no_bias"] * (i & 4 != 0) + [chosen["unroll"]]
        name = "_".join(word for word in words if word != "use_bias").replace("return_", "")
        layer = cell(pick([6, 3, 16, 7], i), **chosen)
        yield name, [layer], pick([3, 1, 4], i), pick([4, 6], i), pick([5, 1, 2], i), {}


def masks(cell):
    for initial_state in (False, True):
        end = "_state" * initial_state

        def masked(name, *layers, initial_state=initial_state, end=end):
            return f"mask_{name}{end}", list(layers), 6, 7, 3, {"mask": usage(), "initial_state": initial_state}

        zero = {"zero_output_for_mask": True}
        yield masked("last", cell(9))
        yield masked("sequence", cell(7, **SEQUENCES))
        yield masked("unrolled", cell(8, unroll="unrolled", **SEQUENCES))
        yield masked("zero_output", cell(8, **zero, **SEQUENCES))
        yield masked("zero_output_last", cell(8, **zero))
        yield masked("backwards", cell(7, **BACKWARDS))
        yield masked("backwards_sequence", cell(7, **BACKWARDS, **SEQUENCES))
        yield masked("backwards_zero_output", cell(7, **zero, **BACKWARDS, **SEQUENCES))
        yield masked("gates", cell(5, activation="relu", recurrent_activation="hard_sigmoid", **SEQUENCES))
        yield masked("stack", cell(10, **SEQUENCES), cell(6))
        yield masked("stack_backwards_above", cell(9, **SEQUENCES), cell(5, **BACKWARDS, **SEQUENCES))
        yield masked("stack_backwards_below", cell(9, **BACKWARDS, **SEQUENCES), cell(5, **SEQUENCES))
    yield "mask_batch_1", [cell(17, **SEQUENCES)], 1, 9, 3, {"mask": usage(1, 9)}
    yield "mask_wide", [cell(65)], 9, 7, 33, {"mask": usage(9, 7), "initial_state": True}


def mixed():
    """Neighbours of other kinds."""
    lstm_8, gru_7, before_6 = lstm(8, **SEQUENCES), gru(7, **SEQUENCES), before(6, **SEQUENCES)
    yield case("mixed", [sequence_rnn(5), lstm_8, gru_7, rnn(4)], 4, 5, 3)
    yield case("mixed_state", [lstm_8, sequence_rnn(5, "relu"), before_6, lstm(3)], 3, 6, 2, initial_state=True)
    yield case("mixed_mask", [gru_7, lstm(6, **BACKWARDS, **SEQUENCES), sequence_rnn(5)], 6, 7, 3, mask=usage())
    yield case("mixed_dense", [dense(9, "relu"), lstm_8, dense(5, "tanh"), gru_7, dense(3, "softmax")], 3, 4, 2)
    yield case("mixed_dense_mask", [lstm_8, dense(5), gru(6), dense(2, "sigmoid")], 6, 7, 3, mask=usage())
    zeros = zero_tokens()
    for name, cell in CELLS.items():
        layers = [embedding(30, 6, True), cell(9, dropout=0.5, **SEQUENCES), dropout(0.3), cell(5), dense(1, "sigmoid")]
        yield case(f"{name}_embedding_mask", layers, 6, 8, mask=zeros)
        yield case(f"{name}_embedding_mask_sequence", layers[:2], 6, 8, mask=zeros, initial_state=True)
        yield case(f"{name}_embedding_plain", [embedding(30, 6, False), cell(9)], 6, 8, mask=zeros)
        yield case(f"{name}_masking", [masking(0.0), cell(8, **SEQUENCES), rnn(4)], 6, 7, 3, mask=usage())
        layers = [masking(-1.5), dense(4, "tanh"), cell(6, **SEQUENCES)]
        yield case(f"{name}_masking_value", layers, 6, 7, 3, mask=usage(), initial_state=True)


def bidirectionals(cell):
    for i, merge_mode in enumerate(["concat", "sum", "mul", "ave", "none"]):
        for sequences in (False, True):
            for mask in (None, usage()):
                layer = bidirectional(merge_mode, cell(pick([5, 8, 3], i), return_sequences=sequences))
                name = f"bidirectional_{merge_mode}_{'all' if sequences else 'last'}" + "_mask" * (mask is not None)
                yield name, [layer], 6, 7, 3, {"mask": mask, "initial_state": i % 2 == 1}
    options = {"unroll": "unrolled", "use_bias": False, "activation": "elu", "recurrent_activation": "hard_sigmoid"}
    yield "bidirectional_unrolled", [bidirectional("concat", cell(6, **options, **SEQUENCES))], 2, 5, 4, {}
    below = bidirectional("concat", cell(6, **SEQUENCES))
    for mask in (None, usage()):
        end = "_mask" * (mask is not None)
        yield f"bidirectional_stack{end}", [below, bidirectional("sum", cell(5))], 6, 7, 3, {"mask": mask}
        layers = [sequence_rnn(4), bidirectional("ave", cell(5, **SEQUENCES)), rnn(3), dense(2)]
        yield f"bidirectional_mixed{end}", layers, 6, 7, 3, {"mask": mask, "initial_state": True}
    layers = [embedding(30, 6, True), below, bidirectional("concat", cell(5)), dense(1, "sigmoid")]
    yield "bidirectional_embedding", layers, 6, 8, 1, {"mask": zero_tokens()}


def states(cell):
    stateful = {"stateful": True}
    layers = [cell(7, **stateful, **SEQUENCES)]
    yield "stateful", layers, 4, 3, 2, {"calls": 3}
    yield "stateful_state", layers, 4, 3, 2, {"calls": 3, "initial_state": True}
    yield "stateful_reset", layers, 4, 3, 2, {"calls": 3, "reset_before": [2]}
    yield "stateful_backwards", [cell(7, **BACKWARDS, **stateful)], 4, 3, 2, {"calls": 3}
    yield "stateful_one_step", [cell(16, **stateful), dense(3, "softmax")], 1, 1, 5, {"calls": 3}
    yield "stateful_stack", [*layers, sequence_rnn(3, **stateful), cell(5, **stateful)], 4, 3, 2, {"calls": 3}
    yield "stateful_half", [*layers, cell(5)], 4, 3, 2, {"calls": 3}
    mask = np.stack([usage(), usage()[::-1], usage()[:, ::-1]])
    yield "stateful_mask", layers, 6, 7, 2, {"calls": 3, "mask": mask}
    both = bidirectional("concat", cell(5, **stateful, **SEQUENCES))
    yield "stateful_bidirectional", [both], 4, 3, 2, {"calls": 3}


def gradient_cases(cell):
    both = {"initial_state": True, "state_gradient": True}
    for i, activation in enumerate(ACTIVATIONS):
        yield f"activation_{activation}", [cell(5, activation=activation)], 3, 4, 2, both
        layer = cell(4, recurrent_activation=activation, use_bias=i % 3 != 2, **SEQUENCES)
        yield f"gates_{activation}", [layer], 3, 4, 2, both
    yield "one_step", [cell(5)], 3, 1, 4, both
    yield "no_bias", [cell(8, use_bias=False, **SEQUENCES)], 4, 5, 3, {}
    yield "backwards", [cell(6, **BACKWARDS, **SEQUENCES)], 3, 5, 2, both
    yield "batch_1", [cell(16)], 1, 9, 5, {}
    yield "wide", [cell(25, unroll="unrolled")], 2, 13, 9, both
    yield "many_features", [cell(8)], 2, 3, 33, {}
    yield "many_units", [cell(40)], 2, 3, 1, {}
    yield "one_unit", [cell(1, **SEQUENCES)], 9, 4, 1, both
    masked = {"mask": usage(), **both}
    zero = {"zero_output_for_mask": True}
    yield "mask_last", [cell(7)], 6, 7, 3, masked
    yield "mask_sequence", [cell(7, **SEQUENCES)], 6, 7, 3, masked
    yield "mask_zero_output", [cell(5, **zero, **SEQUENCES)], 6, 7, 3, masked
    yield "mask_backwards", [cell(6, **BACKWARDS, **SEQUENCES)], 6, 7, 3, masked
    yield "mask_stack", [cell(6, **SEQUENCES), cell(5, **BACKWARDS)], 6, 7, 3, masked
    yield "stack", [cell(6, **SEQUENCES), dropout(0.5), cell(5)], 4, 5, 3, both
    yield "masking", [masking(0.0), cell(6, **SEQUENCES), rnn(4)], 6, 7, 3, {"mask": usage()}
    layers = [embedding(12, 5, True), cell(7, **SEQUENCES), rnn(4), dense(2, "softmax")]
    yield "embedding", layers, 6, 8, 1, {"mask": zero_tokens()}
    for i, merge_mode in enumerate(["concat", "sum", "mul", "ave", "none"]):
        layer = bidirectional(merge_mode, cell(4, return_sequences=i % 2 == 0))
        yield f"bidirectional_{merge_mode}", [layer], 3, 4, 2, both
        yield f"bidirectional_{merge_mode}_mask", [layer], 6, 7, 2, masked
    layers = [bidirectional("concat", cell(4, **SEQUENCES)), cell(5), dense(2, "tanh")]
    yield "bidirectional_stack_mask", layers, 6, 7, 3, masked


def dropouts(cell):
    """What the masks multiply: see `give_dropout_masks`."""
    more = {"dropout_masks": True, "initial_state": True, "state_gradient": True}
    input_only, state_only = {"dropout": 0.5}, {"recurrent_dropout": 0.25}
    for name, rates in {"input": input_only, "state": state_only, "both": input_only | state_only}.items():
        yield f"dropout_{name}", [cell(6, **rates, **SEQUENCES)], 4, 3, 5, more
    rates = {"dropout": 0.25, "recurrent_dropout": 0.5}
    yield "dropout_mask", [cell(6, **rates)], 6, 7, 3, {"mask": usage(), **more}
    yield "dropout_bidirectional", [bidirectional("concat", cell(4, **rates, **SEQUENCES))], 3, 4, 2, more


def mixed_gradients():
    both = {"initial_state": True, "state_gradient": True}
    lstm_6, gru_5, before_4 = lstm(6, **SEQUENCES), gru(5, **SEQUENCES), before(4, **SEQUENCES)
    yield case("mixed", [sequence_rnn(5), lstm_6, dense(4, "elu"), gru_5, rnn(4)], 4, 5, 3, **both)
    yield case("mixed_mask", [before_4, lstm_6, sequence_rnn(3), gru(5)], 6, 7, 3, mask=usage(), **both)


def check_initial_bias(layer, shape, forget_gate):
    """What Keras begins with: zeros, and in the forget gate what is told."""
    layer.build((1, 2, 3))
    expected = np.zeros(shape)
    if forget_gate is not None:
        expected[layer.units : 2 * layer.units] = forget_gate
    np.testing.assert_array_equal(layer.cell.bias.numpy(), expected)


def write_file(name, cases, base, gradients=False):
    metadata, tensors = run_all(cases, base, gradients, unrolled=True)
    write(HERE / f"{name}.safetensors", tensors, cases=metadata)


def main():
    print(f"Keras {keras.__version__}, TensorFlow {tf.__version__}")
    check_initial_bias(keras.layers.LSTM(5), (20,), 1)
    check_initial_bias(keras.layers.LSTM(5, unit_forget_bias=False), (20,), 0)
    check_initial_bias(keras.layers.GRU(5), (2, 15), None)
    check_initial_bias(keras.layers.GRU(5, reset_after=False), (15,), None)
    cells = [*each_cell(sizes), *each_cell(activations), *each_cell(options)]
    masked = [*each_cell(masks)]
    sequences = [*each_cell(bidirectionals), *each_cell(states), *mixed()]
    gradients = [*each_cell(gradient_cases), *each_cell(dropouts)]
    of_lstm = [made for made in gradients if made[0]["name"].startswith("lstm")] + [*mixed_gradients()]
    of_gru = [made for made in gradients if made[0]["name"].startswith("gru")]
    write_file("keras_gated_cells", cells, 4001)
    write_file("keras_gated_masks", masked, 5001)
    write_file("keras_gated_sequences", sequences, 5001 + len(masked))
    write_file("keras_lstm_gradients", of_lstm, 6001, gradients=True)
    write_file("keras_gru_gradients", of_gru, 7001, gradients=True)


if __name__ == "__main__":
    main()
