"""Make a picture (SVG) of a terminal from what a command printed.

docs/explain.svg is docs/picture.py 'cloche explain' of:

    cloche run --name hello --memory 64m busybox echo 'Hello from a container'
    cloche explain hello
"""

from __future__ import annotations

import sys
from html import escape

COLUMN, ROW, MARGIN, TOP = 7.4, 17, 18, 46
WIDTH = 116
"""Columns; what is longer is cut with an ellipsis."""


def shortened(lines: list[str]) -> list[str]:
    """Of steps of one kind in a row, the first and how many more there are."""
    shown: list[str] = []
    kind, more = "", 0
    for line in [*lines, ""]:
        words = line.split()
        this = words[2] if len(words) > 3 and line.startswith("  ") and words[0][0].isdigit() else ""
        if this and this == kind:
            more += 1
            continue
        if more:
            shown.append(f"{'':22}{kind:<20}... {more} more")
        shown.append(line)
        kind, more = this, 0
    return shown[:-1]


def picture(title: str, lines: list[str]) -> str:
    shown = [line if len(line) <= WIDTH else line[: WIDTH - 1] + "…" for line in lines]
    width = round(WIDTH * COLUMN + 2 * MARGIN)
    height = TOP + ROW * len(shown) + MARGIN
    rows = [
        f'<text x="{MARGIN}" y="{TOP + ROW * (number + 1)}"{_look(line)}>{escape(line)}</text>'
        for number, line in enumerate(shown)
        if line
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
            f' viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">',
            "<style>text{font:12.3px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#d8dee9;"
            "white-space:pre}.head{fill:#88c0d0}.prompt{fill:#a3be8c}.title{fill:#8892a6}</style>",
            f'<rect width="{width}" height="{height}" rx="9" fill="#20242d"/>',
            *(
                f'<circle cx="{MARGIN + 4 + 18 * number}" cy="21" r="5.5" fill="{colour}"/>'
                for number, colour in enumerate(("#bf616a", "#ebcb8b", "#a3be8c"))
            ),
            f'<text x="{width / 2}" y="25" text-anchor="middle" class="title">{escape(title)}</text>',
            *rows,
            "</svg>",
        ]
    )


def _look(line: str) -> str:
    if line.startswith("$ "):
        return ' class="prompt"'
    return ' class="head"' if line.startswith(("host ", "container ", "where ")) else ""


if __name__ == "__main__":
    print(picture(sys.argv[1], shortened(sys.stdin.read().splitlines())))
