"""What a spec or the name of a file may hold that a terminal obeys, and must not come to see."""

from __future__ import annotations

# A title, a bell, colours, a cleared screen, turned and hidden text, 8-bit controls, tags.
CONTROLS = "\x1b]0;title\x07 \x1b[31m \x1b[2J \u202e \u2066 \u200b \x9b31m \x7f \u2028 \U000e0041"
OBEYED = "\x1b\x07\u202e\u2066\u200b\x9b\x7f\u2028\U000e0041"
MARKUP = "[red]red[/red] [link=https://a.b]c[/link] :smile:"  # of rich
CLOSERS = "\"\"\" ''' */ <!-- --> </svg> <script>"

COMMENT = f"# {CONTROLS} {MARKUP} {CLOSERS}"
SPEC = f"{COMMENT}\nnorm A {{ {COMMENT}\n  input  x[N, C]\n  reduce C  {COMMENT}\n}}\n"
WRONG = f"{COMMENT}\nnorm A {{\n  input  x[N, C]\n  output y  {COMMENT}\n}}\n"


def obeyed(text: str) -> list[str]:
    """The characters in a text that a terminal would obey."""
    return [hex(ord(c)) for c in OBEYED if c in text]
