"""Parts of an HTML page that needs no other file: style, tables, bars, a heat map, inline figures."""

import base64
import html
import re
import urllib.parse
from collections.abc import Callable, Collection, Mapping, Sequence

import matplotlib
from matplotlib.colors import to_hex

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1c1c1c; --soft: #595959; --line: #d6d6d6; --best: #dcefe4;
  --bar: #d3e5f3; --warning: #fff3cd; --edge: #d39e00; --bad: #b3261e; }
@media screen and (prefers-color-scheme: dark) {
  :root { --page: #16191d; --ink: #e8e8e8; --soft: #a8b0b8; --line: #3b424a; --best: #1d4632; --bar: #1f3d57;
    --warning: #3d3313; --edge: #d3a520; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 74rem;
  margin: 0 auto; padding: 1.5rem 1rem 3rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0 0 0.5rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 0.6rem; }
.headline { font-size: 1.25rem; line-height: 1.4; margin: 0 0 1.2rem; max-width: 46rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1rem; font-size: 0.9rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; }
dd span, .headline span { display: inline-block; }
.note, figcaption { color: var(--soft); font-size: 0.9rem; max-width: 46rem; }
.warning { background: var(--warning); border-left: 4px solid var(--edge); padding: 0.5rem 0.8rem; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.35rem 0.6rem; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: normal; }
thead th { border-bottom: 2px solid var(--soft); vertical-align: bottom; }
tr > :first-child { position: sticky; left: 0; z-index: 1; background: var(--page); min-width: min(9rem, 34vw); max-width: 40vw;
  overflow-wrap: anywhere; font-weight: normal; }
thead tr > :first-child { font-weight: bold; }
td:not(.number) { min-width: 9rem; }
.number { text-align: right; white-space: nowrap; }
.best { background: var(--best); font-weight: bold; }
.over { color: var(--bad); font-weight: bold; }
.bar { background: linear-gradient(var(--bar), var(--bar)) no-repeat 0 / var(--share) 100%; min-width: 6rem; }
.bar, .heat td, .best { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.heat { border-collapse: collapse; line-height: 1.2; }
.heat td { text-align: center; padding: 0.4rem 0; min-width: 2.3rem; border: 1px solid var(--page); }
.heat thead th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; max-height: 11rem; height: auto;
  padding: 0.4rem 0.55rem; border: 0; font-weight: normal; overflow-wrap: anywhere; }
.heat tr > :first-child { border: 0; text-align: right; }
.heat thead tr > :first-child { writing-mode: initial; transform: none; color: var(--soft); }
figure { margin: 1rem 0 0; }
figure > svg { display: block; width: 100%; max-width: 34rem; height: auto; }
figure > svg text { font-family: system-ui, sans-serif !important; fill: currentColor; }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: 1.2rem; }
.examples figure { margin: 0; border: 1px solid var(--line); border-radius: 6px; padding: 0.6rem; break-inside: avoid; }
.examples figcaption { color: var(--ink); font-weight: bold; margin-bottom: 0.4rem; }
.pictures { display: grid; grid-template-columns: repeat(3, 1fr); gap: 0.6rem; font-size: 0.8rem; line-height: 1.3; }
.pictures p { margin: 0.25rem 0 0; }
.pictures img { display: block; width: 100%; image-rendering: pixelated; border: 3px solid transparent; }
.missed img { border-color: var(--bad); } .missed b { color: var(--bad); }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  .scroll { overflow: visible; } tr > :first-child { position: static; max-width: 9rem; }
  table { font-size: 7.5pt; } th, td { padding: 0.2rem 0.35rem; }
  h2 { break-after: avoid; } tr, figure { break-inside: avoid; }
  figure > svg { max-width: 11cm; } .heat { break-inside: avoid; } .examples { grid-template-columns: 1fr 1fr; }
}
"""


def page(title: str, headline: str, facts: Mapping[str, str], sections: Mapping[str, str]) -> str:
    """Returns a whole HTML document.

    Args:
        title: heading and title.
        headline: one sentence, the result.
        facts: name to text, below it.
        sections: heading to HTML of each section; one without a heading has the key "".
    """
    parts = [f"<h2>{html.escape(heading)}</h2>\n{body}" if heading else body for heading, body in sections.items()]
    listed = "".join(f"<dt>{html.escape(name)}</dt><dd>{_words(text)}</dd>\n" for name, text in facts.items())
    name = html.escape(title)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f'<body><h1>{name}</h1>\n<p class="headline">{_words(headline)}</p>\n<dl>\n{listed}</dl>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _words(text):
    """Text whose lines break between words, not within `--num_examples`; in a word that does not fit, after a comma."""
    return " ".join(f"<span>{html.escape(word).replace(',', ',<wbr>')}</span>" for word in text.split(" "))


def paragraphs(texts: Sequence[str], kind: str = "note") -> str:
    """Returns paragraphs; kind is `note` or `warning`."""
    return "\n".join(f'<p class="{kind}">{html.escape(text)}</p>' for text in texts)


def table(
    rows: Sequence[Sequence[str]],
    best: Collection[tuple[str, str]] = (),
    over: Collection[tuple[str, str]] = (),
    bars: Callable[[str], str | None] | None = None,
) -> str:
    """Returns an HTML table; the first row is its header, the first column stays in sight. Columns of numbers end right.

    Args:
        rows: cells.
        best: first cell of the row and header of the column of cells to mark as the best.
        over: the same, of cells to mark as beyond the budget.
        bars: returns the length of the bar behind a cell, such as "93.1%", or None.
    """
    header, *body = rows
    numbers = [all(_is_number(row[i]) for row in body) and i > 0 for i in range(len(header))]

    def cell(row, i):
        text, kinds = html.escape(row[i]), ["number"] if numbers[i] else []
        share = bars and i > 0 and bars(row[i])
        if share:
            kinds.append("bar")
        if (row[0], header[i]) in best:
            kinds, text = [*kinds, "best"], f"{text}&nbsp;<span title='best of the column'>★</span>"
        if (row[0], header[i]) in over:
            kinds, text = [*kinds, "over"], f"{text}&nbsp;<span title='beyond epsilon'>⚠</span>"
        tag = 'th scope="row"' if i == 0 else "td"
        text = re.sub("([_/])", r"\1<wbr>", text) if i == 0 else text
        named = f' class="{" ".join(kinds)}"' if kinds else ""
        style = f' style="--share: {share}"' if share else ""
        return f"<{tag}{named}{style}>{text}</{tag[:2]}>"

    titles = "".join(
        f'<th scope="col"{" class=number" if number else ""}>{html.escape(title)}</th>'
        for title, number in zip(header, numbers, strict=True)
    )
    lines = "\n".join("<tr>" + "".join(cell(row, i) for i in range(len(row))) + "</tr>" for row in body)
    return _scrolled(f"<table><thead><tr>{titles}</tr></thead><tbody>\n{lines}\n</tbody></table>")


def links(pages: Mapping[str, str]) -> str:
    """Returns a list of links; pages are text to path."""
    items = (
        f'<li><a href="{html.escape(urllib.parse.quote(path), quote=True)}">{html.escape(text)}</a></li>'
        for text, path in pages.items()
    )
    return f"<ul>{''.join(items)}</ul>"


def _is_number(text):
    return text == "-" or re.match(r"[\d.,]+(%|/\d+)?( \([^a-z]*\))?$", text) is not None


def _scrolled(content):
    return f'<div class="scroll" tabindex="0">{content}</div>'


def heat_map(shares: Sequence[Sequence[float | None]], names: Sequence[str], corner: str) -> str:
    """Returns a table of shares in per cent, rounded down, on the colours of viridis; names are those of rows and columns."""
    colours = matplotlib.colormaps["viridis"]

    def cell(share):
        if share is None:
            return "<td></td>"
        ink = "#fff" if share < 0.6 else "#000"
        # Rounded down, so that 99.6 is not shown as certain.
        return f'<td style="background:{to_hex(colours(share))};color:{ink}">{int(100 * share)}</td>'

    titles = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    lines = "\n".join(
        f'<tr><th scope="row">{html.escape(name)}</th>{"".join(map(cell, row))}</tr>'
        for name, row in zip(names, shares, strict=True)
    )
    corner = f"<th>{html.escape(corner)}</th>"
    return _scrolled(f'<table class="heat"><thead><tr>{corner}{titles}</tr></thead><tbody>\n{lines}\n</tbody></table>')


def figure(svg: bytes, caption: str) -> str:
    """Returns an SVG file of matplotlib's as part of the page, in its colours; the caption is its text for screen readers."""
    drawn = svg.decode()
    drawn = drawn[drawn.index("<svg") :].replace("#000000", "currentColor").replace("fill: #ffffff", "fill: none")
    drawn = re.sub("<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    text = html.escape(caption, quote=True)
    return f'<figure>{drawn.replace("<svg", f"""<svg role="img" aria-label="{text}" """, 1)}<figcaption>{text}</figcaption></figure>'


def picture(png: bytes, text: str, lines: Sequence[str], missed: bool = False) -> str:
    """Returns a PNG file with lines of text below it, framed if an attack missed; `text` is for screen readers."""
    data = base64.b64encode(png).decode()
    first, *others = map(html.escape, lines)
    below = "".join(f"<br>{line}" for line in others)
    return (
        f'<div{" class=missed" if missed else ""}><img alt="{html.escape(text, quote=True)}" '
        f'src="data:image/png;base64,{data}"><p><b>{first}</b>{below}</p></div>'
    )


def cards(captions: Sequence[str], contents: Sequence[str]) -> str:
    """Returns pictures in cards, three to a row of each."""
    made = (
        f'<figure><figcaption>{html.escape(caption)}</figcaption><div class="pictures">{content}</div></figure>'
        for caption, content in zip(captions, contents, strict=True)
    )
    return f'<div class="examples">{"".join(made)}</div>'
