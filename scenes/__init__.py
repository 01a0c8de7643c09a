"""Scene generation: configs, priors over count, class and pose, and batches of rendered scenes."""

from scenes.config import BackgroundConfig, CameraConfig, LightConfig, ObjectsConfig, SceneConfig, load_scene_config
from scenes.generator import Batch, SceneStream, generate
from scenes.prior import LogPrior, ScenePrior, TableLatents, table_latents

__all__ = [
    "BackgroundConfig",
    "Batch",
    "CameraConfig",
    "LightConfig",
    "LogPrior",
    "ObjectsConfig",
    "SceneConfig",
    "ScenePrior",
    "SceneStream",
    "TableLatents",
    "generate",
    "load_scene_config",
    "table_latents",
]
