"""Scene generation: configs, priors over count, class and pose, and batches of rendered scenes."""

from scenes.config import BackgroundConfig, CameraConfig, LightConfig, ObjectsConfig, SceneConfig, load_scene_config
from scenes.generator import Batch, generate, scene_stream
from scenes.prior import LogPrior, ScenePrior, TableLatents, table_latents
from scenes.stream import BatchStream

__all__ = [
    "BackgroundConfig",
    "Batch",
    "BatchStream",
    "CameraConfig",
    "LightConfig",
    "LogPrior",
    "ObjectsConfig",
    "SceneConfig",
    "ScenePrior",
    "TableLatents",
    "generate",
    "load_scene_config",
    "scene_stream",
    "table_latents",
]
