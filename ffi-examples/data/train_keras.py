"""Train the sentiment network with Keras and save it for elman.

    pip install -r requirements.txt
    python train_keras.py

Data: movie_reviews.tsv (columns id, rating, text). Rows with |rating| < 0.2 are left out, id % 5 == 0 is the test set
(2,082 rows), the rest the training set (8,337); the label is rating > 0. Words are `[a-z0-9']+` of the lower-cased
text. Token 0 is padding, 1 an unknown word, 2.. the most frequent words of the training set, equal counts in
alphabetical order. Rows are padded on the left to 80; of a longer row the last 80 would count (the longest has 51).

Written beside this file:
- vocabulary.txt          line i, from 0, is the word of token i
- sentiment.safetensors   the trained network of SEED
- keras_predictions.txt   its probability for each test row, in file order
- keras_history.json      loss, accuracy and seconds of each epoch for seeds 0, 1, 2. The training numbers are Keras's
                          running means over the epoch, with dropout active; the seconds leave the test pass out, and
                          the first epoch's include building the graph.

sentiment.safetensors is in elman's layout 1. Metadata: "format": "elman", "version": "1", "config": a JSON object with
input_size (features per step; 1 when tokens come in) and layers, one object each, from input to output. Tensors are
F32 in Keras's shapes, named layers.{i}.{embedding | kernel | recurrent_kernel | bias}, i counting all layers from 0.

The test accuracy after 6 epochs is 0.763, 0.756 and 0.741 for seeds 0, 1 and 2: it moves by about 0.01 with the seed,
and by as much from epoch to epoch after the second.
"""

import collections
import json
import os
import pathlib
import re
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import safetensors.numpy
import tensorflow as tf

HERE = pathlib.Path(__file__).parent
VOCABULARY, STEPS, SIZE, UNITS, DROPOUT = 5000, 80, 100, 64, 0.5
EPOCHS, BATCH = 6, 128
SEED, HISTORY_SEEDS = 0, (0, 1, 2)


def read_reviews():
    """The words and label of each row, as (training rows, test rows)."""
    training, test = [], []
    lines = (HERE / "movie_reviews.tsv").read_text(encoding="utf-8").split("\n")
    for line in filter(None, lines[1:]):
        number, rating, text = line.split("\t")
        if abs(float(rating)) >= 0.2:
            row = re.findall("[a-z0-9']+", text.lower()), float(rating) > 0
            (test if int(number) % 5 == 0 else training).append(row)
    return training, test


def make_vocabulary(training):
    counts = collections.Counter(word for words, _ in training for word in words)
    words = sorted(counts, key=lambda word: (-counts[word], word))
    return ["<pad>", "<unknown>"] + words[: VOCABULARY - 2]


def to_arrays(rows, token_of):
    tokens = np.zeros((len(rows), STEPS), "int32")
    for row, (words, _) in zip(tokens, rows):
        ids = [token_of.get(word, 1) for word in words[-STEPS:]]
        row[STEPS - len(ids) :] = ids
    return tokens, np.array([label for _, label in rows], "float32")


def build():
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((STEPS,)),
            layers.Embedding(VOCABULARY, SIZE, mask_zero=True),
            layers.SimpleRNN(UNITS, dropout=DROPOUT, return_sequences=True, unroll=True),
            layers.SimpleRNN(UNITS, dropout=DROPOUT, unroll=True),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


class Clock(keras.callbacks.Callback):
    """Seconds of each epoch's training steps."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_test_begin(self, logs=None):
        self.seconds.append(time.perf_counter() - self.start)


def train(seed, training, test):
    keras.utils.set_random_seed(seed)
    model, clock = build(), Clock()
    fit = model.fit(
        *training, batch_size=BATCH, epochs=EPOCHS, validation_data=test, callbacks=[clock], verbose=2
    )
    names = {"train_loss": "loss", "train_accuracy": "accuracy"}
    names |= {"test_loss": "val_loss", "test_accuracy": "val_accuracy"}
    history = {"seed": seed} | {name: np.round(fit.history[key], 6).tolist() for name, key in names.items()}
    history["seconds"] = [round(value, 2) for value in clock.seconds]
    return model, history


def save(model, path):
    rnn = {
        "type": "simple_rnn",
        "units": UNITS,
        "activation": "tanh",
        "use_bias": True,
        "return_sequences": True,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "zero_output_for_mask": False,
        "unroll": "unrolled",
        "dropout": DROPOUT,
        "recurrent_dropout": 0.0,
    }
    layers = [
        {"type": "embedding", "vocabulary": VOCABULARY, "size": SIZE, "mask_zero": True},
        rnn,
        {**rnn, "return_sequences": False},
        {"type": "dense", "units": 1, "activation": "sigmoid", "use_bias": True},
    ]
    of_rnn = ["kernel", "recurrent_kernel", "bias"]
    names = [["embedding"], of_rnn, of_rnn, ["kernel", "bias"]]
    tensors = {
        f"layers.{i}.{name}": weight
        for i, layer in enumerate(model.layers)
        for name, weight in zip(names[i], layer.get_weights())
    }
    config = json.dumps({"input_size": 1, "layers": layers})
    safetensors.numpy.save_file(tensors, path, {"format": "elman", "version": "1", "config": config})


def forward_f64(path, tokens):
    """The saved network in float64 NumPy: a check on the file and on Keras."""
    w = {name: tensor.astype("float64") for name, tensor in safetensors.numpy.load_file(path).items()}
    sequence = w["layers.0.embedding"][tokens]
    for layer in ("layers.1", "layers.2"):
        state, outputs = np.zeros((len(tokens), UNITS)), []
        for t in range(STEPS):
            new = np.tanh(
                sequence[:, t] @ w[f"{layer}.kernel"] + w[f"{layer}.bias"] + state @ w[f"{layer}.recurrent_kernel"]
            )
            state = np.where(tokens[:, t : t + 1] != 0, new, state)
            outputs.append(state)
        sequence = np.stack(outputs, axis=1)
    return 1 / (1 + np.exp(-(state @ w["layers.3.kernel"] + w["layers.3.bias"])))[:, 0]


def main():
    tf.config.experimental.enable_op_determinism()
    training, test = read_reviews()
    vocabulary = make_vocabulary(training)
    (HERE / "vocabulary.txt").write_text("\n".join(vocabulary) + "\n")
    token_of = {word: i for i, word in enumerate(vocabulary)}
    training, test = to_arrays(training, token_of), to_arrays(test, token_of)

    histories = []
    for seed in sorted({SEED, *HISTORY_SEEDS}):
        model, history = train(seed, training, test)
        if seed in HISTORY_SEEDS:
            histories.append(history)
        if seed == SEED:
            path = HERE / "sentiment.safetensors"
            save(model, path)
            predictions = model.predict(test[0], batch_size=BATCH, verbose=0)[:, 0]
            (HERE / "keras_predictions.txt").write_text("".join(f"{p:.9g}\n" for p in predictions))
            print(f"seed {seed}: accuracy {np.mean((predictions > 0.5) == test[1]):.4f}")
            print(f"largest difference from float64: {np.abs(predictions - forward_f64(path, test[0])).max():.2g}")
    text = json.dumps({"epochs": EPOCHS, "batch": BATCH, "runs": histories}, indent=1)
    text = re.sub(r"\[\s+([^\[\]{}]+?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text)
    (HERE / "keras_history.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
