"""Sphinx configuration: pages in Markdown (MyST), the reference from numpydoc docstrings."""

import re

import numconv

project = "numconv"
author = "The numconv developers"
copyright = "2026, The numconv developers"  # noqa: A001  (Sphinx's name)
version = release = numconv.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
autosummary_generate = True
numpydoc_show_class_members = False
default_role = "code"
exclude_patterns = ["_build"]

html_theme = "pydata_sphinx_theme"
html_title = f"numconv {version}"
html_theme_options = {"navigation_with_keys": False, "show_prev_next": False}


def escape_stars(app, what, name, obj, options, lines):
    """Keep the star of shapes such as (batch, channels, *size) a star: in reStructuredText it would begin emphasis."""
    lines[:] = [re.sub(r"(?<=[( ,])\*(?=[a-z_]+[),; ])", r"\\*", line) for line in lines]


def setup(app):
    """Register the hook before numpydoc's, which reads what it leaves."""
    app.connect("autodoc-process-docstring", escape_stars, priority=100)
