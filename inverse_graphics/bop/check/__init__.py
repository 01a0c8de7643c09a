"""Checking BOP data sets and results files: all that is wrong with them, where, and what to do about it."""

from inverse_graphics.bop.check.dataset import check_dataset as check_dataset
from inverse_graphics.bop.check.results import check_results as check_results
