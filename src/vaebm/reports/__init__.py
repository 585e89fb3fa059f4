"""What a person reads: the HTML report, tables for the terminal and for Markdown, the model card."""

from vaebm.reports.content import Evaluation, NearestImages, ReportContent
from vaebm.reports.evaluation_tables import (
    evaluation_text,
    outlier_table,
    p_value_table,
    quality_table,
    ranking_table,
    steps_table,
)
from vaebm.reports.html import render_report
from vaebm.reports.model_card import CardContent, model_card
from vaebm.reports.sentences import headline
from vaebm.reports.tables import Column, Table, html_table, markdown_table, text_table

__all__ = [
    "CardContent",
    "Column",
    "Evaluation",
    "NearestImages",
    "ReportContent",
    "Table",
    "evaluation_text",
    "headline",
    "html_table",
    "markdown_table",
    "model_card",
    "outlier_table",
    "p_value_table",
    "quality_table",
    "ranking_table",
    "render_report",
    "steps_table",
    "text_table",
]
