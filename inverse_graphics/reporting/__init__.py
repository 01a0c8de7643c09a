"""Figures of what was inferred and how well, and one self-contained HTML report a run."""

from inverse_graphics.colours import linear_to_srgb as linear_to_srgb
from inverse_graphics.reporting.figures import confusion_matrix as confusion_matrix
from inverse_graphics.reporting.figures import error_against_visibility as error_against_visibility
from inverse_graphics.reporting.figures import error_histogram as error_histogram
from inverse_graphics.reporting.figures import training_curves as training_curves
from inverse_graphics.reporting.headlines import METRIC_TEXTS as METRIC_TEXTS
from inverse_graphics.reporting.headlines import class_table as class_table
from inverse_graphics.reporting.headlines import format_metric as format_metric
from inverse_graphics.reporting.headlines import metric_headlines as metric_headlines
from inverse_graphics.reporting.html import Headline as Headline
from inverse_graphics.reporting.html import Picture as Picture
from inverse_graphics.reporting.html import Provenance as Provenance
from inverse_graphics.reporting.html import Report as Report
from inverse_graphics.reporting.html import Table as Table
from inverse_graphics.reporting.html import package_versions as package_versions
from inverse_graphics.reporting.html import write_report as write_report
from inverse_graphics.reporting.scene_report import summary_text as summary_text
from inverse_graphics.reporting.scene_report import write_scene_report as write_scene_report
from inverse_graphics.reporting.sheet import ObjectLabel as ObjectLabel
from inverse_graphics.reporting.sheet import inference_sheet as inference_sheet
from inverse_graphics.reporting.sheet import scene_labels as scene_labels
from inverse_graphics.reporting.style import figure_bytes as figure_bytes
