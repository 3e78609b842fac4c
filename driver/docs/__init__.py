"""Documentation of a warehouse, generated from the live database.

`catalog` reads the database, `lineage` reads its views, `pictures` describes boxes and lines,
`mermaid` and `markdown` write Markdown, `site` writes the page, which lays out the pictures itself.
"""
