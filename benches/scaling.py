#!/usr/bin/env python3
"""How elman's time grows with units, batch, steps and threads, beside what the processor would allow; and
what a model costs before it earns: to build, to load, the first call, memory, the library's size.

usage: scaling.py [--record DIR] [--sweeps units,batch,steps,threads] [--cells LSTM,GRU] [--no-gains] [--no-costs]
                  [--rounds N] ...

It builds elman's shared library and calls it through ctypes; nothing but Python, cargo and a C compiler is
needed. Tables go to standard output, every figure into the record of this CPU and day (records.py), from
which charts.py draws; there the expected time is a library of its own, "limit".

The expected time is that of the inputs' products, all steps of which go together, and of the recurrence after
it. The first is its operations at the multiply-add rate; the second the larger of its operations and of the
recurrent kernel read once a step at the rate at which an array of its size can be read. Both rates are
measured (peak.c) between the calls. LSTM and GRU have such products and such a kernel for each gate; they have curves
of their own where units or threads grow. The sum leaves out the activation, the wait of one step for the one
before, and the call itself, which is why small layers cannot reach it; it knows nothing of a cache that keeps
a part of a too large array, which is how a large one can beat it.
"""

import argparse
import array
import ctypes
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import records
from peers import elman_c

HERE = pathlib.Path(__file__).resolve().parent
UNITS = [8, 16, 20, 32, 48, 64, 100, 128, 200, 256, 384, 512, 700, 1024, 1536, 2048]
BATCHES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]
STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
# batch, steps, features, units, layers
NAMED = {
    "seed": (8, 80, 100, 64, 2),
    "b1small": (1, 256, 64, 64, 1),
    "mid": (32, 100, 256, 256, 2),
    "wide": (64, 128, 1024, 1024, 1),
    "b1wide": (1, 256, 1024, 1024, 1),
}


def curves(sweep, cells):
    """(cell, name, [(value, shape, threads)]) of the sweep's curves."""
    if sweep == "units":
        return [(cell, f"batch {b}", [(u, (b, 100, u, u, 1), 1) for u in UNITS]) for cell in cells for b in (1, 8)]
    if sweep == "threads":
        counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= (os.cpu_count() or 1)]
        return [
            (cell, name, [(n, NAMED[name], n) for n in counts])
            for cell in cells for name in (NAMED if cell == "SimpleRNN" else ("seed", "mid"))]
    if "SimpleRNN" not in cells:
        return []
    if sweep == "batch":
        return [("SimpleRNN", f"{u} units", [(b, (b, 50, u, u, 1), 1) for b in BATCHES]) for u in (64, 256)]
    return [("SimpleRNN", f"{u} units", [(t, (8, t, u, u, 1), 1) for t in STEPS]) for u in (64, 256)]


SWEEPS = {"units": "units", "batch": "rows", "steps": "steps", "threads": "threads"}


def numbers(count):
    """Floats between -1 and 1."""
    state, some = 1, array.array("f")
    for _ in range(min(count, 4093)):
        state = state * 48271 % 2147483647
        some.append(state / 2**30 - 1)
    repeated = some * -(-count // len(some))
    return repeated[:count]


class Model:
    """A network and what it is called with."""

    def __init__(self, library, shape, threads, *, cell="SimpleRNN", quick=True):
        batch, steps, features, units, layers = shape
        self.net = elman_c.Network(library, features, [units] * layers, cell=cell, threads=threads, quick=quick)
        self.x, self.y = numbers(batch * steps * features), array.array("f", bytes(4 * batch * units))
        self.call = self.net.predict(self.x, batch, steps, self.y)

    def time(self, seconds):
        """Median seconds of a call, several of which are timed together where one is short."""
        begun = time.perf_counter()
        self.call()
        together = max(1, int(2e-5 / (time.perf_counter() - begun)))
        times = []
        begun = last = time.perf_counter()
        while last - begun < seconds or len(times) < 3:
            for _ in range(together):
                self.call()
            now = time.perf_counter()
            times.append((now - last) / together)
            last = now
        return statistics.median(times)


def measure(library, peak, sweep, options):
    rows = []
    for cell, name, points in curves(sweep, options.cells):
        gates, curve = records.GATES[cell], records.name_of_case(cell, name)
        for value, shape, threads in points:
            batch, steps, features, units, layers = shape
            model = Model(library, shape, threads, cell=cell)
            kernel = 4 * gates * units * units
            times, operations, reads = [], [], []
            for _ in range(options.rounds):
                times.append(model.time(options.turn))
                operations.append(peak.ask("flops"))
                reads.append(peak.ask(f"read {kernel}"))
            seconds = statistics.median(times)
            recurrent = 2 * batch * steps * gates * units * units * layers
            flops = records.flops(shape, gates=gates)
            rate = statistics.median(operations) * threads
            inputs, compute = (flops - recurrent) / rate, recurrent / rate
            # With threads each core reads its part.
            traffic = layers * steps * kernel / statistics.median(reads) / threads
            rows.append({
                "sweep": sweep, "curve": curve, "value": value, "shape": shape, "threads": threads, "seconds": seconds,
                "flops": flops, "gflops": flops / seconds / 1e9, "expected": inputs + max(compute, traffic),
                "bound": "products" if compute >= traffic else "reading",
                "peak_gflops": statistics.median(operations) / 1e9, "read_gbytes": statistics.median(reads) / 1e9})
            print(f"{sweep}: {curve}, {value}: {seconds * 1e6:.1f} us", file=sys.stderr)
    return rows


def scaling_table(rows):
    lines = [["sweep", "curve", "value", "batch, steps, features, units, layers", "us", "GF/s", "expected us", "bound by",
              "measured / expected"]]
    lines.append(["---"] * 2 + ["---:"] + ["---"] + ["---:"] * 3 + ["---", "---:"])
    for row in rows:
        lines.append([
            row["sweep"], row["curve"], str(row["value"]), ", ".join(map(str, row["shape"])),
            f"{row['seconds'] * 1e6:.1f}", f"{row['gflops']:.1f}", f"{row['expected'] * 1e6:.1f}", row["bound"],
            f"{row['seconds'] / row['expected']:.2f}"])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def scaling_records(rows):
    """Two rows of the record for each point: elman's, and the law's."""
    recorded = []
    for row in rows:
        common = {
            "bench": "scaling", "pass": "forward", "case": f"{row['sweep']}: {row['curve']}",
            **records.shaped(row["shape"]), "threads": row["threads"], "flops": row["flops"]}
        share = row["gflops"] / row["peak_gflops"] / row["threads"]
        recorded.append(common | {"library": records.ELMAN, "seconds": row["seconds"], "ratio": 1.0, "share": share})
        recorded.append(common | {
            "library": "limit", "seconds": row["expected"], "ratio": row["expected"] / row["seconds"],
            "note": f"bound by {row['bound']}"})
    return recorded


# --- What a second thread brings ---------------------------------------------------------------------------------------

# Multiply-adds of a call, around the number from which more than one thread is used.
GAIN_WORK = (1_000_000, 16_000_000)


def gains(library, options):
    """Every shape on one thread and on two, in turn: [{"shape", "one", "two"}] in seconds."""
    rows = []
    for batch in (1, 2, 3, 4, 8, 16, 32, 64, 256):
        for steps in (1, 5, 20, 100):
            for units in (20, 32, 64, 100, 128, 256, 512, 700):
                shape = (batch, steps, units, units, 1)
                if not GAIN_WORK[0] <= records.flops(shape) // 2 <= GAIN_WORK[1]:
                    continue
                models = [Model(library, shape, threads) for threads in (1, 2)]
                times = [], []
                for _ in range(2 * options.rounds):
                    for model, own in zip(models, times):
                        own.append(model.time(options.turn / 4))
                one, two = map(statistics.median, times)
                rows.append({"shape": shape, "one": one, "two": two})
    print(f"gains: {len(rows)} shapes", file=sys.stderr)
    return rows


def gain_table(rows):
    """The shapes that gain least."""
    ratios = sorted(((row["one"] / row["two"], row) for row in rows), key=lambda pair: pair[0])
    lines = [["batch, steps, features, units, layers", "multiply-adds", "one thread, us", "two threads, us", "one / two"],
             ["---"] + ["---:"] * 4]
    for ratio, row in ratios[:8]:
        lines.append([
            ", ".join(map(str, row["shape"])), f"{records.flops(row['shape']) / 2e6:.2f} million", f"{row['one'] * 1e6:.1f}",
            f"{row['two'] * 1e6:.1f}", f"{ratio:.2f}"])
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    low, high = (work // 1_000_000 for work in GAIN_WORK)
    return (
        f"{text}\n\nThe least of {len(rows)} shapes of {low} to {high} million multiply-adds, one and two threads in turn; median "
        f"{statistics.median(ratio for ratio, _ in ratios):.2f}.\n")


def gain_records(rows):
    return [
        {"bench": "gains", "pass": "forward", "case": "", **records.shaped(row["shape"]), "threads": threads,
         "library": records.ELMAN, "seconds": row[name], "flops": records.flops(row["shape"])}
        for row in rows for threads, name in ((1, "one"), (2, "two"))]


# --- Costs -----------------------------------------------------------------------------------------------------------


class _MallocInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]


def allocated_bytes():
    """What this process has from malloc, where the C library tells."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return None
    ask.restype = _MallocInfo
    told = ask()
    return told.uordblks + told.hblkhd


def cost(part, case, library_path, model_path):
    """What one fresh process finds; JSON on standard output."""
    clock = time.perf_counter
    shape = batch, steps, features, units, layers = NAMED[case]
    library = elman_c.Library(library_path)
    if part == "build":
        begun = clock()
        model = Model(library, shape, 1, quick=False)
        built = clock()
        # Once more, without what only a first network costs.
        model.net.build(2)
        again = clock() - built
        begun = clock()
        model.call()
        first = clock() - begun
        result = {"build": again, "first_call": first, "later_call": model.time(0.1)}
        model.net.save(model_path)
    else:
        x, y = numbers(batch * steps * features), array.array("f", bytes(4 * batch * units))
        before = allocated_bytes()
        begun = clock()
        net = elman_c.Network.load(library, model_path)
        loaded = clock() - begun
        holding = allocated_bytes()
        net.predict(x, batch, steps, y)()
        running = allocated_bytes()
        parameters = sum(units * ((features if layer == 0 else units) + units + 1) for layer in range(layers))
        result = {"load": loaded, "weights": 4 * parameters}
        if before is not None:
            result |= {"loaded_bytes": holding - before, "with_scratch_bytes": running - before}
    print(json.dumps(result))


def costs(library, folder):
    rows = []
    for case in NAMED:
        row = {"case": case}
        for part in ("build", "load"):
            command = [sys.executable, __file__, "--library", library, "--cost", part, case, folder / "model.safetensors"]
            row |= json.loads(subprocess.check_output(command))
        rows.append(row)
        print(f"costs: {case}", file=sys.stderr)
    (folder / "model.safetensors").unlink()
    stripped = folder / "stripped"
    shutil.copy(library, stripped)
    subprocess.check_call(["strip", stripped])
    size = stripped.stat().st_size
    stripped.unlink()
    return rows, size


def cost_table(rows, size):
    def mebibytes(row, name):
        return f"{row[name] / 2**20:.2f}" if name in row else "not known here"

    lines = [["model", "build, ms", "load, ms", "first call, ms", "later calls, ms", "weights, MiB", "loaded, MiB",
              "and scratch, MiB"]]
    lines.append(["---"] + ["---:"] * 7)
    for row in rows:
        lines.append(
            [row["case"]] + [f"{row[name] * 1e3:.3g}" for name in ("build", "load", "first_call", "later_call")]
            + [mebibytes(row, name) for name in ("weights", "loaded_bytes", "with_scratch_bytes")])
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return (
        f"{text}\n\nEach line in fresh processes. loaded: what a loaded model adds to the process; scratch: what its first call "
        f"adds.\n\nThe shared library, stripped: {size / 1e6:.2f} MB.\n")


def cost_records(rows):
    recorded = []
    for row in rows:
        note = f"weights {row['weights']} bytes"
        for name, what in (("loaded_bytes", "loaded"), ("with_scratch_bytes", "with scratch")):
            note += f", {what} {row[name]}" if name in row else ""
        for name in ("build", "load", "first_call", "later_call"):
            recorded.append({
                "bench": "costs", "pass": name.replace("_", " "), "case": row["case"],
                **records.shaped(NAMED[row["case"]]), "threads": 1, "library": records.ELMAN, "seconds": row[name],
                "note": note if name == "load" else ""})
    return recorded


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", default=",".join(SWEEPS), help="default units,batch,steps,threads")
    parser.add_argument("--cells", default=",".join(records.GATES), help="default SimpleRNN,LSTM,GRU")
    parser.add_argument("--no-gains", action="store_true", help="without what a second thread brings, shape by shape")
    parser.add_argument("--no-costs", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turn", type=float, default=0.04, help="seconds of calls in a round")
    parser.add_argument("--library", type=pathlib.Path, help="a built libelman; default: cargo builds it")
    parser.add_argument(
        "--output", type=pathlib.Path, default=elman_c.ROOT / "target" / "scaling",
        help="folder for programs and models; default target/scaling")
    records.add_option(parser)
    parser.add_argument("--cost", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cost:
        part, case, model = options.cost
        cost(part, case, options.library, model)
        return
    split = lambda text: [part for part in text.split(",") if part]
    sweeps, options.cells = split(options.sweeps), split(options.cells)
    for given, known in ((sweeps, SWEEPS), (options.cells, records.GATES)):
        unknown = set(given) - set(known)
        if unknown:
            parser.error(f"{unknown.pop()} is none of {', '.join(known)}")

    options.output.mkdir(parents=True, exist_ok=True)
    folder = options.output.resolve()
    library_path = (options.library or elman_c.build()).resolve()
    library = elman_c.Library(library_path)
    machine = records.machine(library.text("isa"), library.text("version"))
    peak = elman_c.Peak(folder, machine["isa"])
    rows = [row for sweep in sweeps for row in measure(library, peak, sweep, options)]
    recorded, text = scaling_records(rows), f"Medians. {records.describe(machine)}.\n"
    if rows:
        text += "\n" + scaling_table(rows)
    if not options.no_gains and (os.cpu_count() or 1) > 1:
        gained = gains(library, options)
        recorded += gain_records(gained)
        text += "\n" + gain_table(gained)
    if not options.no_costs:
        cost_rows, size = costs(library_path, folder)
        recorded += cost_records(cost_rows)
        text += "\n" + cost_table(cost_rows, size)
    print(text)
    if recorded:
        print(f"recorded in {records.write(options.record, [machine | row for row in recorded])}")


if __name__ == "__main__":
    main()
