"""Results for other programs: poses with quaternions as JSON and CSV, scenes as GLB; metres, seconds, and frames by name."""

from inverse_graphics.interop.glb import scene_glb as scene_glb
from inverse_graphics.interop.glb import to_trimesh as to_trimesh
from inverse_graphics.interop.glb import write_glb as write_glb
from inverse_graphics.interop.pose_files import read_poses_csv as read_poses_csv
from inverse_graphics.interop.pose_files import read_poses_json as read_poses_json
from inverse_graphics.interop.pose_files import write_poses_csv as write_poses_csv
from inverse_graphics.interop.pose_files import write_poses_json as write_poses_json
from inverse_graphics.interop.pose_rows import CAMERA_FRAME as CAMERA_FRAME
from inverse_graphics.interop.pose_rows import WORLD_FRAME as WORLD_FRAME
from inverse_graphics.interop.pose_rows import PoseRows as PoseRows
from inverse_graphics.interop.pose_rows import in_frame as in_frame
from inverse_graphics.interop.pose_rows import inference_scores as inference_scores
from inverse_graphics.interop.pose_rows import join_rows as join_rows
from inverse_graphics.interop.pose_rows import rows_of_estimates as rows_of_estimates
from inverse_graphics.interop.pose_rows import rows_of_inference as rows_of_inference
from inverse_graphics.interop.pose_rows import rows_of_objects as rows_of_objects
from inverse_graphics.interop.quaternions import matrix_of_pose as matrix_of_pose
from inverse_graphics.interop.quaternions import position_of as position_of
from inverse_graphics.interop.quaternions import quat_xyzw_of as quat_xyzw_of
