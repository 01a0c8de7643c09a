"""Inference networks."""

from inverse_graphics.guides.config import GuideConfig as GuideConfig
from inverse_graphics.guides.config import GuideSizes as GuideSizes
from inverse_graphics.guides.posterior import Posterior as Posterior
from inverse_graphics.guides.posterior import Reading as Reading
from inverse_graphics.guides.recurrent import RecurrentGuide as RecurrentGuide
