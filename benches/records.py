#!/usr/bin/env python3
"""Records of what was measured: one CSV file for each CPU and date, <folder>/<cpu>/<date>.csv, which the
benches write.

usage: records.py RECORD.csv                          prints a record's tables in markdown
       records.py --bench kernels,latency            runs these benches of Cargo's and records their final tables

A row is one library on one case; README.md, beside this file, says what each column holds. Rows that a run
measures anew replace those of the same key in the file of that CPU and date. Nothing but Python is needed.
"""

import argparse
import csv
import datetime
import os
import pathlib
import platform
import re
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
# Not in the repository: a run on a machine with other work is no record.
DEFAULT_FOLDER = ROOT / "target" / "record"
MACHINE = ("date", "cpu", "cores", "isa", "elman", "commit")
SHAPE = ("batch", "steps", "features", "units", "layers")
COLUMNS = (
    *MACHINE, "bench", "pass", "case", *SHAPE, "threads", "library", "version", "seconds", "ratio", "flops", "share",
    "difference", "note")
INTEGERS = {*SHAPE, "cores", "threads", "flops"}
FRACTIONS = {"seconds", "ratio", "share", "difference"}
# Rows that agree in these are measurements of the same thing.
KEY = ("date", "cpu", "isa", "bench", "pass", "case", *SHAPE, "threads", "library")
ELMAN = "elman"
# Gates of a cell, each of which has two products a step. Names of cases begin with the cell, unless it is the first.
GATES = {"SimpleRNN": 1, "LSTM": 4, "GRU": 3}


# --- The machine -----------------------------------------------------------------------------------------------------


def cpu_name():
    """The processor as its maker calls it, with the model's number where the name has none."""
    said = {}
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            said[name.strip()] = value.strip()
    except OSError:
        pass
    name = said.get("model name") or platform.processor() or platform.machine()
    name = re.sub(r"\((R|TM|r|tm)\)|\b(Processor|CPU)\b|@.*", " ", name)
    name = " ".join(name.split())
    if "model" in said and not re.search(r"\d", name):
        name += f" (model {said['model']})"
    return name


def commit():
    """The commit that is checked out, with a + where tracked files differ from it; empty outside a repository."""
    def git(*arguments):
        return subprocess.check_output(("git", "-C", ROOT, *arguments), text=True, stderr=subprocess.DEVNULL).strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine(isa, elman):
    """The columns that all rows of a run share; `isa` and `elman` are what the library says of itself."""
    return {
        "date": datetime.date.today().isoformat(), "cpu": cpu_name(), "cores": os.cpu_count(), "isa": isa, "elman": elman,
        "commit": commit()}


def describe(row):
    """The machine in one line, without the fields that a row leaves empty."""
    cores = f"{row['cores']} cores" if row.get("cores") else ""
    elman = f"elman {row['elman']}" if row.get("elman") else ""
    return f"{', '.join(filter(None, (row['cpu'], cores, row['isa'])))}; {'; '.join(filter(None, (elman, row['date'])))}"


# --- Files -----------------------------------------------------------------------------------------------------------


def shaped(shape):
    return dict(zip(SHAPE, shape))


def flops(shape, training=False, gates=1):
    """Operations of the two products of a step, of all steps of all recurrent layers; the backward pass has two more for
    each."""
    batch, steps, features, units, layers = shape
    return (6 if training else 2) * batch * steps * gates * units * (features + (2 * layers - 1) * units)


def name_of_case(cell, name):
    return name if cell == "SimpleRNN" else f"{cell} {name}"


def cell_of(row):
    first, _, rest = row["case"].partition(" ")
    return first if rest and first in GATES else "SimpleRNN"


def text(name, value):
    """A figure as the file holds it: digits enough for a median, and no more."""
    if value is None:
        return ""
    return f"{value:.6g}" if name in FRACTIONS else str(value)


def read(path):
    """The rows; what is empty in the file is None, or "" where the column holds text."""
    def parse(name, value):
        if name in INTEGERS or name in FRACTIONS:
            return None if value == "" else int(value) if name in INTEGERS else float(value)
        return value

    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise SystemExit(f"{path}: its columns are not {','.join(COLUMNS)}")
        return [{name: parse(name, value) for name, value in row.items()} for row in reader]


def write(folder, rows):
    """Files rows of one machine and date, and returns the file's path."""
    first = rows[0]
    assert all((row["cpu"], row["date"]) == (first["cpu"], first["date"]) for row in rows)
    slug = re.sub(r"[^a-z0-9]+", "-", first["cpu"].lower()).strip("-")
    path = pathlib.Path(folder) / slug / f"{first['date']}.csv"
    lines = [{name: text(name, row.get(name)) for name in COLUMNS} for row in rows]
    key = lambda line: tuple(line[name] for name in KEY)
    new = {key(line) for line in lines}
    if path.exists():
        kept = [{name: text(name, row[name]) for name in COLUMNS} for row in read(path)]
        lines = [line for line in kept if key(line) not in new] + lines
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return path


# --- Tables ----------------------------------------------------------------------------------------------------------


def show_seconds(seconds):
    """Three digits in the unit that suits."""
    for least, scale, unit in ((1, 1, "s"), (1e-3, 1e3, "ms"), (1e-7, 1e6, "us"), (0, 1e9, "ns")):
        if seconds >= least:
            break
    scaled = seconds * scale
    return f"{scaled:.3g} {unit}" if scaled < 99.95 else f"{scaled:.0f} {unit}"


def name_case(row):
    sizes = [row[name] for name in SHAPE]
    shape = ", ".join("?" if size is None else str(size) for size in sizes) if any(sizes) else ""
    return ": ".join(filter(None, (row["case"], shape)))


def grouped(rows):
    """[({library: row})] of what was measured in turn."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row.get(name) for name in KEY if name != "library"), {})[row["library"]] = row
    return list(groups.values())


def table(rows):
    """Markdown: a line for each case, elman's time and share of the peak, the rivals' times and in brackets their ratios."""
    groups = grouped(rows)
    libraries = list(dict.fromkeys(row["library"] for row in rows if row["library"] != ELMAN))
    lines = []
    for group in groups:
        own = group.get(ELMAN, {})
        any_row = next(iter(group.values()))
        seconds, flop, share = (own.get(name) for name in ("seconds", "flops", "share"))
        cells = {
            "case: batch, steps, features, units, layers": name_case(any_row),
            "set": any_row["isa"],
            "threads": str(any_row["threads"] or ""),
            ELMAN: show_seconds(seconds) if seconds else "",
            "GF/s": f"{flop / seconds / 1e9:.1f}" if seconds and flop else "",
            "share of peak": f"{100 * share:.0f} %" if share else "",
        }
        for library in libraries:
            row = group.get(library, {})
            time = show_seconds(row["seconds"]) if row.get("seconds") else ""
            ratio = f"**{row['ratio']:.2f}**" if row.get("ratio") else ""
            cells[library] = f"{time} ({ratio})" if time and ratio else time or ratio
        differences = [row["difference"] for row in group.values() if row["difference"] is not None]
        cells["largest difference"] = f"{max(differences):.1e}" if differences else ""
        cells["note"] = any_row["note"]
        lines.append(cells)
    head = [name for name in lines[0] if any(line[name] for line in lines)]
    align = ["---" if name in ("case: batch, steps, features, units, layers", "set", "note") else "---:" for name in head]
    rows_of_cells = [head, align, *([line[name] for name in head] for line in lines)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows_of_cells) + "\n"


def tables(rows):
    """Every table of a record, each under a heading; where other libraries stand beside elman, one for each cell."""
    def kind(row):
        return row["bench"], row["pass"], cell_of(row) if row["bench"] == "peers" else ""

    parts = []
    for bench, which, cell in dict.fromkeys(map(kind, rows)):
        own = [row for row in rows if kind(row) == (bench, which, cell)]
        versions = dict.fromkeys(
            f"{row['library']} {row['version']}" for row in own if row["library"] != ELMAN and row["version"])
        # What is said of every row is said once.
        notes = {row["note"] for row in own}
        said = notes.pop() if len(notes) == 1 else ""
        own = [row | {"note": "" if said else row["note"]} for row in own]
        below = "; ".join(filter(None, (describe(own[0]), *versions, said)))
        heading = f"### {bench}: {', '.join(filter(None, (which, cell)))}"
        parts.append(f"{heading}\n\n{table(own)}\n{below}.\n")
    return "\n".join(parts)


# --- Cargo's benches -------------------------------------------------------------------------------------------------


def add_option(parser):
    parser.add_argument(
        "--record", type=pathlib.Path, default=DEFAULT_FOLDER,
        help="folder of records that this run is filed in; default target/record, and benches/record is the committed one")


def cargo_bench(benches, wanted):
    """Rows of the final tables of Cargo's benches, which write them where an environment variable says."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for bench in benches:
            path = pathlib.Path(folder) / f"{bench}.csv"
            command = ["cargo", "bench", "--manifest-path", ROOT / "Cargo.toml", "--bench", bench, "--", *filter(None, [wanted])]
            subprocess.check_call(command, env=dict(os.environ, ELMAN_BENCH_ROWS=str(path)))
            with open(path, newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    shared = machine(row.pop("isa"), row.pop("elman"))
                    rows.append(shared | {"bench": bench, **{name: value or None for name, value in row.items()}})
    for row in rows:
        for name in FRACTIONS & row.keys():
            row[name] = float(row[name]) if row[name] else None
    for group in grouped(rows):
        for row in group.values():
            row["ratio"] = row["seconds"] / group[ELMAN]["seconds"]
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=pathlib.Path, help="a record whose tables are printed")
    parser.add_argument("--bench", help="kernels, latency: what Cargo runs")
    parser.add_argument("--filter", default="", help="only cases whose name contains this; for kernels a regular expression")
    add_option(parser)
    options = parser.parse_args()
    if options.bench:
        print(write(options.record, cargo_bench(options.bench.split(","), options.filter)))
    elif options.file:
        print(tables(read(options.file)), end="")
    else:
        parser.error("a record to print, or --bench")


if __name__ == "__main__":
    main()
