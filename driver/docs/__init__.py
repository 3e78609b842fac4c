"""Pictures of a warehouse and its data dictionary, made from the live database.

`catalog` asks the database, `lineage` reads its views, `layout` and `diagrams` draw, `mermaid` and
`markdown` write, `site` puts the page together.
"""
