"""How each library computes a case of cases.py: makers of something to call, one a library and pass.

Weights are turned as each library wants them, once, before any clock starts; gradients are turned back as Keras lays
them out. Every maker takes the case, the threads it may use, and the paths that compare.py hands on.
"""

import pathlib
import resource
import statistics
import subprocess
import time

import cases
import elman_c
from cases import blocks

ELMAN = cases.records.ELMAN


class Timed:
    """Something to call, which returns the output when asked for it."""

    def __init__(self, call, output):
        self.call, self.output = call, output

    def time(self, seconds):
        """(median seconds of a call, other figures)"""
        times, used = self._calls(1, 0)
        # That was to warm up, but for a call that fills the turn alone.
        if times[0] < seconds:
            times, used = self._calls(3, seconds)
        return statistics.median(times), {"cores": used / sum(times)}

    def _calls(self, least, seconds):
        """The seconds of each of at least so many calls, and the processor's seconds in all of them."""
        times = []
        cpu = resource.getrusage(resource.RUSAGE_SELF)
        begun = last = time.perf_counter()
        while last - begun < seconds or len(times) < least:
            self.call()
            now = time.perf_counter()
            times.append(now - last)
            last = now
        after = resource.getrusage(resource.RUSAGE_SELF)
        return times, after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime


class TimedProgram:
    """A program that reads arrays from a file, and answers a number of seconds with nanoseconds a call."""

    def __init__(self, program, folder, arrays, *arguments):
        import numpy as np

        name = pathlib.Path(program).name
        given, result = (pathlib.Path(folder) / f"{name}-{what}.f32" for what in ("data", "result"))
        np.concatenate([array.ravel() for array in arrays]).tofile(given)
        command = [program, given, result, *map(str, arguments)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready, _, self.version = self._process.stdout.readline().strip().partition(" ")
        given.unlink()
        if ready != "ready":
            raise RuntimeError(f"{program} failed")
        self._output = np.fromfile(result, np.float32)
        result.unlink()

    def __del__(self):
        self._process.kill()
        self._process.wait()

    def call(self):
        """The program has made its first calls."""

    def output(self):
        return self._output

    def time(self, seconds):
        print(seconds, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline()) * 1e-9, {}


class TimedStep(TimedProgram):
    """elman's C function called from C; beside it the same function through ctypes."""

    def __init__(self, from_python, program, folder, case):
        weights, x, h = cases.data(case)
        super().__init__(program, folder, [*cases.flat(weights), x, h])
        self._from_python = from_python

    def time(self, seconds):
        return super().time(seconds)[0], {"through ctypes": self._from_python.time(seconds / 4)[0]}


# --- elman -----------------------------------------------------------------------------------------------------------


def make_elman(case, threads, options):
    import numpy as np

    weights, x, h = cases.data(case)
    library = elman_c.Library(options["library"])
    y = np.zeros((case.batch, case.units), np.float32)
    if case.name == "step":
        cell = elman_c.Cell(library, case.features, case.units, weights[0])
        from_python = Timed(cell.step(x, h, case.batch, y), lambda: y)
        return TimedStep(from_python, options["step"], options["folder"], case)
    net = elman_network(library, case, threads, weights)
    return Timed(net.predict(x, case.batch, case.steps, y), lambda: y)


def elman_network(library, case, threads, weights):
    net = elman_c.Network(
        library, case.features, [case.units] * case.layers, cell=case.cell, threads=threads, quick=True)
    for layer, arrays in enumerate(weights):
        for which, values in enumerate(arrays):
            net.set_weight(layer, which, values)
    return net


def train_elman(case, threads, options):
    import numpy as np

    weights, x, _ = cases.data(case)
    net = elman_network(elman_c.Library(options["library"]), case, threads, weights)
    tape = elman_c.Tape(net, case.batch, case.steps)
    y, dx = np.zeros((case.batch, case.units), np.float32), np.zeros_like(x)

    def gradients():
        values = np.zeros(sum(w.size for w in cases.flat(weights)), np.float32)
        tape.gradients(values)
        return np.concatenate([values, dx.ravel()])

    return Timed(tape.both(x, y, cases.output_gradient(case), dx), gradients)


def stream_elman(case, threads, options):
    return stream_program(options["stream"], case, options)


def stream_program(program, case, options):
    weights, samples = cases.stream_data(case)
    return TimedProgram(program, options["folder"], [*weights, samples], case.cell, case.features, case.units)


# --- PyTorch ---------------------------------------------------------------------------------------------------------


def make_torch(case, threads, options):
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    weights, x, h = cases.data(case)
    net = torch_network(case, weights).eval()
    x, h = torch.tensor(x), torch.tensor(h)

    @torch.inference_mode()
    def call():
        return net(x[:, 0], h) if case.name == "step" else torch_last(case, net, x)

    return Timed(call, lambda: call().numpy())


def torch_last(case, net, x):
    """The last layer's last state."""
    states = net(x)[1]
    return (states[0] if case.cell == "LSTM" else states)[-1]


# PyTorch's gates of GRU stand in the order r z n; there and back it is the same exchange.
TORCH_ORDER = {"SimpleRNN": (0,), "LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2)}


def torch_network(case, weights):
    import numpy as np
    import torch

    if case.name == "step":
        net, suffixes = torch.nn.RNNCell(case.features, case.units), [""]
    else:
        kind = {"SimpleRNN": torch.nn.RNN, "LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU}[case.cell]
        net = kind(case.features, case.units, case.layers, batch_first=True)
        suffixes = [f"_l{layer}" for layer in range(case.layers)]
    order = TORCH_ORDER[case.cell]
    with torch.no_grad():
        for suffix, (kernel, recurrent_kernel, bias) in zip(suffixes, weights):
            biases = bias if case.cell == "GRU" else (bias, np.zeros_like(bias))
            for name, values in zip(
                    ("weight_ih", "weight_hh", "bias_ih", "bias_hh"), (kernel, recurrent_kernel, *biases)):
                getattr(net, f"{name}{suffix}").copy_(torch.tensor(blocks(values, order).T))
    return net


def train_torch(case, threads, options):
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    weights, x, _ = cases.data(case)
    net = torch_network(case, weights).train()
    x, dy = torch.tensor(x, requires_grad=True), torch.tensor(cases.output_gradient(case))
    # But for GRU the two biases are one to everybody else.
    names = ("weight_ih", "weight_hh", "bias_ih", *(["bias_hh"] if case.cell == "GRU" else []))
    wanted = [getattr(net, f"{name}_l{layer}") for layer in range(case.layers) for name in names]
    call = lambda: torch.autograd.grad(torch_last(case, net, x), [*wanted, x], dy)
    order = TORCH_ORDER[case.cell]

    def gradients():
        *arrays, dx = (array.numpy() for array in call())
        return np.concatenate([blocks(array.T, order).ravel() for array in arrays] + [dx.ravel()])

    return Timed(call, gradients)


# --- TensorFlow ------------------------------------------------------------------------------------------------------


def make_tensorflow(case, threads, options):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras

    weights, x, h = cases.data(case)
    x, h = tf.constant(x), tf.constant(h)
    if case.name == "step":
        cell = keras.layers.SimpleRNNCell(case.units)
        cell.build((case.batch, case.features))
        cell.set_weights(weights[0])
        first = x[:, 0]
        compiled = tf.function(lambda x, h: cell(x, [h])[0], jit_compile=True)
        call = lambda: compiled(first, h).numpy()
    else:
        net = keras_network(case, weights)
        compiled = tf.function(lambda x: net(x, training=False), jit_compile=True)
        call = lambda: compiled(x).numpy()
    return Timed(call, call)


def keras_network(case, weights):
    import keras

    layer_kind = getattr(keras.layers, case.cell)
    net = keras.Sequential([keras.Input((case.steps, case.features), batch_size=case.batch)])
    for layer, arrays in enumerate(weights):
        net.add(layer_kind(case.units, return_sequences=layer < case.layers - 1))
        net.layers[layer].set_weights(arrays)
    return net


def train_tensorflow(case, threads, options):
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    weights, x, _ = cases.data(case)
    net, x, dy = keras_network(case, weights), tf.constant(x), tf.constant(cases.output_gradient(case))

    @tf.function(jit_compile=True)
    def compiled(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = net(x, training=True)
        return tape.gradient(y, [*net.trainable_variables, x], dy)

    call = lambda: [array.numpy() for array in compiled(x, dy)]
    return Timed(call, lambda: np.concatenate([array.ravel() for array in call()]))


# --- ONNX Runtime and OpenVINO ---------------------------------------------------------------------------------------

# ONNX's gates of LSTM stand in the order i o f c.
ONNX_CELLS = {
    "SimpleRNN": ("RNN", (0,), {}),
    "LSTM": ("LSTM", (0, 3, 1, 2), {}),
    "GRU": ("GRU", (0, 1, 2), {"linear_before_reset": 1}),
}


def onnx_model(case):
    """ONNX's operator, which wants time first."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    weights, x, h = cases.data(case)
    operator, order, attributes = ONNX_CELLS[case.cell]
    arrays = {"direction": np.array([1], np.int64)}
    nodes, below = [], "x"
    for layer, (kernel, recurrent_kernel, bias) in enumerate(weights):
        arrays[f"W{layer}"] = blocks(kernel, order).T[None]
        arrays[f"R{layer}"] = blocks(recurrent_kernel, order).T[None]
        biases = bias if case.cell == "GRU" else (bias, np.zeros_like(bias))
        arrays[f"B{layer}"] = np.concatenate([blocks(values, order) for values in biases])[None]
        first_state = ["", "h"] if case.name == "step" else []
        outputs = [f"y{layer}" if layer < case.layers - 1 else "", f"h{layer}"]
        inputs = [below, f"W{layer}", f"R{layer}", f"B{layer}", *first_state]
        nodes.append(helper.make_node(operator, inputs, outputs, hidden_size=case.units, **attributes))
        if layer < case.layers - 1:
            nodes.append(helper.make_node("Squeeze", [f"y{layer}", "direction"], [f"s{layer}"]))
            below = f"s{layer}"
    given = {"x": np.ascontiguousarray(x.transpose(1, 0, 2))}
    if case.name == "step":
        given["h"] = h[None]
    last = helper.make_tensor_value_info(f"h{case.layers - 1}", TensorProto.FLOAT, [1, case.batch, case.units])
    graph = helper.make_graph(
        nodes, case.name,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, values.shape) for name, values in given.items()],
        [last], [numpy_helper.from_array(np.ascontiguousarray(values), name) for name, values in arrays.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model, given


def make_onnxruntime(case, threads, options):
    import onnxruntime

    model, given = onnx_model(case)
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = threads
    session_options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options, providers=["CPUExecutionProvider"])
    call = lambda: session.run(None, given)
    return Timed(call, lambda: call()[0])


def make_openvino(case, threads, options):
    import onnx
    import openvino

    model, given = onnx_model(case)
    path = pathlib.Path(options["folder"]) / f"{case.recorded}.onnx"
    onnx.save(model, path)
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {
        "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
    path.unlink()
    request = compiled.create_infer_request()
    # The inputs stay where they are from call to call, so only the first one hands them over.
    request.infer(given)
    return Timed(request.infer, lambda: request.get_output_tensor().data)


# --- oneDNN and RTNeural ---------------------------------------------------------------------------------------------


def make_onednn(case, threads, options):
    return onednn_program(case, cases.data(case)[2], "state" if case.name == "step" else "forward", options)


def train_onednn(case, threads, options):
    return onednn_program(case, cases.output_gradient(case), "training", options)


def onednn_program(case, last, what, options):
    weights, x, _ = cases.data(case)
    arrays = [*cases.flat(weights), x, last]
    return TimedProgram(options["onednn"], options["folder"], arrays, case.cell, *case.shape, what)


def stream_rtneural(backend):
    return lambda case, threads, options: stream_program(options["rtneural"][backend], case, options)


class Engine:
    def __init__(self, label, package=None, **makers):
        """`package` is the Python package whose version counts; `makers` are by pass."""
        self.label, self.package, self.makers = label, package, makers


# What RTNeural can compute its products with.
BACKENDS = {"eigen": "Eigen", "xsimd": "XSIMD", "stl": "STL"}
ENGINES = {
    ELMAN: Engine(ELMAN, forward=make_elman, training=train_elman, stream=stream_elman),
    "openvino": Engine("OpenVINO", "openvino", forward=make_openvino),
    "onnxruntime": Engine("ONNX Runtime", "onnxruntime", forward=make_onnxruntime),
    "torch": Engine("PyTorch", "torch", forward=make_torch, training=train_torch),
    "tensorflow": Engine("TensorFlow XLA", "tensorflow-cpu", forward=make_tensorflow, training=train_tensorflow),
    "onednn": Engine("oneDNN", forward=make_onednn, training=train_onednn),
    **{f"rtneural-{backend}": Engine(f"RTNeural {label}", stream=stream_rtneural(backend))
       for backend, label in BACKENDS.items()},
}
