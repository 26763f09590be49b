"""Statistics of a table's columns: what a bundle keeps as reference, and how far other data lies from it."""

from deepseek.data.profiles.drift import drift
from deepseek.data.profiles.drift_report import ColumnDrift, DriftConfig, DriftReport, DriftTest
from deepseek.data.profiles.html_pages import profile_page
from deepseek.data.profiles.monitor import DriftMonitor
from deepseek.data.profiles.statistics import profile
from deepseek.data.profiles.text_pages import render_profile

__all__ = [
    "ColumnDrift",
    "DriftConfig",
    "DriftMonitor",
    "DriftReport",
    "DriftTest",
    "drift",
    "profile",
    "profile_page",
    "render_profile",
]
