"""Known meshes: built-in table-top objects and catalogues of users' own."""

from assets.errors import CatalogueError as CatalogueError
from assets.errors import MeshColourWarning as MeshColourWarning
from assets.errors import MeshFileError as MeshFileError
from assets.errors import MeshSizeWarning as MeshSizeWarning
from assets.loading import load_catalogue as load_catalogue
from assets.procedural import procedural_catalogue as procedural_catalogue
from assets.procedural import procedural_mesh as procedural_mesh
