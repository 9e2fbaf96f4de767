"""report.html: the whole run on one page, with its styles, script and templates."""

from harness.report.html.page import PAGE_LIMIT, render

__all__ = ["PAGE_LIMIT", "render"]
