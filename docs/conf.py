"""Settings of the documentation's site: `make docs`."""

project = "Holdfast"
author = "The Holdfast authors"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
html_theme = "furo"
html_title = "Holdfast"
myst_heading_anchors = 4
html_static_path = ["static"]
html_css_files = ["site.css"]
