"""Write forward.safetensors and sequences.safetensors, reference outputs of Keras for the Rust tests.

    pip install -r ../../ffi-examples/data/requirements.txt
    python make_keras_vectors.py

Metadata "cases" is a JSON list of the objects of `elman_keras.case`; elman_keras.py tells how the tests make weights
and inputs. Tensors:
- `{name}.y`: the output; with merge_mode "none" the forward one
- `{name}.y_backward`: with merge_mode "none" the backward output, in time order
- `{name}.state.{k}`: the final state of the k-th recurrent layer; a bidirectional layer counts twice, forward first
- `{name}.mask`: [batch, steps], 1 to use a step
With calls > 1 the input, mask, y and states have a leading axis of calls.
"""

import pathlib

from elman_keras import bidirectional, case, dense, dropout, embedding, masking, rnn, run_all, sequence_rnn, write

import numpy as np

HERE = pathlib.Path(__file__).parent
ACTIVATIONS = ["tanh", "relu", "sigmoid", "linear"]
DRIVERS = ["auto", "looped", "unrolled"]


def pick(options, i):
    return options[i % len(options)]


def sizes():
    """Every width, with the other sizes in turn; whole sequences where they are small."""
    for i, units in enumerate(
        [1, 2, 3, 7, 8, 15, 16, 17, 20, 31, 33, 48, 64, 65, 100, 129, 200, 256, 300, 513, 700]
    ):
        features = pick([1, 2, 3, 5, 13, 64, 100, 257], 3 * i)
        batch = pick([1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17, 31, 33], 5 * i)
        steps = pick([1, 2, 3, 5, 9, 20, 40], i)
        if units >= 300:
            batch = pick([1, 3, 4], i)
        layer = rnn(
            units,
            pick(ACTIVATIONS, i + i // 4),
            use_bias=i % 5 != 3,
            return_sequences=batch * steps * units <= 3000,
            go_backwards=i % 6 == 4,
            unroll=pick(DRIVERS, i),
        )
        yield case(f"size_{units}", [layer], batch, steps, features)


def options():
    """Every activation with every option."""
    for i in range(32):
        activation, backwards, sequences, unrolled = pick(ACTIVATIONS, i), i & 4 != 0, i & 8 != 0, i & 16 != 0
        units, batch = pick([5, 12, 20, 33, 8], i), pick([3, 1, 4, 2, 9, 6, 7], i)
        layer = rnn(
            units,
            activation,
            use_bias=i % 3 != 2,
            return_sequences=sequences,
            go_backwards=backwards,
            unroll="unrolled" if unrolled else "looped",
        )
        name = "_".join(
            [activation, "backwards" if backwards else "forwards", "all" if sequences else "last", layer["unroll"]]
        )
        yield case(name, [layer], batch, pick([4, 7, 2], i), pick([5, 3, 13], i))


def stacks():
    yield case("stack_2", [sequence_rnn(17), rnn(9, "relu")], 5, 8, 3)
    yield case("stack_2_sequences", [sequence_rnn(6, "sigmoid"), sequence_rnn(11)], 3, 7, 5)
    yield case("stack_2_wide", [sequence_rnn(64, unroll="unrolled"), rnn(100, unroll="unrolled")], 16, 12, 13)
    yield case("stack_2_looped", [sequence_rnn(64, unroll="looped"), rnn(64, unroll="looped")], 1, 40, 100)
    yield case("stack_3", [sequence_rnn(33), sequence_rnn(16, "linear"), rnn(7)], 4, 9, 2)
    yield case("stack_3_no_bias", [sequence_rnn(5, use_bias=False)] * 3, 2, 6, 1)
    yield case("stack_backwards_above", [sequence_rnn(10), rnn(12, go_backwards=True)], 3, 6, 4)
    yield case("stack_backwards_below", [sequence_rnn(10, go_backwards=True), rnn(12)], 3, 6, 4)
    yield case("stack_backwards_both", [sequence_rnn(8, go_backwards=True)] * 2, 2, 5, 3)
    yield case("stack_dropout", [sequence_rnn(9, dropout=0.5, recurrent_dropout=0.3), dropout(0.5), rnn(13)], 5, 6, 4)
    yield case("dropout_between_dense", [rnn(20), dropout(0.4), dense(7, "relu"), dropout(0.2), dense(3)], 4, 5, 6)


def denses():
    for i, activation in enumerate([*ACTIVATIONS, "softmax"]):
        layers = [rnn(pick([13, 64], i)), dense([1, 17, 3, 33, 11][i], activation)]
        yield case(f"dense_last_{activation}", layers, 5, 6, 3)
        layers = [sequence_rnn(pick([9, 16], i)), dense([5, 3, 1, 7, 10][i], activation, use_bias=i % 2 == 0)]
        yield case(f"dense_sequence_{activation}", layers, 3, 7, 2)
    yield case("dense_twice", [rnn(15), dense(31, "relu"), dense(5, "softmax")], 7, 4, 5)
    yield case("dense_softmax_one", [rnn(4), dense(1, "softmax")], 3, 4, 2)
    yield case("dense_first", [dense(9, "relu"), sequence_rnn(6), dense(2, "sigmoid")], 4, 5, 3)


def zero_tokens():
    """Padding left, right, inside, at both ends, throughout and none; the tests set these tokens to 0."""
    used = np.ones((6, 8), bool)
    used[0, :3] = used[1, 5:] = used[2, 2:4] = used[3, [0, 4, 7]] = used[4] = False
    return used


def embeddings():
    zeros = zero_tokens()

    def tokens_case(name, vocabulary, size, mask_zero, *layers):
        return case(name, [embedding(vocabulary, size, mask_zero), *layers], 6, 8, mask=zeros)

    yield tokens_case("embedding_plain", 50, 7, False, rnn(9))
    yield tokens_case("embedding_mask", 50, 7, True, rnn(9))
    yield tokens_case("embedding_mask_few_words", 4, 5, True, sequence_rnn(6, "sigmoid"))
    yield tokens_case("embedding_mask_sequence", 30, 16, True, sequence_rnn(10))
    yield tokens_case("embedding_mask_sequence_unrolled", 30, 16, True, sequence_rnn(10, unroll="unrolled"))
    yield tokens_case("embedding_mask_backwards", 30, 3, True, rnn(8, go_backwards=True))
    yield tokens_case("embedding_mask_backwards_sequence", 30, 3, True, sequence_rnn(8, go_backwards=True))
    yield tokens_case("embedding_mask_zero_output", 30, 5, True, sequence_rnn(7, zero_output_for_mask=True))
    yield tokens_case("embedding_mask_zero_output_last", 30, 5, True, rnn(7, zero_output_for_mask=True))
    yield tokens_case("embedding_mask_dense_sequence", 30, 5, True, sequence_rnn(7), dense(3, "softmax"))
    yield tokens_case("embedding_mask_dropout", 30, 5, True, dropout(0.3), sequence_rnn(7), dropout(0.3), rnn(6))
    yield tokens_case(
        "embedding_mask_stack", 200, 20, True, sequence_rnn(17), rnn(11, "relu"), dense(1, "sigmoid")
    )
    network = [embedding(500, 100, True), sequence_rnn(64, dropout=0.5), rnn(64, dropout=0.5), dense(1, "sigmoid")]
    yield case("embedding_mask_stack_64", network, 33, 8, mask=np.resize(zeros, (33, 8)))


def usage(batch=6, steps=7):
    """Rows padded left, padded right, with holes, masked throughout, used throughout, and using one step; repeated."""
    used = np.ones((6, 7), bool)
    used[0, :3] = used[1, 4:] = used[2, [1, 2, 5]] = used[3] = False
    used[5] = np.arange(7) == 3
    return np.resize(used, (batch, steps))


def masks():
    for i, activation in enumerate(ACTIVATIONS):
        for initial_state in (False, True):
            name = f"mask_{activation}" + "_state" * initial_state
            layer = rnn(pick([9, 16, 5, 33], i), activation, return_sequences=i % 2 == initial_state)
            yield case(name, [layer], 6, 7, 4, mask=usage(), initial_state=initial_state)
    for initial_state in (False, True):
        end = "_state" * initial_state

        def masked(name, *layers):
            return case(name + end, list(layers), 6, 7, 3, mask=usage(), initial_state=initial_state)

        backwards = {"go_backwards": True}
        yield masked("mask_unrolled", sequence_rnn(8, unroll="unrolled"))
        yield masked("mask_zero_output", sequence_rnn(8, zero_output_for_mask=True))
        yield masked("mask_zero_output_last", rnn(8, zero_output_for_mask=True))
        yield masked("mask_backwards", rnn(7, **backwards))
        yield masked("mask_backwards_sequence", sequence_rnn(7, **backwards))
        yield masked("mask_backwards_zero_output", sequence_rnn(7, zero_output_for_mask=True, **backwards))
        yield masked("mask_stack", sequence_rnn(10), rnn(6))
        yield masked("mask_stack_sequence", sequence_rnn(10), sequence_rnn(6, "relu"), dense(3, "softmax"))
        yield masked("mask_stack_zero_output", sequence_rnn(10, zero_output_for_mask=True), rnn(6))
        yield masked("mask_stack_backwards_above", sequence_rnn(9), sequence_rnn(5, **backwards))
        yield masked("mask_stack_backwards_below", sequence_rnn(9, **backwards), sequence_rnn(5))
        yield masked("mask_stack_backwards_both", sequence_rnn(9, **backwards), rnn(5, **backwards))
        yield masked("mask_stack_3", sequence_rnn(4), sequence_rnn(5, **backwards), rnn(6))
    yield case("mask_batch_33", [sequence_rnn(17)], 33, 5, 3, mask=usage(33, 5))
    yield case("mask_batch_1", [sequence_rnn(17)], 1, 9, 3, mask=usage(1, 9))
    yield case("mask_wide", [rnn(129)], 13, 7, 65, mask=usage(13, 7), initial_state=True)


def maskings():
    yield case("masking", [masking(0.0), sequence_rnn(8)], 6, 7, 3, mask=usage())
    yield case("masking_one_feature", [masking(0.0), rnn(8)], 6, 7, 1, mask=usage())
    yield case("masking_value", [masking(-1.5), sequence_rnn(8), rnn(5)], 6, 7, 3, mask=usage())
    yield case("masking_dense", [masking(0.25), dense(4, "tanh"), sequence_rnn(6)], 6, 7, 3, mask=usage())
    yield case("masking_bidirectional", [masking(0.0), bidirectional("concat", sequence_rnn(5))], 6, 7, 3, mask=usage())


def bidirectionals():
    for i, merge_mode in enumerate(["concat", "sum", "mul", "ave", "none"]):
        for sequences in (False, True):
            for mask in (None, usage()):
                layer = bidirectional(merge_mode, rnn(pick([5, 8, 17], i), return_sequences=sequences))
                name = f"bidirectional_{merge_mode}_{'all' if sequences else 'last'}" + "_mask" * (mask is not None)
                yield case(name, [layer], 6, 7, 3, mask=mask, initial_state=i % 2 == 1)
    options = {"unroll": "unrolled", "use_bias": False}
    yield case("bidirectional_unrolled", [bidirectional("concat", sequence_rnn(6, "sigmoid", **options))], 2, 5, 4)
    for mask in (None, usage()):
        end = "_mask" * (mask is not None)
        below = bidirectional("concat", sequence_rnn(6))
        yield case("bidirectional_stack" + end, [below, bidirectional("sum", rnn(5))], 6, 7, 3, mask=mask)
        layers = [below, bidirectional("ave", sequence_rnn(5, "relu")), dense(3, "sigmoid")]
        yield case("bidirectional_stack_sequence" + end, layers, 6, 7, 3, mask=mask, initial_state=True)
        yield case("bidirectional_then_rnn" + end, [below, rnn(9)], 6, 7, 3, mask=mask)
        layers = [sequence_rnn(9), bidirectional("mul", sequence_rnn(4))]
        yield case("rnn_then_bidirectional" + end, layers, 6, 7, 3, mask=mask)
    both = [bidirectional("concat", sequence_rnn(7)), bidirectional("concat", rnn(5))]
    layers = [embedding(30, 6, True), *both, dense(1, "sigmoid")]
    yield case("bidirectional_embedding", layers, 6, 8, mask=zero_tokens())


def states():
    yield case("state", [sequence_rnn(9)], 5, 4, 3, initial_state=True)
    yield case("state_no_bias", [rnn(20, "relu", use_bias=False)], 3, 6, 5, initial_state=True)
    yield case("state_backwards", [sequence_rnn(6, go_backwards=True)], 3, 4, 2, initial_state=True)
    words = [embedding(30, 6, True), sequence_rnn(9), rnn(5)]
    yield case("state_embedding_mask", words, 6, 8, mask=zero_tokens(), initial_state=True)
    yield case("state_stack", [sequence_rnn(9), rnn(5), dense(2)], 3, 4, 2, initial_state=True)
    stateful = {"stateful": True}
    layers = [sequence_rnn(7, **stateful)]
    yield case("stateful", layers, 4, 3, 2, calls=3)
    yield case("stateful_state", layers, 4, 3, 2, calls=3, initial_state=True)
    yield case("stateful_reset", layers, 4, 3, 2, calls=3, reset_before=[2])
    yield case("stateful_backwards", [rnn(7, go_backwards=True, **stateful)], 4, 3, 2, calls=3)
    yield case("stateful_one_step", [rnn(16, unroll="unrolled", **stateful), dense(3, "softmax")], 1, 1, 5, calls=3)
    yield case("stateful_stack", [sequence_rnn(7, **stateful), rnn(5, **stateful), dense(2)], 4, 3, 2, calls=3)
    yield case("stateful_half", [sequence_rnn(7, **stateful), rnn(5)], 4, 3, 2, calls=3)
    yield case("stateful_mask", layers, 6, 7, 2, calls=3, mask=np.stack([usage(), usage()[::-1], usage()[:, ::-1]]))
    yield case("stateful_bidirectional", [bidirectional("concat", sequence_rnn(5, **stateful))], 4, 3, 2, calls=3)


def time_distributed():
    layers = [sequence_rnn(9), dense(4, "softmax")]
    yield case("time_distributed", layers, 6, 7, 3, time_distributed=True)
    yield case("time_distributed_mask", layers, 6, 7, 3, mask=usage(), time_distributed=True)
    layers = [sequence_rnn(9), dense(4, "relu"), rnn(5)]
    yield case("time_distributed_between_mask", layers, 6, 7, 3, mask=usage(), time_distributed=True)


def main():
    forward = [*sizes(), *options(), *stacks(), *denses(), *embeddings()]
    metadata, tensors = run_all(forward, 1)
    write(HERE / "forward.safetensors", tensors, cases=metadata)
    sequences = [*masks(), *maskings(), *bidirectionals(), *states(), *time_distributed()]
    metadata, tensors = run_all(sequences, 1001)
    write(HERE / "sequences.safetensors", tensors, cases=metadata)


if __name__ == "__main__":
    main()
