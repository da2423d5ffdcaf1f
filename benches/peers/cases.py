"""What compare.py measures: the cases, and their weights, inputs and gradients, the same ones in every process.

Weights are Keras's: a layer's kernel [input, gates x units], recurrent kernel [units, gates x units] and bias, which is
[units] of SimpleRNN, [4 x units] of LSTM, whose gates stand in the order i f c o, and [2, 3 x units] of GRU, the input's
row and the recurrent one, whose gates stand in the order z r h.
"""

import pathlib
import sys
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import records

# batch, steps, features, units, layers
SIMPLE_RNN = {
    "seed": (8, 80, 100, 64, 2),
    "b1small": (1, 256, 64, 64, 1),
    "mid": (32, 100, 256, 256, 2),
    "wide": (64, 128, 1024, 1024, 1),
    "b1wide": (1, 256, 1024, 1024, 1),
    "step": (1, 1, 64, 64, 1),
}
GATED = {
    "seed": (8, 80, 100, 64, 2),
    "b1small": (1, 256, 64, 64, 1),
    "b1long": (1, 1024, 40, 40, 1),
    "audio": (1, 1024, 1, 40, 1),
    "mid": (32, 100, 256, 256, 2),
    "wide": (64, 32, 512, 1024, 1),
    "b1wide": (1, 64, 512, 512, 1),
}
# A stream's call is a sample: features, units.
STREAMS = ((1, 20), (1, 40), (40, 40))
# Of these, SimpleRNN's gradients are not compared.
UNTRAINED = ("b1wide", "step")


class Case(NamedTuple):
    cell: str
    name: str
    batch: int
    steps: int
    features: int
    units: int
    layers: int

    @property
    def shape(self):
        return self[2:]

    @property
    def gates(self):
        return records.GATES[self.cell]

    @property
    def recorded(self):
        """Its name in the record, which also names a cell with gates."""
        return records.name_of_case(self.cell, self.name)

    def width(self, layer):
        """Features that the layer takes."""
        return self.features if layer == 0 else self.units


def listed(which, cells, names):
    """The cases of a pass, by what the record calls them."""
    found = []
    for cell in cells:
        if which == "stream":
            sizes = {f"{features}-{units}": (1, 1, features, units, 1) for features, units in STREAMS}
            found += [Case(cell, name, *shape) for name, shape in sizes.items() if cell != "SimpleRNN"]
            continue
        known = SIMPLE_RNN if cell == "SimpleRNN" else GATED
        left_out = UNTRAINED if (which, cell) == ("training", "SimpleRNN") else ()
        found += [Case(cell, name, *known[name]) for name in names if name in known and name not in left_out]
    return found


def data(case):
    """Weights of each layer, input and first state."""
    import numpy as np

    units, gates = case.units, case.gates
    rng = np.random.default_rng(0)
    weights = []
    for layer in range(case.layers):
        width = case.width(layer)
        kernel = rng.uniform(-1, 1, (width, gates * units)) * np.sqrt(6 / (width + gates * units))
        if case.cell == "SimpleRNN":
            recurrent_kernel = np.linalg.qr(rng.standard_normal((units, units)))[0]
        else:
            # As large as an orthogonal one's, which would be long in the making.
            recurrent_kernel = rng.uniform(-1, 1, (units, gates * units)) * np.sqrt(3 / (gates * units))
        bias = rng.uniform(-0.1, 0.1, (2, gates * units) if case.cell == "GRU" else gates * units)
        weights.append([np.ascontiguousarray(w, np.float32) for w in (kernel, recurrent_kernel, bias)])
    x = rng.standard_normal((case.batch, case.steps, case.features)).astype(np.float32)
    h = rng.uniform(-1, 1, (case.batch, units)).astype(np.float32)
    return weights, x, h


def output_gradient(case):
    """The loss's gradient by the last state."""
    import numpy as np

    return np.random.default_rng(1).uniform(-1, 1, (case.batch, case.units)).astype(np.float32)


def stream_data(case):
    """One layer's weights, and samples [64, features] that follow each other again and again."""
    import numpy as np

    weights, _, _ = data(case)
    return weights[0], np.random.default_rng(2).uniform(-1, 1, (64, case.features)).astype(np.float32)


def flat(weights):
    return [array for arrays in weights for array in arrays]


def blocks(values, order):
    """The gates' blocks of the last axis in another order."""
    import numpy as np

    parts = np.split(values, len(order), axis=-1)
    return np.concatenate([parts[i] for i in order], axis=-1)
