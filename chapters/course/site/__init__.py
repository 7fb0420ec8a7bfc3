"""The course as a static site: `rl site build` and `rl site serve`.

`pages` says what becomes a page and with which text, from the repository's files alone; `build` hands that to
Sphinx, with what the extra `docs` brings; `diagrams` keeps the pictures of the mermaid diagrams. Nothing is
fetched, at build or by a reader: formulas are set by KaTeX, of which a copy stands in `static`.
"""
