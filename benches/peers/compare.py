#!/usr/bin/env python3
"""Times elman's SimpleRNN, LSTM and GRU beside OpenVINO, ONNX Runtime, PyTorch, TensorFlow (XLA) and oneDNN: same
weights, same input, same machine, in turn. With --rtneural, streams of a sample a call beside RTNeural, too.

usage: compare.py [--record DIR] [--passes forward,training] [--cells LSTM,GRU] [--cases seed,mid] [--engines openvino,torch]
                  [--rtneural DIR] [--quick] ...

It makes a virtual environment with the runtimes of requirements.txt, builds elman's shared library, prints
tables and files every figure in the record of this CPU and day (../records.py), from which ../charts.py
draws. Cases and their data are in cases.py, what each library is given and asked in engines.py.

How it measures. Each engine lives in a process of its own, so that no runtime's thread pool disturbs
another's, and sleeps until it is asked. First its output must agree with elman's to 1e-5, and each gradient
to 1e-4 of its largest value; what does not is neither timed nor recorded. A round then asks every engine in
turn for a short while of calls and takes the median of their times; the table has the medians over the
rounds. The peak of multiply-adds on one core (../peak.c) is measured in the same rounds. Calls come from
Python, elman's through ctypes, and oneDNN's from C++ (onednn.cpp), as it has no Python. One call is too long
for a single step of one row, so there elman's C function is called from C (step.c), and what ctypes makes of
it is said below the table. Every engine gets the input in the layout it likes best, and computes the last
state only. GRU's reset gate works after the product, as all of them have it.

The training pass is a forward and a backward pass, beside the runtimes that train: the gradients of all
weights and of the input for one gradient by the last state, which is given.

The stream pass is one layer that gets a sample a call and gives its output: elman_stream_run from C
(stream.c), at sizes that are known when it runs, and RTNeural from C++ (rtneural.cpp), at sizes that are fixed
when it is compiled, for AVX2 as its users do, once for each of its backends. --rtneural is a folder of
RTNeural's sources, with its modules where its build expects them; a backend whose module is missing is left out.
"""

import argparse
import concurrent.futures
import gc
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import cases
import elman_c
import engines
from cases import records
from engines import ELMAN, ENGINES

import environment

HERE = pathlib.Path(__file__).resolve().parent
TOLERANCE = {"forward": 1e-5, "training": 1e-4, "stream": 1e-5}
# However long a case takes.
LEAST_ROUNDS = 3


# --- A process for each engine ---------------------------------------------------------------------------------------


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
                timed = ENGINES[engine].makers[request["pass"]](cases.Case(*request["case"]), threads, request)
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


class Failed(Exception):
    """An engine that could not do what it was asked for."""


class Worker:
    def __init__(self, engine, threads):
        self.engine, self.label = engine, ENGINES[engine].label
        self._threads = threads
        self._start()

    def _start(self):
        threads = str(self._threads)
        environment = dict(
            os.environ, OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads, TF_CPP_MIN_LOG_LEVEL="3",
            TF_NUM_INTRAOP_THREADS=threads, TF_NUM_INTEROP_THREADS="1", CUDA_VISIBLE_DEVICES="-1")
        command = [sys.executable, __file__, "--work", self.engine, "--threads", threads]
        self._said = tempfile.TemporaryFile("w+", errors="replace")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True, env=environment)

    def send(self, **request):
        print(json.dumps(request), file=self._process.stdin, flush=True)

    def receive(self):
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "ended"}
        if "error" in answer:
            self._said.seek(0)
            said = self._said.read()[-2000:]
            if not line:
                self._process.wait()
                self._start()
            raise Failed(f"{self.label}: {answer['error']}\n{said}")
        return answer

    def ask(self, **request):
        self.send(**request)
        return self.receive()

    def end(self):
        self._process.stdin.close()
        self._process.wait()


# --- Rounds and tables -----------------------------------------------------------------------------------------------


def difference(which, case, values, own):
    """The largest one between two outputs; of gradients, each array's as a share of its largest value."""
    import numpy as np

    if values.shape != own.shape:
        return float("inf")
    apart = np.abs(values - own)
    if which != "training":
        return float(apart.max())
    weights, x, _ = cases.data(case)
    ends = np.cumsum([w.size for w in cases.flat(weights)])
    assert ends[-1] + x.size == own.size
    return max(float(a.max() / np.abs(o).max()) for a, o in zip(np.split(apart, ends), np.split(own, ends)))


class Comparison:
    """One case, computed by all engines that a pass has."""

    def __init__(self, which, case, threads):
        self.which, self.case, self.threads = which, case, threads
        # By engine: those that agree with elman.
        self.versions, self.differences = {}, {}
        self.rounds, self.others, self.peaks = {}, {}, []
        self.faults = []

    def name(self):
        return f"{self.which}: {self.case.recorded}, threads: {self.threads}"

    def make(self, workers, folder, given):
        """Lets the engines get ready, all at once, and returns those whose results agree with elman's."""
        import numpy as np

        path = lambda worker: folder / f"output-{worker.engine}.npy"
        for worker in workers:
            worker.send(do="make", case=self.case, output=str(path(worker)), **{"pass": self.which}, **given)
        outputs, ready = {}, []
        for worker in workers:
            try:
                told = worker.receive()
            except Failed as error:
                self.faults.append(f"{self.name()}: {error}")
                continue
            self.versions[worker.engine] = told["version"] or packaged(worker.engine)
            outputs[worker.engine] = np.load(path(worker))
            path(worker).unlink()
            ready.append(worker)
        if ELMAN not in outputs:
            return []
        for worker in list(ready):
            apart = difference(self.which, self.case, outputs[worker.engine], outputs[ELMAN])
            self.differences[worker.engine] = apart
            # A NaN is no agreement.
            if not apart < TOLERANCE[self.which]:
                ready.remove(worker)
                self.faults.append(f"{self.name()}: {worker.label} is not timed, as it differs from elman by {apart:.1e}")
        return ready

    def time(self, workers, peak, options):
        """Asks the engines in turn, round by round; one that fails is left out from then on."""
        self.rounds = {worker.engine: [] for worker in workers}
        self.others = {worker.engine: {} for worker in workers}
        least = min(LEAST_ROUNDS, options.rounds)
        end = time.monotonic() + options.patience
        for number in range(options.rounds):
            if not workers or (number >= least and time.monotonic() > end):
                break
            first = number % len(workers)
            self.peaks.append(peak.ask("flops"))
            for worker in workers[first:] + workers[:first]:
                # What spins after its call has time to fall asleep.
                time.sleep(options.pause)
                try:
                    answer = worker.ask(do="time", seconds=options.turn)
                except Failed as error:
                    self.faults.append(f"{self.name()}: {error}")
                    workers = [other for other in workers if other is not worker]
                    del self.rounds[worker.engine]
                    continue
                self.rounds[worker.engine].append(answer["seconds"])
                for what, value in answer["others"].items():
                    self.others[worker.engine].setdefault(what, []).append(value)

    def rows(self):
        """The record's rows without the machine."""
        if ELMAN not in self.rounds:
            return []
        flops = records.flops(self.case.shape, self.which == "training", self.case.gates)
        own_seconds = statistics.median(self.rounds[ELMAN])
        rows = []
        for engine, times in self.rounds.items():
            seconds = statistics.median(times)
            rows.append({
                "bench": "peers", "pass": self.which, "case": self.case.recorded, **records.shaped(self.case.shape),
                "threads": self.threads, "library": ENGINES[engine].label, "version": self.versions[engine],
                "seconds": seconds, "ratio": seconds / own_seconds, "flops": flops,
                "share": flops / seconds / statistics.median(self.peaks) / self.threads,
                "difference": self.differences[engine], "note": ""})
        return rows

    def notes(self):
        lines = []
        for engine, told in self.others.items():
            figures = {what: statistics.median(values) for what, values in told.items()}
            library, case = ENGINES[engine].label, self.case.recorded
            if "through ctypes" in figures:
                lines.append(
                    f"{case}: {library} is called from C; through ctypes it takes "
                    f"{records.show_seconds(figures['through ctypes'])}.")
            if figures.get("cores", 0) > self.threads + 0.3:
                allowed = f"{self.threads} {'was' if self.threads == 1 else 'were'} allowed"
                lines.append(f"{self.which}: {case}: {library} kept {figures['cores']:.1f} cores busy where {allowed}.")
        return lines


def packaged(engine):
    """The version of the Python package that the engine is."""
    from importlib.metadata import version

    package = ENGINES[engine].package
    return version(package) if package else ""


def summary(rows):
    """Where elman is slower than a rival, or how near the nearest one is."""
    rivals = [row for row in rows if row["library"] != ELMAN]
    if not rivals:
        return ["No rival was timed."]
    said = lambda row: f"{row['pass']}: {row['case']}, threads: {row['threads']}, {row['library']} {row['ratio']:.3f}"
    nearest = sorted(rivals, key=lambda row: row["ratio"])
    behind = [said(row) for row in nearest if row["ratio"] < 1]
    if behind:
        return [f"Of {len(rivals)} ratios {len(behind)} are below 1:", *behind]
    return [f"All {len(rivals)} ratios are above 1. The least: {said(nearest[0])}."]


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


def rtneural_version(sources):
    """What its build file says, and the commit where it is a clone."""
    said = re.search(r"project\(RTNeural VERSION ([\d.]+)\)", (sources / "CMakeLists.txt").read_text())
    commit = ""
    if (sources / ".git").exists():
        command = ("git", "-C", sources, "rev-parse", "--short=12", "HEAD")
        commit = subprocess.check_output(command, text=True).strip()
    return "-".join(filter(None, (said[1] if said else "unknown", commit)))


def compile_rtneural(sources, folder):
    """{backend: program}, with the options of RTNeural's own build (RTNEURAL_USE_AVX, Release)."""
    modules = sources / "modules"
    headers = {"eigen": modules / "Eigen", "xsimd": modules / "xsimd" / "include", "stl": modules / "json"}
    version = rtneural_version(sources)
    programs = {}
    for backend in engines.BACKENDS:
        if headers[backend].is_dir():
            programs[backend] = str(folder / f"rtneural-{backend}")
        else:
            print(f"RTNeural: no {headers[backend]}, so not with {backend}", file=sys.stderr)

    def build(backend):
        includes = [part for path in (sources, modules / "json", headers[backend]) for part in ("-isystem", str(path))]
        definitions = [
            "NDEBUG", f"RTNEURAL_USE_{backend.upper()}=1", "RTNEURAL_AVX_ENABLED=1", "RTNEURAL_DEFAULT_ALIGNMENT=32",
            f'RTNEURAL_VERSION="{version}"']
        elman_c.compile_c(
            HERE / "rtneural.cpp", programs[backend], "-O3", "-mavx2", "-mfma", *includes,
            *(f"-D{definition}" for definition in definitions))

    # Templates all over: half a minute each.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(build, programs))
    return programs


def compile_programs(folder, library, options):
    """Paths that the makers of engines.py are given."""
    with_elman = (f"-I{elman_c.INCLUDE}", str(library), f"-Wl,-rpath,{library.parent}")
    given = {"library": str(library), "folder": str(folder), "rtneural": {}}
    for name in ("step", "stream"):
        given[name] = str(folder / name)
        elman_c.compile_c(HERE / f"{name}.c", given[name], *with_elman)
    given["onednn"] = str(folder / "onednn")
    if "onednn" in options.engines:
        compile_onednn(given["onednn"])
    if options.rtneural and "stream" in options.passes:
        given["rtneural"] = compile_rtneural(options.rtneural.resolve(), folder)
    return given


def turns(options):
    """(pass, threads) of all that is measured, one after the other."""
    for which in options.passes:
        # A sample has nothing to share out.
        for threads in [1] if which == "stream" else options.threads:
            yield which, threads


def measure(which, threads, peak, options, given):
    """The comparisons of one pass on so many threads."""
    rivals = [*options.engines, *(f"rtneural-{backend}" for backend in given["rtneural"])]
    workers = [Worker(engine, threads) for engine in (ELMAN, *rivals) if which in ENGINES[engine].makers]
    done = []
    for case in cases.listed(which, options.cells, options.cases):
        if case.name == "step" and threads > 1:
            continue
        comparison = Comparison(which, case, threads)
        print(comparison.name(), file=sys.stderr)
        ready = comparison.make(workers, options.output, given)
        if ready:
            comparison.time(ready, peak, options)
        done.append(comparison)
    for worker in workers:
        worker.end()
    return done


def listed(kind, known):
    def parse(text):
        values = [kind(value) for value in text.split(",")]
        unknown = [value for value in values if known and value not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(map(str, known))}")
        return values

    return parse


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rivals = [engine for engine, known in ENGINES.items() if engine != ELMAN and "forward" in known.makers]
    names = list(dict.fromkeys([*cases.SIMPLE_RNN, *cases.GATED]))
    passes, cells = list(TOLERANCE), list(records.GATES)
    default = elman_c.ROOT / "target" / "peers"

    def add_list(name, known, what=""):
        parser.add_argument(name, type=listed(str, known), default=known, help=", ".join(known) + what)

    add_list("--passes", passes, "; stream only where --rtneural is given")
    add_list("--cells", cells)
    add_list("--cases", names)
    add_list("--engines", rivals)
    parser.add_argument("--rtneural", type=pathlib.Path, help="folder of RTNeural's sources")
    parser.add_argument("--threads", type=listed(int, None), default=[1, 2], help="default 1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turn", type=float, default=0.1, help="seconds of calls that an engine gets a round")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds of silence before a turn")
    parser.add_argument(
        "--patience", type=float, default=6, help=f"seconds after which a case has no more than {LEAST_ROUNDS} rounds")
    parser.add_argument(
        "--quick", action="store_true", help="one round of a call or two: whether all works, not how fast it is")
    parser.add_argument("--venv", type=pathlib.Path, default=default / "venv", help="default target/peers/venv")
    parser.add_argument("--pip-option", action="append", default=[], help="one more argument for pip install")
    parser.add_argument("--library", type=pathlib.Path, help="a built libelman; default: cargo builds it")
    parser.add_argument("--output", type=pathlib.Path, default=default, help="folder for programs; default target/peers")
    records.add_option(parser)
    parser.add_argument("--work", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.turn = 1, 1e-3
    if not options.rtneural:
        options.passes = [name for name in options.passes if name != "stream"]
    return options


def main():
    options = parsed()
    if options.work:
        work(options.work, options.threads[0])
        return
    environment.enter(options.venv, HERE / "requirements.txt", __file__, options.pip_option)

    options.output.mkdir(parents=True, exist_ok=True)
    library_path = (options.library or elman_c.build()).resolve()
    given = compile_programs(options.output.resolve(), library_path, options)
    library = elman_c.Library(library_path)
    machine = records.machine(library.text("isa"), library.text("version"))
    peak = elman_c.Peak(options.output.resolve(), machine["isa"])
    rows, notes, faults, path = [], [], [], None
    for which, threads in turns(options):
        done = measure(which, threads, peak, options, given)
        new = [machine | row for comparison in done for row in comparison.rows()]
        notes += [line for comparison in done for line in comparison.notes()]
        faults += [line for comparison in done for line in comparison.faults]
        # Filed at once, so that what ends the run costs no more than a part of it.
        path = records.write(options.record, new) if new else path
        rows += new
    print(records.tables(rows))
    print("Medians; in brackets a rival's time to elman's, so above 1 elman is the faster one.", *notes, sep="\n")
    print(f"largest difference between the outputs: {max((row['difference'] for row in rows), default=0.0):.1e}")
    print(*summary(rows), f"recorded in {path}", sep="\n")
    if faults:
        raise SystemExit("\n".join(["", "Left out:", *faults]))


if __name__ == "__main__":
    main()
