"""The course as a static site, `rl site build` and `rl site serve`, and as a book, `rl site epub`.

`pages` says what becomes a page and with which text, from the repository's files alone; `build` hands that to
Sphinx, with what the extra `docs` brings, and so does `book` for the EPUB; `diagrams` keeps the pictures of
mermaid diagrams. Nothing is fetched, at build or by a reader: formulas are set by KaTeX, of which a copy
stands in `static`, in the book by docutils.
"""
