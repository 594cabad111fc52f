"""Calls written to files, for tickets and other tools. Pure.

Interface: `export`, `FORMATS`, `text_ladder`.
"""

from hep.view.export.as_text import text_ladder
from hep.view.export.exporting import FORMATS, MEDIA_TYPES, Format, export

__all__ = ["FORMATS", "MEDIA_TYPES", "Format", "export", "text_ladder"]
