"""Compiled reverse pass: from the gradient of images to that of poses, lights and surfaces.

Two kinds of samples carry it: those that go on showing the same face, by the derivative of shading inside the face, and borders
(``border_kernels``).  Either way it is a force: a gradient with respect to the motion of the material point that is seen, pushed
on to the object's pose and, if asked for, to the face's corners.

A sample's colour at a fixed place changes by minus its slope over the screen times the material's motion over the screen, plus
what the light's motion in the object's frame does.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from renderers.raster.border_kernels import EDGE_OF_A, EDGE_OF_B, NONE, barycentric, find_border, follow, seen_face
from renderers.raster.shading_kernels import albedo_slopes, cosine_slopes, place_on, shade


@njit(cache=True, nogil=True, error_model="numpy")
def push(meshes, class_id, code, T, camera, x, y, seen, pull_x, pull_y, pull_z, T_grad, surface, vertices_grad):
    """Push the gradient by a material point's motion on to its object's pose and its face's corners.

    Args:
        meshes, class_id, T, camera: as in ``border_kernels.seen_face``.
        code: 2 * face, plus 1 where it is seen from behind.
        x, y: where the point is seen, in samples.
        seen: the face, from ``seen_face``.
        pull_x, pull_y: gradient by its motion over the screen, per sample.
        pull_z: gradient by its motion along the camera's axis at a fixed place of the screen, per metre.
        T_grad: [3 4] float64, added to: gradient by T_camera_object.
        surface: whether to add to ``vertices_grad``.
        vertices_grad: [v 3] float64, added to.
    """
    b1, b2, q = barycentric(seen, x, y)
    b0 = 1.0 - b1 - b2
    force_x = pull_x * camera[0] * q
    force_y = pull_y * camera[1] * q
    force_z = pull_z - q * (pull_x * (x - camera[2]) + pull_y * (y - camera[3]))
    face = code >> 1
    X, Y, Z = place_on(meshes, class_id, face, b0, b1, b2)
    for i, force in enumerate((force_x, force_y, force_z)):
        T_grad[i, 0] += force * X
        T_grad[i, 1] += force * Y
        T_grad[i, 2] += force * Z
        T_grad[i, 3] += force
    if surface:
        start = meshes.vertex_start[class_id]
        for i, share in enumerate((b0, b1, b2)):
            v = start + meshes.faces[face, i]
            for j in range(3):
                vertices_grad[v, j] += share * (T[0, j] * force_x + T[1, j] * force_y + T[2, j] * force_z)


@njit(cache=True, nogil=True, error_model="numpy")
def shading_pull(meshes, class_id, code, T, light, camera, x, y, seen, g, T_grad, light_grad, surface, surface_grads):
    """What the colour of a sample that keeps its face hands on.

    Args:
        meshes, class_id, code, T, camera, x, y, seen, T_grad, surface: as in ``push``.
        light: [6], see ``shading_kernels``.
        g: gradient by the sample's colour, three channels.
        light_grad: [5] float64, added to: gradient by the light's direction or position, ambient, diffuse.
        surface_grads: vertices [v 3], corner colours [f 3 3] and corner normals [f 3 3], float64, added to if ``surface``.
    """
    b1, b2, q = barycentric(seen, x, y)
    b0 = 1.0 - b1 - b2
    face = code >> 1
    albedo, by_1, by_2, texture = albedo_slopes(meshes, class_id, face, b0, b1, b2)
    cosine, cosine_1, cosine_2, by_light, by_normal = cosine_slopes(meshes, class_id, code, b0, b1, b2, light)
    level = light[3] + light[4] * cosine
    whole = g[0] * albedo[0] + g[1] * albedo[1] + g[2] * albedo[2]
    on_cosine = whole * light[4]
    for i in range(3):
        light_grad[i] += on_cosine * by_light[i]
    light_grad[3] += whole
    light_grad[4] += whole * cosine
    slope_1 = level * (g[0] * by_1[0] + g[1] * by_1[1] + g[2] * by_1[2]) + on_cosine * cosine_1
    slope_2 = level * (g[0] * by_2[0] + g[1] * by_2[1] + g[2] * by_2[2]) + on_cosine * cosine_2
    pull_x = -(slope_1 * (seen[1][0] - b1 * seen[3][0]) + slope_2 * (seen[2][0] - b2 * seen[3][0])) / q
    pull_y = -(slope_1 * (seen[1][1] - b1 * seen[3][1]) + slope_2 * (seen[2][1] - b2 * seen[3][1])) / q
    push(meshes, class_id, code, T, camera, x, y, seen, pull_x, pull_y, 0.0, T_grad, surface, surface_grads[0])
    if surface:
        vertices_grad, rgb_grad, normals_grad = surface_grads
        start = meshes.vertex_start[class_id]
        for i, share in enumerate((b0, b1, b2)):
            v = start + meshes.faces[face, i]
            for j in range(3):
                rgb_grad[face, i, j] += share * g[j] * level * texture[j]
                normals_grad[face, i, j] += share * on_cosine * by_normal[j]
                if light[5] > 0:
                    vertices_grad[v, j] -= share * on_cosine * by_light[j]


@njit(cache=True, nogil=True, error_model="numpy")
def colour_of(meshes, class_id, code, light, seen, x, y):
    """Colour of a face at a place, also a little beyond its border."""
    b1, b2, _ = barycentric(seen, x, y)
    return shade(meshes, class_id, code, b1, b2, light)


@njit(cache=True, nogil=True, error_model="numpy")
def step_gradient(scene, images, a, code_a, seen_a, b, code_b, seen_b, x, y, first, last):
    """Gradient by the area, in samples, that a border's motion gives to A's side: the step of all images times their gradients.

    Args:
        scene, images: as in ``scene_gradient``.
        a, code_a, seen_a: slot (-1: background), code and face on A's side; likewise B's.
        x, y: place of the border, in samples of the band.
        first, last: which prefixes are meant, last excluded.
    """
    meshes, class_ids, _, light, _, background, samples, top = scene
    weights_rgb, weights_depth, weights_masks = images
    height, width = background.shape[:2]
    row = min(max(top + np.int64(np.floor(y)) // samples, 0), height - 1)
    column = min(max(np.int64(np.floor(x)) // samples, 0), width - 1)
    total = 0.0
    if len(weights_rgb):
        g0, g1, g2 = 0.0, 0.0, 0.0
        for p in range(first, last):
            g0 += weights_rgb[p, row, column, 0]
            g1 += weights_rgb[p, row, column, 1]
            g2 += weights_rgb[p, row, column, 2]
        if g0 != 0.0 or g1 != 0.0 or g2 != 0.0:
            behind = background[row, column]
            r0, r1, r2 = behind[0], behind[1], behind[2]
            s0, s1, s2 = r0, r1, r2
            if a >= 0:
                r0, r1, r2 = colour_of(meshes, class_ids[a], code_a, light[a], seen_a, x, y)
            if b >= 0:
                s0, s1, s2 = colour_of(meshes, class_ids[b], code_b, light[b], seen_b, x, y)
            total += g0 * (r0 - s0) + g1 * (r1 - s1) + g2 * (r2 - s2)
    if len(weights_depth) and weights_depth[row, column] != 0.0:
        step = 0.0
        if a >= 0:
            step += 1.0 / barycentric(seen_a, x, y)[2]
        if b >= 0:
            step -= 1.0 / barycentric(seen_b, x, y)[2]
        total += weights_depth[row, column] * step
    if len(weights_masks):
        if a >= 0:
            total += weights_masks[a, row, column]
        if b >= 0:
            total -= weights_masks[b, row, column]
    return total / (samples * samples)


@njit(cache=True, nogil=True, error_model="numpy")
def locate_border(meshes, class_ids, T, camera, a, code_a, b, code_b, x, y, dx, dy):
    """Find the border between two neighbouring samples.

    Args:
        meshes, class_ids, T, camera: as in ``scene_gradient``.
        a, code_a: slot (-1: background) and code at sample A; likewise at B.
        x, y: place of A.
        dx, dy: way from A to B.

    Returns:
        What moves (``border_kernels.NONE``: there is no border), the way to it, its normal (``find_border``); and the last face
        on A's side, as code and as it is seen, and on B's (of the background: anything).
    """
    some = a if a >= 0 else b
    some_code, sx, sy, step_x, step_y = (code_a, x, y, dx, dy) if a >= 0 else (code_b, x + dx, y + dy, -dx, -dy)
    other = code_b if a == b else np.int32(-1)
    end_a, seen_a, t_a, edge_a, met = follow(meshes, class_ids[some], some_code, T[some], camera, sx, sy, step_x, step_y, other)
    end_b, seen_b, t_b, edge_b = end_a, seen_a, 1.0 - t_a, edge_a
    if a >= 0 and b >= 0 and not met:
        other = code_a if a == b else np.int32(-1)
        end_b, seen_b, t_b, edge_b, met = follow(meshes, class_ids[b], code_b, T[b], camera, x + dx, y + dy, -dx, -dy, other)
        t_b = 1.0 - t_b
    if met:
        return NONE, 0.5, 0.0, 0.0, end_a, seen_a, end_b, seen_b
    what, way, nx, ny = find_border(a >= 0, seen_a, t_a, edge_a, b >= 0, seen_b, t_b, edge_b, x, y, dx, dy)
    return what, way, nx, ny, end_a, seen_a, end_b, seen_b


@njit(cache=True, nogil=True, error_model="numpy")
def border_pull(scene, images, a, code_a, b, code_b, x, y, dx, dy, first, last, T_grad, surface, vertices_grad):
    """What the border between two neighbouring samples hands on.

    Args:
        scene, images, T_grad, surface, vertices_grad: as in ``scene_gradient``.
        a, code_a, b, code_b, x, y, dx, dy: as in ``locate_border``.
        first, last: which prefixes show this pair, last excluded.
    """
    meshes, class_ids, T, _, camera, _, _, _ = scene
    what, way, nx, ny, code_a, seen_a, code_b, seen_b = locate_border(
        meshes, class_ids, T, camera, a, code_a, b, code_b, x, y, dx, dy
    )
    if what == NONE:
        return
    u, v = x + way * dx, y + way * dy
    gradient = step_gradient(scene, images, a, code_a, seen_a, b, code_b, seen_b, u, v, first, last)
    if gradient == 0.0:
        return
    across = gradient * (nx * dx + ny * dy)
    if what == EDGE_OF_A or what == EDGE_OF_B:
        slot, code, seen = (a, code_a, seen_a) if what == EDGE_OF_A else (b, code_b, seen_b)
        along, down = across * nx, across * ny
        push(meshes, class_ids[slot], code, T[slot], camera, u, v, seen, along, down, 0.0, T_grad[slot], surface, vertices_grad)
        return
    # q of a plane at a fixed place changes by -q^2 per metre of depth and by -(its slope) per sample of motion
    for slot, code, seen, sign in ((a, code_a, seen_a, across), (b, code_b, seen_b, -across)):
        along, down, q = sign * seen[3][0], sign * seen[3][1], barycentric(seen, u, v)[2]
        pull_z = sign * q * q
        push(
            meshes, class_ids[slot], code, T[slot], camera, u, v, seen, along, down, pull_z, T_grad[slot], surface, vertices_grad
        )


@njit(cache=True, nogil=True, error_model="numpy")
def sample_pull(scene, images, k, code, x, y, first, last, T_grad, light_grad, surface, surface_grads):
    """What a sample that shows slot k in the prefixes first..last - 1 hands on.

    Args:
        scene, images, T_grad, light_grad, surface, surface_grads: as in ``scene_gradient``.
        code: what it shows.
        x, y: its place.
    """
    meshes, class_ids, T, light, camera, background, samples, top = scene
    weights_rgb, weights_depth, _ = images
    row, column = top + np.int64(y) // samples, np.int64(x) // samples
    g0, g1, g2, g_depth = 0.0, 0.0, 0.0, 0.0
    if len(weights_rgb):
        scale = 1.0 / (samples * samples)
        for p in range(first, last):
            g0 += weights_rgb[p, row, column, 0] * scale
            g1 += weights_rgb[p, row, column, 1] * scale
            g2 += weights_rgb[p, row, column, 2] * scale
    if len(weights_depth):
        g_depth = np.float64(weights_depth[row, column])
    if g0 == 0.0 and g1 == 0.0 and g2 == 0.0 and g_depth == 0.0:
        return
    face = code >> 1
    if meshes.is_plain[face] and light[k, 5] == 0 and g_depth == 0.0 and not surface:
        # the colour is the same all over the face: only the light's motion changes it
        colour = meshes.corner_rgb[face, 0]
        cosine, _, _, by_light, _ = cosine_slopes(meshes, class_ids[k], code, 1.0, 0.0, 0.0, light[k])
        whole = g0 * colour[0] + g1 * colour[1] + g2 * colour[2]
        for i in range(3):
            light_grad[k, i] += whole * light[k, 4] * by_light[i]
        light_grad[k, 3] += whole
        light_grad[k, 4] += whole * cosine
        return
    seen = seen_face(meshes, class_ids[k], face, T[k], camera)
    if g0 != 0.0 or g1 != 0.0 or g2 != 0.0:
        g = (g0, g1, g2)
        shading_pull(
            meshes, class_ids[k], code, T[k], light[k], camera, x, y, seen, g, T_grad[k], light_grad[k], surface, surface_grads
        )
    if g_depth != 0.0:
        # z at a fixed place: rises with the material's depth, falls by its own slope times the material's motion
        q = barycentric(seen, x, y)[2]
        along, down = g_depth * seen[3][0] / (q * q), g_depth * seen[3][1] / (q * q)
        push(meshes, class_ids[k], code, T[k], camera, x, y, seen, along, down, g_depth, T_grad[k], surface, surface_grads[0])


@njit(cache=True, nogil=True, error_model="numpy")
def scene_gradient(scene, images, boxes, codes, winners, rows, T_grad, light_grad, surface, surface_grads):
    """Gradient of one band of one scene.

    Args:
        scene: meshes (PackedMeshes), class ids [n], T_camera_object [n 3 4], lights [n 6], camera [5] in samples of the band,
            background [h w 3], samples a pixel along each axis, first pixel row of the band.
        images: gradients by the prefix images [p h w 3], by the depth image [h w] and by the masks [n h w]; empty ones where
            there is none.  Depth only with one sample a pixel, depth and masks only with one prefix.
        boxes: [n 4] what each layer may cover, in samples of the band.
        codes: [n hs ws] int32, what each layer shows there.
        winners: [p hs ws] int8: slot that is seen, -1 the background.
        rows: rows of samples that belong to the band; if there is one more in ``codes``, it is the next band's first.
        T_grad: [n 3 4] float64, added to.
        light_grad: [n 5] float64, added to: by direction or position, ambient, diffuse.
        surface: whether to add to ``surface_grads``.
        surface_grads: vertices [v 3], corner colours [f 3 3], corner normals [f 3 3], float64.
    """
    meshes = scene[0]
    prefixes, height, width = winners.shape
    smooth = meshes.smooth_across
    face_start = meshes.face_start
    class_ids = scene[1]
    r_first, r_last, c_first, c_last = height, -1, width, -1
    for k in range(len(boxes)):
        if boxes[k, 1] >= boxes[k, 0]:
            r_first, r_last = min(r_first, boxes[k, 0] - 1), max(r_last, boxes[k, 1])
            c_first, c_last = min(c_first, boxes[k, 2] - 1), max(c_last, boxes[k, 3])
    for r in range(max(r_first, 0), min(r_last, rows - 1) + 1):
        for c in range(max(c_first, 0), c_last + 1):
            p = 0
            while p < prefixes:
                k = np.int64(winners[p, r, c])
                last = p + 1
                while last < prefixes and winners[last, r, c] == k:
                    last += 1
                if k >= 0:
                    code = codes[k, r, c]
                    sample_pull(scene, images, k, code, c + 0.5, r + 0.5, p, last, T_grad, light_grad, surface, surface_grads)
                p = last
            for way in range(2):
                dx, dy = 1 - way, way
                if c + dx >= width or r + dy >= height:
                    continue
                p = 0
                while p < prefixes:
                    a, b = np.int64(winners[p, r, c]), np.int64(winners[p, r + dy, c + dx])
                    last = p + 1
                    while last < prefixes and winners[last, r, c] == a and winners[last, r + dy, c + dx] == b:
                        last += 1
                    if a >= 0 or b >= 0:
                        code_a = codes[a, r, c] if a >= 0 else np.int32(-1)
                        code_b = codes[b, r + dy, c + dx] if b >= 0 else np.int32(-1)
                        if a != b or not joined(smooth, face_start[class_ids[a]], code_a, code_b):
                            border_pull(
                                scene,
                                images,
                                a,
                                code_a,
                                b,
                                code_b,
                                c + 0.5,
                                r + 0.5,
                                dx,
                                dy,
                                p,
                                last,
                                T_grad,
                                surface,
                                surface_grads[0],
                            )
                    p = last


@njit(cache=True, nogil=True, error_model="numpy")
def joined(smooth_across, face_start, code_a, code_b):
    """Whether two samples of an object show the same face, or neighbours with no step between them."""
    if code_a == code_b:
        return True
    other = (code_b >> 1) - face_start
    near = smooth_across[code_a >> 1]
    return (code_a ^ code_b) & 1 == 0 and (near[0] == other or near[1] == other or near[2] == other)
