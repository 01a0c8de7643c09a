"""Compiled change of frames: objects to the camera's frame, lights to the objects' frames, and the gradients back."""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def frame_pass(T_world_object, T_camera_world, at, levels, near, T, light):
    """Poses in the camera's frame and lights in the objects' frames, all of one floating type.

    Args:
        T_world_object: [b n 4 4].
        T_camera_world: [b 4 4].
        at: [b 3]: direction to the light, or its position, in the world.
        levels: [b 2]: ambient, diffuse.
        near: whether it is a position.
        T: [b n 3 4], filled: T_camera_object without its last row.
        light: [b n 6], filled: ``at`` in the object's frame, ambient, diffuse, 1 where it is a position.
    """
    for b in range(T_world_object.shape[0]):
        V = T_camera_world[b]
        for k in range(T_world_object.shape[1]):
            M = T_world_object[b, k]
            for i in range(3):
                for j in range(4):
                    T[b, k, i, j] = V[i, 0] * M[0, j] + V[i, 1] * M[1, j] + V[i, 2] * M[2, j] + V[i, 3] * M[3, j]
            for j in range(3):
                light[b, k, j] = 0.0
                for i in range(3):
                    light[b, k, j] += M[i, j] * (at[b, i] - M[i, 3] if near else at[b, i])
            light[b, k, 3], light[b, k, 4], light[b, k, 5] = levels[b, 0], levels[b, 1], 1.0 if near else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def frame_gradient_pass(T_world_object, T_camera_world, at, near, T_grad, light_grad, by_object, by_camera, by_at, by_levels):
    """Hand the gradient of ``frame_pass`` back.

    Args:
        T_world_object, T_camera_world, at, near: as there.
        T_grad: [b n 3 4].
        light_grad: [b n 6].
        by_object, by_camera, by_at, by_levels: like T_world_object, T_camera_world, at and levels; zero on entry, filled.
    """
    for b in range(T_world_object.shape[0]):
        V = T_camera_world[b]
        for k in range(T_world_object.shape[1]):
            M, G, g = T_world_object[b, k], T_grad[b, k], light_grad[b, k]
            for i in range(4):
                for j in range(4):
                    by_object[b, k, i, j] += V[0, i] * G[0, j] + V[1, i] * G[1, j] + V[2, i] * G[2, j]
            for r in range(3):
                for i in range(4):
                    by_camera[b, r, i] += G[r, 0] * M[i, 0] + G[r, 1] * M[i, 1] + G[r, 2] * M[i, 2] + G[r, 3] * M[i, 3]
            for i in range(3):
                for j in range(3):
                    by_object[b, k, i, j] += (at[b, i] - M[i, 3] if near else at[b, i]) * g[j]
                pull = M[i, 0] * g[0] + M[i, 1] * g[1] + M[i, 2] * g[2]
                by_at[b, i] += pull
                if near:
                    by_object[b, k, i, 3] -= pull
            by_levels[b, 0] += g[3]
            by_levels[b, 1] += g[4]
