"""The report of a search: cost, winner with its confirmation, which keys mattered, pictures, trials, provenance."""

from stillhouse.study_report.content import Study, StudyContent, build_content
from stillhouse.study_report.page import write_page

__all__ = ["Study", "StudyContent", "build_content", "write_page"]
