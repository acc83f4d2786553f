#!/usr/bin/env python3
"""Draws terminal output as an SVG: `CLICOLOR_FORCE=1 dayfly run FILE | docs/picture.py 'dayfly run FILE' > docs/run.svg`."""

import html
import re
import sys

CELL_WIDTH, LINE_HEIGHT, FONT_SIZE, PADDING, BAR = 8.4, 19, 14, 18, 34
BACKGROUND, FOREGROUND = "#0d1117", "#e6edf3"
COLOURS = {31: "#ff7b72", 32: "#7ee787", 33: "#e3b341", 34: "#79c0ff", 35: "#d2a8ff", 36: "#76e3ea", 90: "#8b949e"}
SEQUENCE = re.compile(r"\x1b\[([0-9;]*)m")


def spans(line):
    """Pieces of a line as (text, colour, bold, faint)."""
    colour, bold, faint, at = None, False, False, 0
    for match in SEQUENCE.finditer(line):
        if match.start() > at:
            yield line[at : match.start()], colour, bold, faint
        at = match.end()
        for code in (int(code or 0) for code in match[1].split(";")):
            if code == 0:
                colour, bold, faint = None, False, False
            elif code == 1:
                bold = True
            elif code == 2:
                faint = True
            elif code in COLOURS:
                colour = COLOURS[code]
    if at < len(line):
        yield line[at:], colour, bold, faint


def draw(line, y):
    """One line of text; every piece is placed by its column, so that the font's width does not matter."""
    column, parts = 0, []
    for text, colour, bold, faint in spans(line):
        style = f' fill="{colour}"' if colour else ""
        style += ' font-weight="bold"' if bold else ""
        style += ' opacity="0.6"' if faint else ""
        x, width = PADDING + column * CELL_WIDTH, len(text) * CELL_WIDTH
        parts.append(f'<text x="{x:.1f}" y="{y}" textLength="{width:.1f}"{style}>{html.escape(text)}</text>')
        column += len(text)
    return "".join(parts)


def main():
    lines = [f"\x1b[32m$\x1b[0m {sys.argv[1]}"] + sys.stdin.read().rstrip("\n").split("\n")
    columns = max(len(SEQUENCE.sub("", line)) for line in lines)
    width, height = 2 * PADDING + columns * CELL_WIDTH, BAR + PADDING + len(lines) * LINE_HEIGHT
    dots = "".join(
        f'<circle cx="{PADDING + i * 18}" cy="17" r="5.5" fill="{fill}"/>'
        for i, fill in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    body = "\n".join(draw(line, BAR + FONT_SIZE + i * LINE_HEIGHT) for i, line in enumerate(lines))
    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="{html.escape(sys.argv[1])}">\n'
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>{dots}\n'
        f'<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" '
        f'font-size="{FONT_SIZE}" fill="{FOREGROUND}" xml:space="preserve">\n{body}\n</g>\n</svg>'
    )


if __name__ == "__main__":
    main()
