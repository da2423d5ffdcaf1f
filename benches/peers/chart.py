"""SVG charts: bars of ratios, and lines on logarithmic axes. Plain text, nothing to install."""

import math
import pathlib
import platform
from xml.sax.saxutils import escape

INK, PALE = "#222222", "#dddddd"
STYLE = (
    '<style>text{font-family:system-ui,"Segoe UI",Helvetica,Arial,sans-serif;font-size:12px;fill:%s}'
    ".title{font-size:15px;font-weight:600}.small{font-size:10.5px;fill:#666666}</style>" % INK)


def cpu_name():
    """The processor, as its maker calls it."""
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _text(x, y, text, kind="", anchor="start", more=""):
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}{more}>{escape(text)}</text>'


def _line(x1, y1, x2, y2, colour=PALE, width=1.0):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def _page(width, height, parts):
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join([head, STYLE, f'<rect width="{width}" height="{height}" fill="#ffffff"/>', *parts, "</svg>", ""])


def _wrapped(text, limit):
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > limit:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def bars(title, subtitle, groups, legend):
    """Groups (name, detail, [(ratio, colour)]) of bars that leave the line at 1: to the right above it, to the left below."""
    width, left, right, bar = 860, 170, 60, 9
    below = _wrapped(subtitle, 135)
    top = 66 + 14 * len(below)
    heights = [max(len(group[2]) * (bar + 2), 28) + 12 for group in groups]
    height = top + sum(heights) + 34
    ratios = [ratio for group in groups for ratio, _ in group[2]] or [1.0]
    low, high = math.log(min(0.8, *ratios)), math.log(max(2.0, *ratios) * 1.1)
    place = lambda ratio: left + (math.log(ratio) - low) / (high - low) * (width - left - right)
    parts = [_text(16, 26, title, "title")]
    parts += [_text(16, 44 + 14 * i, line, "small") for i, line in enumerate(below)]
    x, y = left, top - 16
    for name, colour in legend:
        parts.append(f'<rect x="{x}" y="{y - 9}" width="11" height="11" fill="{colour}"/>')
        parts.append(_text(x + 16, y, name))
        x += 40 + 7 * len(name)
    bottom = height - 30
    for tick in (0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000):
        if low <= math.log(tick) <= high:
            parts.append(_line(place(tick), top, place(tick), bottom, INK if tick == 1 else PALE, 1.5 if tick == 1 else 1))
            parts.append(_text(place(tick), bottom + 16, f"{tick:g}×", "small", "middle"))
    y = top + 6
    for (name, detail, values), step in zip(groups, heights):
        parts.append(_text(left - 12, y + 12, name, "", "end"))
        parts.append(_text(left - 12, y + 26, detail, "small", "end"))
        for i, (ratio, colour) in enumerate(values):
            x1, x2 = sorted((place(1), place(ratio)))
            at = y + i * (bar + 2)
            parts.append(
                f'<rect x="{x1:.1f}" y="{at}" width="{max(x2 - x1, 1):.1f}" height="{bar}" fill="{colour}"/>')
            parts.append(_text(x2 + 4, at + bar - 0.5, f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.0f}", "small"))
        y += step
    return _page(width, height, parts)


def _powers(base, low, high):
    exponents = range(math.floor(math.log(low, base)), math.ceil(math.log(high, base)) + 1)
    return [tick for tick in (float(base) ** e for e in exponents) if low * 0.999 <= tick <= high * 1.001]


def lines(title, subtitle, panels):
    """Panels (title, x label, y label, [(name, colour, [(x, y)], [(x, expected y)])]) side by side, both axes logarithmic;
    what is expected is dashed."""
    size_x, size_y, columns = 430, 330, 2
    below = _wrapped(subtitle, 135)
    top = 44 + 14 * len(below)
    rows = -(-len(panels) // columns)
    width, height = columns * size_x, top + rows * size_y
    parts = [_text(16, 26, title, "title")]
    parts += [_text(16, 44 + 14 * i, line, "small") for i, line in enumerate(below)]
    for number, (name, x_label, y_label, curves) in enumerate(panels):
        x0, y0 = number % columns * size_x + 62, top + number // columns * size_y + 30
        w, h = size_x - 82, size_y - 80
        points = [point for curve in curves for values in curve[2:] for point in values]
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        x_low, x_high, y_low, y_high = min(xs), max(xs), min(ys) / 1.3, max(ys) * 1.3
        place_x = lambda x: x0 + math.log(x / x_low) / math.log(x_high / x_low) * w
        place_y = lambda y: y0 + h - math.log(y / y_low) / math.log(y_high / y_low) * h
        parts.append(_text(x0, y0 - 10, name, "", more=' font-weight="600"'))
        for tick in sorted(set(xs)) if len(set(xs)) <= 12 else _powers(2, x_low, x_high):
            parts.append(_line(place_x(tick), y0, place_x(tick), y0 + h))
            parts.append(_text(place_x(tick), y0 + h + 14, f"{tick:g}", "small", "middle"))
        tens = _powers(10, y_low, y_high)
        for tick in tens if len(tens) > 2 else _powers(2, y_low, y_high):
            parts.append(_line(x0, place_y(tick), x0 + w, place_y(tick)))
            parts.append(_text(x0 - 5, place_y(tick) + 4, f"{tick:g}", "small", "end"))
        parts.append(_text(x0 + w / 2, y0 + h + 30, x_label, "small", "middle"))
        parts.append(_text(0, 0, y_label, "small", "middle", f' transform="translate({x0 - 46} {y0 + h / 2}) rotate(-90)"'))
        for i, (curve, colour, measured, expected) in enumerate(curves):
            for values, dash in ((expected, ' stroke-dasharray="5 4"'), (measured, "")):
                path = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in values)
                parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
            parts += [f'<circle cx="{place_x(x):.1f}" cy="{place_y(y):.1f}" r="2.6" fill="{colour}"/>' for x, y in measured]
            parts.append(_line(x0 + 8, y0 + 10 + 15 * i, x0 + 30, y0 + 10 + 15 * i, colour, 1.8))
            parts.append(_text(x0 + 35, y0 + 14 + 15 * i, curve, "small"))
    return _page(width, height, parts)
