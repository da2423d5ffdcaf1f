#!/usr/bin/env python3
"""Times elman beside OpenVINO, ONNX Runtime, PyTorch and TensorFlow (XLA): same weights, same input, same machine, in turn.

usage: compare.py [--passes forward,training] [--cases seed,mid] [--engines openvino,torch] [--threads 1,2] [--rounds N] ...

It makes a virtual environment with the runtimes of requirements.txt, builds elman's shared library, and prints a
table; target/peers then holds it as peers.md, the chart of the ratios as peers.svg, and every figure as peers.json.

How it measures. Each engine lives in a process of its own, so that no runtime's thread pool disturbs another's, and
sleeps until it is asked. A round asks every engine in turn for a short while of calls and takes the median of their times; the
table has the medians over the rounds. All calls come from Python, elman's through ctypes. One call is too long for
a single step of one row, so there elman's C function is called from C (step.c), and what ctypes makes of it is said below
the table. Every engine gets the input in the layout it likes best, and computes the last state only.

The outputs must agree to 1e-4, or the comparison fails.

The second table, and the chart training.svg, are of a forward and a backward pass on one thread, beside the runtimes that
train: the gradients of all weights and of the input for one gradient by the last state, which is given. Each gradient must agree
to 1e-4 of its largest value.
"""

import argparse
import datetime
import gc
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv

import chart
import elman_c

HERE = pathlib.Path(__file__).resolve().parent
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
# name: (heading, chart, its title)
PASSES = {
    "forward": ("Forward", "peers.svg", ""),
    "training": ("Forward and backward", "training.svg", ", forward and backward"),
}
ELMAN = "elman"


def flops(case, training=False):
    """Of the two products of the forward pass; the backward pass has two more for each."""
    batch, steps, features, units, layers = CASES[case]
    return (6 if training else 2) * batch * steps * units * (features + (2 * layers - 1) * units)


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


class TimedStep:
    """The C program that times a step of elman's; beside it the same function through ctypes."""

    def __init__(self, program, folder, from_python, weights, x, h):
        import numpy as np

        self._from_python = from_python
        given, result = folder / "step-data.f32", folder / "step-result.f32"
        np.concatenate([a.ravel() for a in (*weights, x, h)]).tofile(given)
        self._process = subprocess.Popen(
            [program, given, result], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._process.stdout.readline().strip() != "ready":
            raise RuntimeError("step.c failed")
        self.call = from_python.call
        self.output = lambda: np.fromfile(result, np.float32)

    def time(self, seconds):
        print(seconds, file=self._process.stdin, flush=True)
        nanoseconds = float(self._process.stdout.readline())
        return nanoseconds * 1e-9, {"through ctypes": self._from_python.time(seconds / 4)[0]}


def make_elman(case, threads, options):
    import numpy as np

    batch, steps, features, units, layers = CASES[case]
    weights, x, h = data(case)
    library = elman_c.Library(options["library"])
    y = np.zeros((batch, units), np.float32)
    if case == "step":
        cell = elman_c.Cell(library, features, units, weights[0])
        from_python = Timed(cell.step(x, h, batch, y), lambda: y)
        return TimedStep(options["step"], pathlib.Path(options["folder"]), from_python, weights[0], x, h)
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


# name: (label, package, colour, maker, maker of what trains)
ENGINES = {
    ELMAN: ("elman", None, None, make_elman, train_elman),
    "openvino": ("OpenVINO", "openvino", "#4477aa", make_openvino, None),
    "onnxruntime": ("ONNX Runtime", "onnxruntime", "#ee7733", make_onnxruntime, None),
    "torch": ("PyTorch", "torch", "#228833", make_torch, train_torch),
    "tensorflow": ("TensorFlow XLA", "tensorflow-cpu", "#aa3377", make_tensorflow, train_tensorflow),
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
                timed = ENGINES[engine][4 if request["training"] else 3](request["case"], threads, request)
                timed.call()
                timed.call()
                np.save(request["output"], np.array(timed.output(), np.float32).ravel())
                answer = {}
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


def compare(case, threads, workers, options, given, training):
    """Figures of each engine for one case."""
    import numpy as np

    outputs = {}
    for worker in workers:
        path = options.output / f"output-{worker.engine}.npy"
        worker.ask(do="make", case=case, training=training, output=str(path), **given)
        outputs[worker.engine] = np.load(path)
        path.unlink()
    rounds = {worker.engine: [] for worker in workers}
    others = {worker.engine: {} for worker in workers}
    for number in range(options.rounds):
        first = number % len(workers)
        for worker in workers[first:] + workers[:first]:
            # What spins after its call has time to fall asleep.
            time.sleep(options.pause)
            answer = worker.ask(do="time", seconds=options.turn)
            rounds[worker.engine].append(answer["seconds"])
            for name, value in answer["others"].items():
                others[worker.engine].setdefault(name, []).append(value)
    own = outputs[ELMAN]
    result = {}
    for engine, values in outputs.items():
        seconds = statistics.median(rounds[engine])
        result[engine] = {
            "seconds": seconds,
            "rounds": rounds[engine],
            "gflops": flops(case, training) / seconds / 1e9,
            "ratio": seconds / statistics.median(rounds[ELMAN]),
            "difference": difference(case, training, values, own),
            **{name: statistics.median(those) for name, those in others[engine].items()},
        }
    return {"case": case, "shape": CASES[case], "threads": threads, "flops": flops(case, training), "engines": result}


def show_seconds(seconds, case):
    """Three digits; milliseconds, but microseconds for a single step."""
    scaled = seconds * (1e6 if case == "step" else 1e3)
    digits = f"{scaled:.3g}" if scaled < 100 else f"{scaled:.0f}"
    return f"{digits} {'us' if case == 'step' else 'ms'}"


def table(rows, engines):
    rivals = [engine for engine in engines if engine != ELMAN]
    head = ["case: batch, steps, features, units, layers", "threads", "elman", "GF/s"]
    lines = [head + [ENGINES[engine][0] for engine in rivals] + ["largest difference"]]
    lines.append(["---"] + ["---:"] * (len(lines[0]) - 1))
    for row in rows:
        figures = row["engines"]
        cells = [f"{row['case']}: {', '.join(map(str, row['shape']))}", str(row["threads"])]
        cells += [show_seconds(figures[ELMAN]["seconds"], row["case"]), f"{figures[ELMAN]['gflops']:.1f}"]
        cells += [f"{show_seconds(figures[e]['seconds'], row['case'])} (**{figures[e]['ratio']:.2f}**)" for e in rivals]
        cells.append(f"{max(figure['difference'] for figure in figures.values()):.1e}")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def notes(rows, machine):
    lines = [
        "Medians; in brackets a rival's time to elman's, so above 1 elman is the faster one. " + machine_line(machine)]
    for row in rows:
        own = row["engines"][ELMAN]
        if "through ctypes" in own:
            lines.append(
                f"The rivals' step is called from Python, elman's from C; called from Python through ctypes it takes "
                f"{show_seconds(own['through ctypes'], row['case'])}.")
        for engine, figures in row["engines"].items():
            if figures.get("cores", 0) > row["threads"] + 0.3:
                lines.append(
                    f"{ENGINES[engine][0]} kept {figures['cores']:.1f} cores busy on {row['case']} where "
                    f"{row['threads']} {'was' if row['threads'] == 1 else 'were'} allowed.")
    return "\n\n".join(lines) + "\n"


def machine_line(machine):
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['isa']}; {versions}; {machine['date']}."


def describe_machine(library, engines):
    from importlib.metadata import version

    return {
        "cpu": chart.cpu_name(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "isa": library.text("isa"),
        "versions": {ELMAN: library.text("version")} | {
            ENGINES[engine][0]: version(ENGINES[engine][1]) for engine in engines if engine != ELMAN},
        "date": datetime.date.today().isoformat(),
    }


def draw(title, rows, engines, machine):
    rivals = [engine for engine in engines if engine != ELMAN]
    groups = []
    for row in rows:
        figures = row["engines"]
        name = f"{row['case']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}"
        detail = f"elman {show_seconds(figures[ELMAN]['seconds'], row['case'])}"
        groups.append((name, detail, [(figures[e]["ratio"], ENGINES[e][2]) for e in rivals]))
    return chart.bars(
        f"Time of other runtimes to elman's{title} (1 = as fast; longer is slower)", machine_line(machine), groups,
        [(ENGINES[e][0], ENGINES[e][2]) for e in rivals])


# --- The environment -------------------------------------------------------------------------------------------------


def enter_environment(options):
    """Goes on in the virtual environment, which is made where it is missing or holds other versions."""
    folder = options.venv.resolve()
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if pathlib.Path(sys.prefix).resolve() == folder:
        return
    wanted = (HERE / "requirements.txt").read_text()
    installed = folder / "installed.txt"
    if not installed.exists() or installed.read_text() != wanted:
        print(f"installing the runtimes into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
        subprocess.check_call(
            [python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt", *options.pip_option])
        installed.write_text(wanted)
    sys.stdout.flush()
    os.execv(python, [str(python), __file__, *sys.argv[1:], "--venv", str(folder)])


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
    parser.add_argument("--passes", type=listed(str, PASSES), default=list(PASSES), help=", ".join(PASSES))
    parser.add_argument("--cases", type=listed(str, CASES), default=list(CASES), help=", ".join(CASES))
    parser.add_argument("--engines", type=listed(str, rivals), default=rivals, help=", ".join(rivals))
    parser.add_argument("--threads", type=listed(int, None), default=[1, 2], help="default 1,2")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--turn", type=float, default=0.15, help="seconds of calls that an engine gets a round")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds of silence before a turn")
    parser.add_argument("--venv", type=pathlib.Path, default=default / "venv", help="default target/peers/venv")
    parser.add_argument("--pip-option", action="append", default=[], help="one more argument for pip install")
    parser.add_argument("--library", type=pathlib.Path, help="a built libelman; default: cargo builds it")
    parser.add_argument("--output", type=pathlib.Path, default=default, help="folder for the results; default target/peers")
    parser.add_argument("--work", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.threads[0])
        return
    enter_environment(options)

    options.output.mkdir(parents=True, exist_ok=True)
    library = (options.library or elman_c.build()).resolve()
    step = options.output.resolve() / "step"
    elman_c.compile_c(
        HERE / "step.c", step, f"-I{elman_c.INCLUDE}", str(library), f"-Wl,-rpath,{library.parent}")
    given = {"library": str(library), "step": str(step), "folder": str(options.output.resolve())}
    engines = [ELMAN, *options.engines]
    machine = describe_machine(elman_c.Library(library), engines)
    measured, text = {}, ""
    for name in options.passes:
        training = name == "training"
        these = [engine for engine in engines if not training or ENGINES[engine][4]]
        rows = measured[name] = []
        for threads in [1] if training else options.threads:
            workers = [Worker(engine, threads) for engine in these]
            # A step of one row has nothing to share out.
            known = TRAINED if training else [case for case in CASES if case != "step" or threads == 1]
            for case in (case for case in options.cases if case in known):
                print(f"{name}: {case}, threads: {threads}", file=sys.stderr)
                rows.append(compare(case, threads, workers, options, given, training))
            for worker in workers:
                worker.end()
        heading, file, title = PASSES[name]
        beside = describe_machine(elman_c.Library(library), these)
        text += f"{heading}:\n\n{table(rows, these)}\n{notes(rows, beside)}\n"
        (options.output / file).write_text(draw(title, rows, these, beside))

    print(text, end="")
    (options.output / "peers.md").write_text(text)
    (options.output / "peers.json").write_text(json.dumps({"machine": machine, **measured}, indent=1) + "\n")
    rows = [row for rows in measured.values() for row in rows]
    worst = max((figure["difference"] for row in rows for figure in row["engines"].values()), default=0.0)
    print(f"largest difference between the outputs: {worst:.1e}")
    if not worst < TOLERANCE:
        raise SystemExit(f"outputs differ by more than {TOLERANCE}")


if __name__ == "__main__":
    main()
