#!/usr/bin/env python3
"""Times elman beside OpenVINO, ONNX Runtime, PyTorch, TensorFlow (XLA) and oneDNN: same weights, same input,
same machine, in turn.

usage: compare.py [--record DIR] [--passes forward,training] [--cases seed,mid] [--engines openvino,torch] [--rounds N] ...

It makes a virtual environment with the runtimes of requirements.txt, builds elman's shared library, prints
tables and files every figure in the record of this CPU and day (../records.py), from which ../charts.py
draws.

How it measures. Each engine lives in a process of its own, so that no runtime's thread pool disturbs
another's, and sleeps until it is asked. A round asks every engine in turn for a short while of calls and
takes the median of their times; the table has the medians over the rounds. The peak of multiply-adds on one
core (../peak.c) is measured in the same rounds. Calls come from Python, elman's through ctypes, and oneDNN's
from C++ (onednn.cpp), as it has no Python. One call is too long for a single step of one row, so there
elman's C function is called from C (step.c), and what ctypes makes of it is said below the table. Every
engine gets the input in the layout it likes best, and computes the last state only.

The outputs must agree to 1e-4, or the comparison fails.

The training pass is a forward and a backward pass on one thread, beside the runtimes that train: the
gradients of all weights and of the input for one gradient by the last state, which is given. Each gradient
must agree to 1e-4 of its largest value.
"""

import argparse
import gc
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import elman_c

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import environment
import records

TOLERANCE = 1e-4
# batch, steps, features, units, layers
CASES = {
    "seed": (8, 80, 100, 64, 2),
    "b1small": (1, 256, 64, 64, 1),
    "mid": (32, 100, 256, 256, 2),
    "wide": (64, 128, 1024, 1024, 1),
    "b1wide": (1, 256, 1024, 1024, 1),
    "step": (1, 1, 64, 64, 1),
}
TRAINED = ("seed", "b1small", "mid", "wide")
PASSES = ("forward", "training")
ELMAN = records.ELMAN


# --- A process for each engine ---------------------------------------------------------------------------------------


def data(case):
    """Weights of each layer, input and first state: the same ones in every process."""
    import numpy as np

    batch, steps, features, units, layers = CASES[case]
    rng = np.random.default_rng(0)
    weights = []
    for layer in range(layers):
        width = features if layer == 0 else units
        kernel = rng.uniform(-1, 1, (width, units)) * np.sqrt(6 / (width + units))
        recurrent_kernel = np.linalg.qr(rng.standard_normal((units, units)))[0]
        bias = rng.uniform(-0.1, 0.1, units)
        weights.append([np.ascontiguousarray(w, np.float32) for w in (kernel, recurrent_kernel, bias)])
    x = rng.standard_normal((batch, steps, features)).astype(np.float32)
    h = rng.uniform(-1, 1, (batch, units)).astype(np.float32)
    return weights, x, h


def output_gradient(case):
    """The loss's gradient by the last state."""
    import numpy as np

    batch, _, _, units, _ = CASES[case]
    return np.random.default_rng(1).uniform(-1, 1, (batch, units)).astype(np.float32)


class Timed:
    """Something to call, which returns the output when asked for it."""

    def __init__(self, call, output):
        self.call, self.output = call, output

    def time(self, seconds):
        """(median seconds of a call, other figures)"""
        begun = time.perf_counter()
        self.call()
        once = time.perf_counter() - begun
        times = []
        cpu = resource.getrusage(resource.RUSAGE_SELF)
        begun = last = time.perf_counter()
        while last - begun < seconds or (len(times) < 3 and once < seconds):
            self.call()
            now = time.perf_counter()
            times.append(now - last)
            last = now
        after = resource.getrusage(resource.RUSAGE_SELF)
        used = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
        return statistics.median(times), {"cores": used / (last - begun)}


class TimedProgram:
    """A program that reads the case's arrays from a file, and answers a number of seconds with nanoseconds a call."""

    def __init__(self, program, folder, case, last, *arguments):
        """`last` is what the file holds behind weights and input."""
        import numpy as np

        weights, x, _ = data(case)
        name = pathlib.Path(program).name
        given, result = (pathlib.Path(folder) / f"{name}-{what}.f32" for what in ("data", "result"))
        np.concatenate([a.ravel() for arrays in weights for a in arrays] + [x.ravel(), last.ravel()]).tofile(given)
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
        super().__init__(program, folder, case, data(case)[2])
        self._from_python = from_python

    def time(self, seconds):
        return super().time(seconds)[0], {"through ctypes": self._from_python.time(seconds / 4)[0]}


def make_elman(case, threads, options):
    import numpy as np

    batch, steps, features, units, layers = CASES[case]
    weights, x, h = data(case)
    library = elman_c.Library(options["library"])
    y = np.zeros((batch, units), np.float32)
    if case == "step":
        cell = elman_c.Cell(library, features, units, weights[0])
        from_python = Timed(cell.step(x, h, batch, y), lambda: y)
        return TimedStep(from_python, options["step"], options["folder"], case)
    net = elman_network(library, case, threads, weights)
    return Timed(net.predict(x, batch, steps, y), lambda: y)


def elman_network(library, case, threads, weights):
    _, _, features, units, layers = CASES[case]
    net = elman_c.Network(library, features, [units] * layers, threads=threads)
    for layer, arrays in enumerate(weights):
        for which, values in enumerate(arrays):
            net.set_weight(layer, which, values)
    return net


def train_elman(case, threads, options):
    import numpy as np

    batch, steps, _, units, _ = CASES[case]
    weights, x, _ = data(case)
    tape = elman_c.Tape(elman_network(elman_c.Library(options["library"]), case, threads, weights), batch, steps)
    y, dx = np.zeros((batch, units), np.float32), np.zeros_like(x)

    def gradients():
        values = np.zeros(sum(w.size for arrays in weights for w in arrays), np.float32)
        tape.gradients(values)
        return np.concatenate([values, dx.ravel()])

    return Timed(tape.both(x, y, output_gradient(case), dx), gradients)


def make_torch(case, threads, options):
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    weights, x, h = data(case)
    net = torch_network(case, weights).eval()
    x, h = torch.tensor(x), torch.tensor(h)

    @torch.inference_mode()
    def call():
        return net(x[:, 0], h) if case == "step" else net(x)[1][-1]

    return Timed(call, lambda: call().numpy())


def torch_network(case, weights):
    import torch

    _, _, features, units, layers = CASES[case]
    if case == "step":
        net, suffixes = torch.nn.RNNCell(features, units), [""]
    else:
        net = torch.nn.RNN(features, units, layers, batch_first=True)
        suffixes = [f"_l{layer}" for layer in range(layers)]
    with torch.no_grad():
        for suffix, (kernel, recurrent_kernel, bias) in zip(suffixes, weights):
            getattr(net, f"weight_ih{suffix}").copy_(torch.tensor(kernel.T))
            getattr(net, f"weight_hh{suffix}").copy_(torch.tensor(recurrent_kernel.T))
            getattr(net, f"bias_ih{suffix}").copy_(torch.tensor(bias))
            getattr(net, f"bias_hh{suffix}").zero_()
    return net


def train_torch(case, threads, options):
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    weights, x, _ = data(case)
    net = torch_network(case, weights).train()
    x, dy = torch.tensor(x, requires_grad=True), torch.tensor(output_gradient(case))
    # The two biases are one to everybody else.
    wanted = [
        getattr(net, f"{name}_l{layer}") for layer in range(len(weights)) for name in ("weight_ih", "weight_hh", "bias_ih")]
    call = lambda: torch.autograd.grad(net(x)[1][-1], [*wanted, x], dy)

    def gradients():
        *arrays, dx = (array.numpy() for array in call())
        return np.concatenate([array.T.ravel() for array in arrays] + [dx.ravel()])

    return Timed(call, gradients)


def make_tensorflow(case, threads, options):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras

    batch, _, features, units, _ = CASES[case]
    weights, x, h = data(case)
    x, h = tf.constant(x), tf.constant(h)
    if case == "step":
        cell = keras.layers.SimpleRNNCell(units)
        cell.build((batch, features))
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

    batch, steps, features, units, layers = CASES[case]
    net = keras.Sequential([keras.Input((steps, features), batch_size=batch)])
    for layer, arrays in enumerate(weights):
        net.add(keras.layers.SimpleRNN(units, return_sequences=layer < layers - 1))
        net.layers[layer].set_weights(arrays)
    return net


def train_tensorflow(case, threads, options):
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    weights, x, _ = data(case)
    net, x, dy = keras_network(case, weights), tf.constant(x), tf.constant(output_gradient(case))

    @tf.function(jit_compile=True)
    def compiled(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = net(x, training=True)
        return tape.gradient(y, [*net.trainable_variables, x], dy)

    call = lambda: [array.numpy() for array in compiled(x, dy)]
    return Timed(call, lambda: np.concatenate([array.ravel() for array in call()]))


def onnx_model(case):
    """ONNX's RNN, which wants time first."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    batch, steps, features, units, layers = CASES[case]
    weights, x, h = data(case)
    arrays = {"direction": np.array([1], np.int64)}
    nodes, below = [], "x"
    for layer, (kernel, recurrent_kernel, bias) in enumerate(weights):
        arrays[f"W{layer}"], arrays[f"R{layer}"] = kernel.T[None], recurrent_kernel.T[None]
        arrays[f"B{layer}"] = np.concatenate([bias, np.zeros_like(bias)])[None]
        first_state = ["", "h"] if case == "step" else []
        outputs = [f"y{layer}" if layer < layers - 1 else "", f"h{layer}"]
        inputs = [below, f"W{layer}", f"R{layer}", f"B{layer}", *first_state]
        nodes.append(helper.make_node("RNN", inputs, outputs, hidden_size=units))
        if layer < layers - 1:
            nodes.append(helper.make_node("Squeeze", [f"y{layer}", "direction"], [f"s{layer}"]))
            below = f"s{layer}"
    given = {"x": np.ascontiguousarray(x.transpose(1, 0, 2))}
    if case == "step":
        given["h"] = h[None]
    graph = helper.make_graph(
        nodes, case,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, values.shape) for name, values in given.items()],
        [helper.make_tensor_value_info(f"h{layers - 1}", TensorProto.FLOAT, [1, batch, units])],
        [numpy_helper.from_array(np.ascontiguousarray(values), name) for name, values in arrays.items()])
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
    path = pathlib.Path(options["folder"]) / f"{case}.onnx"
    onnx.save(model, path)
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {
        "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    # The inputs stay where they are from call to call, so only the first one hands them over.
    request.infer(given)
    return Timed(request.infer, lambda: request.get_output_tensor().data)


def make_onednn(case, threads, options):
    what = "state" if case == "step" else "forward"
    return TimedProgram(options["onednn"], options["folder"], case, data(case)[2], *CASES[case], what)


def train_onednn(case, threads, options):
    return TimedProgram(options["onednn"], options["folder"], case, output_gradient(case), *CASES[case], "training")


# name: (label, package, maker, maker of what trains)
ENGINES = {
    ELMAN: (ELMAN, None, make_elman, train_elman),
    "openvino": ("OpenVINO", "openvino", make_openvino, None),
    "onnxruntime": ("ONNX Runtime", "onnxruntime", make_onnxruntime, None),
    "torch": ("PyTorch", "torch", make_torch, train_torch),
    "tensorflow": ("TensorFlow XLA", "tensorflow-cpu", make_tensorflow, train_tensorflow),
    "onednn": ("oneDNN", None, make_onednn, train_onednn),
}


def work(engine, threads):
    """Answers one line of JSON for each line of JSON, until there are no more."""
    import numpy as np

    # Runtimes print; the answers go where nothing else does.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    gc.disable()
    timed = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "make":
                timed = None
                gc.collect()
                timed = ENGINES[engine][3 if request["training"] else 2](request["case"], threads, request)
                timed.call()
                timed.call()
                np.save(request["output"], np.array(timed.output(), np.float32).ravel())
                answer = {"version": getattr(timed, "version", None)}
            else:
                seconds, others = timed.time(request["seconds"])
                answer = {"seconds": seconds, "others": others}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


class Worker:
    def __init__(self, engine, threads):
        self.engine = engine
        environment = dict(
            os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), TF_CPP_MIN_LOG_LEVEL="3",
            TF_NUM_INTRAOP_THREADS=str(threads), TF_NUM_INTEROP_THREADS="1", CUDA_VISIBLE_DEVICES="-1")
        command = [sys.executable, __file__, "--work", engine, "--threads", str(threads)]
        self._said = tempfile.TemporaryFile("w+", errors="replace")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True, env=environment)

    def ask(self, **request):
        print(json.dumps(request), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "ended"}
        if "error" in answer:
            self._said.seek(0)
            raise SystemExit(f"{self._said.read()}\n{self.engine}: {answer['error']}")
        return answer

    def end(self):
        self._process.stdin.close()
        self._process.wait()


# --- Rounds and tables -----------------------------------------------------------------------------------------------


def difference(case, training, values, own):
    """The largest one between two outputs; of gradients, each array's as a share of its largest value."""
    import numpy as np

    if values.shape != own.shape:
        return float("inf")
    apart = np.abs(values - own)
    if not training:
        return float(apart.max())
    weights, x, _ = data(case)
    ends = np.cumsum([w.size for arrays in weights for w in arrays])
    assert ends[-1] + x.size == own.size
    return max(float(a.max() / np.abs(o).max()) for a, o in zip(np.split(apart, ends), np.split(own, ends)))


def compare(name, case, threads, workers, peak, options, given):
    """The record's rows of one case without the machine, and what each engine told besides."""
    import numpy as np

    training = name == "training"
    outputs, versions = {}, {}
    for worker in workers:
        path = options.output / f"output-{worker.engine}.npy"
        told = worker.ask(do="make", case=case, training=training, output=str(path), **given)
        versions[worker.engine] = told["version"] or packaged(worker.engine)
        outputs[worker.engine] = np.load(path)
        path.unlink()
    rounds, others, peaks = {worker.engine: [] for worker in workers}, {worker.engine: {} for worker in workers}, []
    for number in range(options.rounds):
        first = number % len(workers)
        peaks.append(peak.ask("flops"))
        for worker in workers[first:] + workers[:first]:
            # What spins after its call has time to fall asleep.
            time.sleep(options.pause)
            answer = worker.ask(do="time", seconds=options.turn)
            rounds[worker.engine].append(answer["seconds"])
            for what, value in answer["others"].items():
                others[worker.engine].setdefault(what, []).append(value)
    own, flops = outputs[ELMAN], records.flops(CASES[case], training)
    own_seconds = statistics.median(rounds[ELMAN])
    rows = []
    for engine, values in outputs.items():
        seconds = statistics.median(rounds[engine])
        rows.append({
            "bench": "peers", "pass": name, "case": case, **records.shaped(CASES[case]), "threads": threads,
            "library": ENGINES[engine][0], "version": versions[engine], "seconds": seconds, "ratio": seconds / own_seconds,
            "flops": flops, "share": flops / seconds / statistics.median(peaks) / threads,
            "difference": difference(case, training, values, own), "note": ""})
    told = {ENGINES[engine][0]: {what: statistics.median(v) for what, v in own.items()} for engine, own in others.items()}
    return rows, notes(case, threads, told)


def packaged(engine):
    """The version of the Python package that the engine is."""
    from importlib.metadata import version

    package = ENGINES[engine][1]
    return version(package) if package else ""


def notes(case, threads, told):
    lines = []
    for library, figures in told.items():
        if "through ctypes" in figures:
            lines.append(
                f"{case}: {library} is called from C; through ctypes it takes "
                f"{records.show_seconds(figures['through ctypes'])}.")
        if figures.get("cores", 0) > threads + 0.3:
            lines.append(
                f"{case}: {library} kept {figures['cores']:.1f} cores busy where {threads} {'was' if threads == 1 else 'were'} "
                "allowed.")
    return lines


# --- The command -----------------------------------------------------------------------------------------------------


def compile_onednn(program):
    """onednn.cpp with the library of the environment, else with the system's (Debian: libdnnl-dev)."""
    prefix = pathlib.Path(sys.prefix)
    options = []
    if (prefix / "include" / "dnnl.hpp").exists():
        options = [f"-I{prefix / 'include'}", f"-L{prefix / 'lib'}", f"-Wl,-rpath,{prefix / 'lib'}"]
    try:
        elman_c.compile_c(HERE / "onednn.cpp", program, "-Wpedantic", "-fopenmp", *options, "-ldnnl")
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"onednn.cpp: {error}; it needs oneDNN, or --engines without onednn") from error


def measure(options, peak, given):
    """Rows of all passes and cases, and notes on them."""
    rows, said = [], []
    for name in options.passes:
        training = name == "training"
        engines = [engine for engine in (ELMAN, *options.engines) if not training or ENGINES[engine][3]]
        for threads in [1] if training else options.threads:
            workers = [Worker(engine, threads) for engine in engines]
            # A step of one row has nothing to share out.
            known = TRAINED if training else [case for case in CASES if case != "step" or threads == 1]
            for case in (case for case in options.cases if case in known):
                print(f"{name}: {case}, threads: {threads}", file=sys.stderr)
                of_case, notes_on_case = compare(name, case, threads, workers, peak, options, given)
                rows += of_case
                said += notes_on_case
            for worker in workers:
                worker.end()
    return rows, said


def listed(kind, known):
    def parse(text):
        values = [kind(value) for value in text.split(",")]
        unknown = [value for value in values if known and value not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(map(str, known))}")
        return values

    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rivals = [engine for engine in ENGINES if engine != ELMAN]
    default = elman_c.ROOT / "target" / "peers"
    parser.add_argument("--passes", type=listed(str, PASSES), default=PASSES, help=", ".join(PASSES))
    parser.add_argument("--cases", type=listed(str, CASES), default=list(CASES), help=", ".join(CASES))
    parser.add_argument("--engines", type=listed(str, rivals), default=rivals, help=", ".join(rivals))
    parser.add_argument("--threads", type=listed(int, None), default=[1, 2], help="default 1,2")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--turn", type=float, default=0.15, help="seconds of calls that an engine gets a round")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds of silence before a turn")
    parser.add_argument("--venv", type=pathlib.Path, default=default / "venv", help="default target/peers/venv")
    parser.add_argument("--pip-option", action="append", default=[], help="one more argument for pip install")
    parser.add_argument("--library", type=pathlib.Path, help="a built libelman; default: cargo builds it")
    parser.add_argument("--output", type=pathlib.Path, default=default, help="folder for programs; default target/peers")
    records.add_option(parser)
    parser.add_argument("--work", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.threads[0])
        return
    environment.enter(options.venv, HERE / "requirements.txt", __file__, options.pip_option)

    options.output.mkdir(parents=True, exist_ok=True)
    folder = options.output.resolve()
    library_path = (options.library or elman_c.build()).resolve()
    step, onednn = folder / "step", folder / "onednn"
    elman_c.compile_c(
        HERE / "step.c", step, f"-I{elman_c.INCLUDE}", str(library_path), f"-Wl,-rpath,{library_path.parent}")
    if "onednn" in options.engines:
        compile_onednn(onednn)
    given = {"library": str(library_path), "step": str(step), "onednn": str(onednn), "folder": str(folder)}
    library = elman_c.Library(library_path)
    machine = records.machine(library.text("isa"), library.text("version"))
    peak = elman_c.Peak(folder, machine["isa"])
    rows, said = measure(options, peak, given)
    rows = [machine | row for row in rows]
    print(records.tables(rows))
    print("Medians; in brackets a rival's time to elman's, so above 1 elman is the faster one.", *said, sep="\n")
    worst = max((row["difference"] for row in rows), default=0.0)
    print(f"largest difference between the outputs: {worst:.1e}")
    # A NaN is no agreement.
    if not all(row["difference"] < TOLERANCE for row in rows):
        raise SystemExit(f"outputs differ by more than {TOLERANCE}: nothing is recorded")
    print(f"recorded in {records.write(options.record, rows)}")


if __name__ == "__main__":
    main()
