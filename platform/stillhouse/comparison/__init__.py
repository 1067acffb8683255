"""The comparison report: rankers side by side on one page, as HTML that needs nothing else and as Markdown."""

from stillhouse.comparison.content import Content, build_content
from stillhouse.comparison.entrants import Entrant, Ground, Section
from stillhouse.comparison.page import write_page

__all__ = ["Content", "Entrant", "Ground", "Section", "build_content", "write_page"]
