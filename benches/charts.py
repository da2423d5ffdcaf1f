#!/usr/bin/env python3
"""Draws a record: charts.py --record benches/record/<cpu>/<date>.csv

Beside the record then stand, as far as it has the rows,

  <date>-peers.svg     other libraries' times to elman's, forward: SimpleRNN
  <date>-training.svg  the same of a forward and a backward pass
  <date>-peers-lstm.svg, <date>-training-lstm.svg, <date>-peers-gru.svg, <date>-training-gru.svg
                       both of the other cells
  <date>-streams.svg   other libraries' times to elman's, a sample a call
  <date>-shares.svg    elman's share of the peak of multiply-adds
  <date>-scaling.svg   time against units, rows, steps and threads, beside what the processor would allow

The script makes itself a virtual environment with matplotlib (requirements.txt).
"""

import argparse
import pathlib

import environment
import records

HERE = pathlib.Path(__file__).resolve().parent
COLOURS = {
    "OpenVINO": "#4477aa", "oneDNN": "#66bbdd", "ONNX Runtime": "#ee7733", "PyTorch": "#228833", "TensorFlow XLA": "#aa3377",
    "RTNeural Eigen": "#997700", "RTNeural XSIMD": "#cc3311", "RTNeural STL": "#bbbbbb"}
# Of libraries that have none, and of curves.
OTHER_COLOURS = [
    "#4477aa", "#ee7733", "#228833", "#aa3377", "#997700", "#66bbdd", "#cc3311", "#222222", "#999999"]
SCALING_AXES = {"units": "units (and features)", "batch": "rows of the batch", "steps": "steps", "threads": "threads"}
TICKS = [0.5, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000]


def new_figure(width, height, **options):
    import matplotlib

    matplotlib.use("svg")
    # Text stays text, and the same record gives the same bytes.
    matplotlib.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "elman", "font.family": "sans-serif", "font.size": 9, "axes.axisbelow": True,
        "axes.grid": True, "grid.color": "#dddddd", "axes.titlesize": 10, "axes.titleweight": "bold"})
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(width, height), layout="constrained", **options)


def save(figure, path):
    figure.savefig(path, metadata={"Date": None})
    # matplotlib ends lines with blanks.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    print(path)


def threads_of(row):
    """What a label says after the case's name, which may say it already."""
    count = row["threads"] if "thread" not in row["case"] else None
    return f", {count} thread{'s' if count > 1 else ''}" if count else ""


def draw_ratios(rows, path, what):
    """Bars that leave the line at 1: to the right where elman is faster."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    groups = records.grouped(rows)
    libraries = list(dict.fromkeys(row["library"] for row in rows if row["library"] != records.ELMAN))
    colours = {name: COLOURS.get(name, other) for name, other in zip(libraries, OTHER_COLOURS)}
    pitch = len(libraries) + 1.5
    figure, axes = new_figure(9.2, 1.5 + 0.155 * pitch * len(groups))
    places, labels = [], []
    for i, group in enumerate(groups):
        rivals = [name for name in libraries if group.get(name, {}).get("ratio")]
        top = i * pitch
        for j, name in enumerate(rivals):
            ratio = group[name]["ratio"]
            label = name if name not in axes.get_legend_handles_labels()[1] else None
            axes.barh(top + j, ratio - 1, left=1, height=0.85, color=colours[name], label=label)
            shown = f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.0f}"
            axes.annotate(shown, (ratio, top + j), (3, 0), textcoords="offset points", va="center", fontsize=7.5)
        own, any_row = group.get(records.ELMAN, {}), next(iter(group.values()))
        time = f"\nelman {records.show_seconds(own['seconds'])}" if own.get("seconds") else ""
        places.append(top + (len(rivals) - 1) / 2)
        labels.append(f"{any_row['case']}{threads_of(any_row)}{time}")
    ratios = [row["ratio"] for row in rows if row["ratio"]]
    low, high = min(0.8, 0.95 * min(ratios)), max(2.0, *ratios) * 1.35
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks([tick for tick in TICKS if low <= tick <= high])
    axes.set_yticks(places, labels)
    axes.set_ylim(len(groups) * pitch - 1, -1)
    axes.grid(axis="y", visible=False)
    axes.axvline(1, color="#222222", linewidth=1.2)
    axes.set_xlabel("time of the other library / time of elman (logarithmic; right of 1 elman is faster)")
    axes.set_ylabel("case and threads")
    axes.set_title(f"{what}\n{records.describe(rows[0])}", loc="left")
    figure.legend(loc="outside lower center", ncols=len(libraries), frameon=False)
    save(figure, path)


def draw_shares(rows, path):
    figure, axes = new_figure(8, 1.3 + 0.24 * len(rows))
    names = [f"{row['case']}{threads_of(row)}" for row in rows]
    sets = list(dict.fromkeys(row["isa"] for row in rows))
    for isa, colour in zip(sets, OTHER_COLOURS):
        own = [(i, 100 * row["share"]) for i, row in enumerate(rows) if row["isa"] == isa]
        axes.barh(*zip(*own), height=0.75, color=colour, label=isa)
        for i, share in own:
            axes.annotate(f"{share:.0f} %", (share, i), (3, 0), textcoords="offset points", va="center", fontsize=7.5)
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 110)
    axes.set_xticks(range(0, 101, 10))
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("share of the peak of fused multiply-adds of the instruction set in use, per cent")
    axes.set_ylabel("case")
    axes.set_title(f"elman's products beside the processor's peak\n{rows[0]['cpu']}; {rows[0]['date']}", loc="left")
    figure.legend(loc="outside lower center", ncols=len(sets), frameon=False, title="instruction set")
    save(figure, path)


def draw_scaling(rows, path):
    sweeps = {}
    for row in rows:
        sweep, _, curve = row["case"].partition(": ")
        sweeps.setdefault(sweep, {}).setdefault(curve, {}).setdefault(row["library"], []).append(row)
    figure, all_axes = new_figure(10, 4.2 * -(-len(sweeps) // 2), ncols=2, nrows=-(-len(sweeps) // 2), squeeze=False)
    for axes, (sweep, curves) in zip(all_axes.flat, sweeps.items()):
        draw_sweep(axes, sweep, curves)
    for axes in all_axes.flat[len(sweeps):]:
        axes.set_visible(False)
    figure.suptitle(
        f"elman's forward pass (marks), and what the processor would allow (dashed)\n{records.describe(rows[0])}",
        fontsize=10, fontweight="bold")
    save(figure, path)


def draw_sweep(axes, sweep, curves):
    """Times against what grows; against threads it is the gain that can be seen, the expected one being their number."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    gain = sweep == "threads"
    for (curve, libraries), colour in zip(curves.items(), OTHER_COLOURS):
        for library, style in ((records.ELMAN, "o-"), ("limit", "--")):
            points = libraries.get(library, [])
            x = [row[sweep] for row in points]
            y = [points[0]["seconds"] / row["seconds"] if gain else row["seconds"] * 1e6 for row in points]
            if gain and library == "limit":
                y = x
            label = curve if library == records.ELMAN else None
            axes.plot(x, y, style, color=colour, label=label, linewidth=1.3, markersize=3.5)
    axes.set_xscale("log", base=2 if gain or sweep != "steps" else 10)
    axes.set_yscale("log", base=2 if gain else 10)
    if gain:
        axes.set_xticks(sorted({row["threads"] for libraries in curves.values() for row in libraries[records.ELMAN]}))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"{SCALING_AXES.get(sweep, sweep)}, logarithmic")
    axes.set_ylabel("times as fast as one thread, logarithmic" if gain else "microseconds per call, logarithmic")
    axes.set_title("Gain from threads" if gain else f"Time against {sweep}", loc="left")
    axes.plot([], [], "--", color="#666666", linewidth=1.3, label="as many threads" if gain else "limit")
    axes.legend(loc="upper left", fontsize=8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=pathlib.Path, required=True, help="the CSV file to draw")
    parser.add_argument("--output", type=pathlib.Path, help="folder for the pictures; default: the record's")
    default = records.ROOT / "target" / "charts" / "venv"
    parser.add_argument("--venv", type=pathlib.Path, default=default, help="default target/charts/venv")
    options = parser.parse_args()
    environment.enter(options.venv, HERE / "requirements.txt", __file__)
    rows = records.read(options.record)
    folder = options.output or options.record.parent
    folder.mkdir(parents=True, exist_ok=True)
    of = lambda bench, *passes: [row for row in rows if row["bench"] == bench and row["pass"] in passes]
    path = lambda name: folder / f"{options.record.stem}-{name}.svg"
    for name, file, what in (
            ("forward", "peers", "forward pass"), ("training", "training", "forward and backward pass"),
            ("stream", "streams", "a sample a call")):
        # The instruction set that elman chooses comes first; forced ones are in the tables.
        chosen = [row for row in of("peers", name) if row["isa"] == of("peers", name)[0]["isa"]]
        # Streams are few, so both cells' are in one picture.
        for cell in [None] if name == "stream" else records.GATES:
            shown = [row for row in chosen if cell in (None, records.cell_of(row))]
            if shown:
                # The first cell's pictures have had their names since there was no other.
                suffix = "" if cell in (None, "SimpleRNN") else f"-{cell.lower()}"
                head = "Other libraries beside elman" + (f"'s {cell}" if cell else "")
                draw_ratios(shown, path(f"{file}{suffix}"), f"{head}: {what}")
    shares = [row for row in of("kernels", "forward", "training") if row["share"] and row["library"] == records.ELMAN]
    if shares:
        draw_shares(shares, path("shares"))
    if of("scaling", "forward"):
        draw_scaling(of("scaling", "forward"), path("scaling"))


if __name__ == "__main__":
    main()
