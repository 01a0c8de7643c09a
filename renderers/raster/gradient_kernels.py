"""Compiled reverse pass: from the gradient of images to that of poses, lights and surfaces.

Two kinds of samples carry it: those that go on showing the same face, by the derivative of shading inside the face, and borders
(``border_kernels``).  Either way it is a force: a gradient with respect to the motion of the material point that is seen, pushed
on to the object's pose and, if asked for, to the face's corners.

A sample's colour at a fixed place changes by minus its slope over the screen times the material's motion over the screen, plus
what the light's motion in the object's frame does.
"""

from __future__ import annotations

import numpy as np

from inverse_graphics.compiled import inlined
from renderers.raster.border_kernels import (
    BY_LIGHT,
    COLOUR,
    COSINE,
    E_1,
    E_2,
    EDGE_OF_A,
    EDGE_OF_B,
    INTERSECTION,
    NONE,
    PLAIN,
    Q,
    barycentric,
    locate_border,
    look,
    value,
)
from renderers.raster.shading_kernels import albedo_slopes, cosine_slopes, light_at, place_on, shade


@inlined
def push(scene, k, code, place, x, y, pull_x, pull_y, pull_z, T_grad, surface, vertices_grad):
    """Push the gradient by a material point's motion on to its object's pose and its face's corners.

    Args:
        scene: border_kernels.Scene.
        k: slot.
        code: 2 * face, plus 1 where it is seen from behind.
        place: b1, b2 and q of the point, from ``border_kernels.barycentric``.
        x, y: where the point is seen, in samples.
        pull_x, pull_y: gradient by its motion over the screen, per sample.
        pull_z: gradient by its motion along the camera's axis at a fixed place of the screen, per metre.
        T_grad: [n 3 4] float64, added to: gradient by T_camera_object.
        surface: whether to add to ``vertices_grad``.
        vertices_grad: [v 3] float64, added to.
    """
    meshes, camera, class_id = scene.meshes, scene.camera, scene.class_ids[k]
    b1, b2, q = place
    b0 = 1.0 - b1 - b2
    force_x = pull_x * camera[0] * q
    force_y = pull_y * camera[1] * q
    force_z = pull_z - q * (pull_x * (x - camera[2]) + pull_y * (y - camera[3]))
    face = code >> 1
    X, Y, Z = place_on(meshes, class_id, face, b0, b1, b2)
    for i, force in enumerate((force_x, force_y, force_z)):
        T_grad[k, i, 0] += force * X
        T_grad[k, i, 1] += force * Y
        T_grad[k, i, 2] += force * Z
        T_grad[k, i, 3] += force
    if surface:
        T, start = scene.T, meshes.vertex_start[class_id]
        for i, share in enumerate((b0, b1, b2)):
            v = start + meshes.faces[face, i]
            for j in range(3):
                vertices_grad[v, j] += share * (T[k, 0, j] * force_x + T[k, 1, j] * force_y + T[k, 2, j] * force_z)


@inlined
def shading_pull(scene, k, code, row, place, g, light_grad, surface, surface_grads):
    """What the colour of a sample that keeps its face hands on.

    Args:
        scene, k, code, place, surface: as in ``push``.
        row: the face's row of ``Scene.seen``.
        g: gradient by the sample's colour, three channels.
        light_grad: [n 6] float64, added to: gradient by the light's direction or position, ambient, diffuse.
        surface_grads: vertices [v 3], corner colours [f 3 3] and corner normals [f 3 3], float64, added to if ``surface``.

    Returns:
        Gradient by the material point's motion over the screen, per sample.
    """
    meshes, class_id, seen = scene.meshes, scene.class_ids[k], scene.seen
    light = light_at(scene.light, k)
    b1, b2, q = place
    b0 = 1.0 - b1 - b2
    face = code >> 1
    albedo, by_1, by_2, texture = albedo_slopes(meshes, class_id, face, b0, b1, b2)
    cosine, cosine_1, cosine_2, by_light, by_normal = cosine_slopes(meshes, class_id, code, b0, b1, b2, light)
    level = light[3] + light[4] * cosine
    whole = g[0] * albedo[0] + g[1] * albedo[1] + g[2] * albedo[2]
    on_cosine = whole * light[4]
    for i in range(3):
        light_grad[k, i] += on_cosine * by_light[i]
    light_grad[k, 3] += whole
    light_grad[k, 4] += whole * cosine
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
    slope_1 = level * (g[0] * by_1[0] + g[1] * by_1[1] + g[2] * by_1[2]) + on_cosine * cosine_1
    slope_2 = level * (g[0] * by_2[0] + g[1] * by_2[1] + g[2] * by_2[2]) + on_cosine * cosine_2
    pull_x = -(slope_1 * (seen[row, E_1] - b1 * seen[row, Q]) + slope_2 * (seen[row, E_2] - b2 * seen[row, Q])) / q
    pull_y = (
        -(slope_1 * (seen[row, E_1 + 1] - b1 * seen[row, Q + 1]) + slope_2 * (seen[row, E_2 + 1] - b2 * seen[row, Q + 1])) / q
    )
    return pull_x, pull_y


@inlined
def colour_of(scene, k, code, row, x, y):
    """Colour of a face at a place, also a little beyond its border."""
    seen = scene.seen
    if seen[row, PLAIN] > 0.0:
        return seen[row, COLOUR], seen[row, COLOUR + 1], seen[row, COLOUR + 2]
    b1, b2, _ = barycentric(seen, row, x, y)
    return shade(scene.meshes, scene.class_ids[k], code, b1, b2, light_at(scene.light, k))


@inlined
def colour_step(scene, a, code_a, row_a, b, code_b, row_b, x, y, row, column):
    """Colour on A's side of a border less that on B's.

    Args:
        scene: border_kernels.Scene.
        a, code_a, row_a: slot (-1: background) and face on A's side; likewise B's.
        x, y: place of the border, in samples of the band.
        row, column: its pixel.
    """
    red, green, blue = 0.0, 0.0, 0.0
    for side in range(2):
        k, code, seen_row, sign = (a, code_a, row_a, 1.0) if side == 0 else (b, code_b, row_b, -1.0)
        if k >= 0:
            r, g, b_ = colour_of(scene, k, code, seen_row, x, y)
        else:
            r, g, b_ = scene.background[row, column, 0], scene.background[row, column, 1], scene.background[row, column, 2]
        red += sign * r
        green += sign * g
        blue += sign * b_
    return red, green, blue


@inlined
def step_gradient(scene, images, a, code_a, row_a, b, code_b, row_b, x, y, first, last):
    """Gradient by the area, in samples, that a border's motion gives to A's side: the step of all images times their gradients.

    Args:
        scene, images: as in ``scene_gradient``.
        a, code_a, row_a, b, code_b, row_b, x, y: as in ``colour_step``.
        first, last: which prefixes are meant, last excluded.
    """
    samples = scene.samples
    weights_rgb, weights_depth, weights_masks = images
    height, width = scene.background.shape[:2]
    row = min(max(scene.top + np.int64(np.floor(y)) // samples, 0), height - 1)
    column = min(max(np.int64(np.floor(x)) // samples, 0), width - 1)
    total = 0.0
    if len(weights_rgb):
        g0, g1, g2 = 0.0, 0.0, 0.0
        for p in range(first, last):
            g0 += weights_rgb[p, row, column, 0]
            g1 += weights_rgb[p, row, column, 1]
            g2 += weights_rgb[p, row, column, 2]
        if g0 != 0.0 or g1 != 0.0 or g2 != 0.0:
            red, green, blue = colour_step(scene, a, code_a, row_a, b, code_b, row_b, x, y, row, column)
            total += g0 * red + g1 * green + g2 * blue
    if len(weights_depth) and weights_depth[row, column] != 0.0:
        step = 0.0
        if a >= 0:
            step += 1.0 / value(scene.seen, row_a, Q, x, y)
        if b >= 0:
            step -= 1.0 / value(scene.seen, row_b, Q, x, y)
        total += weights_depth[row, column] * step
    if len(weights_masks):
        if a >= 0:
            total += weights_masks[a, row, column]
        if b >= 0:
            total -= weights_masks[b, row, column]
    return total / (samples * samples)


@inlined
def border_pull(scene, images, a, code_a, b, code_b, x, y, dx, dy, first, last, T_grad, surface, vertices_grad):
    """What the border between two neighbouring samples hands on.

    Args:
        scene, images, T_grad, surface, vertices_grad: as in ``scene_gradient``.
        a, code_a, b, code_b, x, y, dx, dy: as in ``border_kernels.locate_border``.
        first, last: which prefixes show this pair, last excluded.
    """
    what, way, nx, ny, code_a, row_a, code_b, row_b = locate_border(scene, a, code_a, b, code_b, x, y, dx, dy)
    if what == NONE:
        return
    u, v = x + way * dx, y + way * dy
    gradient = step_gradient(scene, images, a, code_a, row_a, b, code_b, row_b, u, v, first, last)
    if gradient == 0.0:
        return
    across = gradient * (nx * dx + ny * dy)
    along, down, away = across * nx, across * ny, 0.0
    for side in range(2):
        if (what == EDGE_OF_A and side == 1) or (what == EDGE_OF_B and side == 0):
            continue
        slot, code, row = (a, code_a, row_a) if side == 0 else (b, code_b, row_b)
        place = barycentric(scene.seen, row, u, v)
        if what == INTERSECTION:
            # q of a plane at a fixed place changes by -q^2 per metre of depth and by -(its slope) per sample of motion
            sign = across if side == 0 else -across
            along, down, away = sign * scene.seen[row, Q], sign * scene.seen[row, Q + 1], sign * place[2] * place[2]
        push(scene, slot, code, place, u, v, along, down, away, T_grad, surface, vertices_grad)


@inlined
def sample_pull(scene, images, k, code, x, y, first, last, T_grad, light_grad, surface, surface_grads):
    """What a sample that shows slot k in the prefixes first..last - 1 hands on.

    Args:
        scene, images, T_grad, light_grad, surface, surface_grads: as in ``scene_gradient``.
        code: what it shows.
        x, y: its place.
    """
    meshes, samples = scene.meshes, scene.samples
    weights_rgb, weights_depth, _ = images
    row, column = scene.top + np.int64(y) // samples, np.int64(x) // samples
    g0, g1, g2, g_depth = 0.0, 0.0, 0.0, 0.0
    if len(weights_rgb):
        scale = 1.0 / (samples * samples)
        for p in range(first, last):
            g0 += weights_rgb[p, row, column, 0] * scale
            g1 += weights_rgb[p, row, column, 1] * scale
            g2 += weights_rgb[p, row, column, 2] * scale
    if len(weights_depth):
        g_depth = np.float64(weights_depth[row, column])
    coloured = g0 != 0.0 or g1 != 0.0 or g2 != 0.0
    if not coloured and g_depth == 0.0:
        return
    face = code >> 1
    seen_row = look(scene, k, face)
    if scene.seen[seen_row, PLAIN] > 0.0 and g_depth == 0.0 and not surface:
        # only the light's motion changes its colour
        rgb, diffuse, seen = meshes.corner_rgb, scene.light[k, 4], scene.seen
        whole = g0 * rgb[face, 0, 0] + g1 * rgb[face, 0, 1] + g2 * rgb[face, 0, 2]
        for i in range(3):
            light_grad[k, i] += whole * diffuse * seen[seen_row, BY_LIGHT + i]
        light_grad[k, 3] += whole
        light_grad[k, 4] += whole * seen[seen_row, COSINE]
        return
    along, down = 0.0, 0.0
    place = barycentric(scene.seen, seen_row, x, y)
    if coloured:
        along, down = shading_pull(scene, k, code, seen_row, place, (g0, g1, g2), light_grad, surface, surface_grads)
    if g_depth != 0.0:
        # z at a fixed place: rises with the material's depth, falls by its own slope times the material's motion
        squared = place[2] * place[2]
        along += g_depth * scene.seen[seen_row, Q] / squared
        down += g_depth * scene.seen[seen_row, Q + 1] / squared
    push(scene, k, code, place, x, y, along, down, g_depth, T_grad, surface, surface_grads[0])


@inlined
def scene_gradient(scene, images, boxes, codes, winners, rows, T_grad, light_grad, surface, surface_grads):
    """Gradient of one band of one scene.

    Args:
        scene: border_kernels.Scene.
        images: gradients by the prefix images [p h w 3], by the depth image [h w] and by the masks [n h w]; empty ones where
            there is none.  Depth only with one sample a pixel, depth and masks only with one prefix.
        boxes: [n 4] what each layer may cover, in samples of the band.
        codes: [n hs ws] int32, what each layer shows there.
        winners: [p hs ws] int8: slot that is seen, -1 the background.
        rows: rows of samples that belong to the band; if there is one more in ``codes``, it is the next band's first.
        T_grad: [n 3 4] float64, added to.
        light_grad: [n 6] float64, added to: by direction or position, ambient, diffuse.
        surface: whether to add to ``surface_grads``.
        surface_grads: vertices [v 3], corner colours [f 3 3], corner normals [f 3 3], float64.
    """
    prefixes, height, width = winners.shape
    full = prefixes - 1
    r_first, r_last, c_first, c_last = height, -1, width, -1
    for k in range(len(boxes)):
        if boxes[k, 1] >= boxes[k, 0]:
            r_first, r_last = min(r_first, boxes[k, 0] - 1), max(r_last, boxes[k, 1])
            c_first, c_last = min(c_first, boxes[k, 2] - 1), max(c_last, boxes[k, 3])
    for r in range(max(r_first, 0), min(r_last, rows - 1) + 1):
        below = min(r + 1, height - 1)
        for c in range(max(c_first, 0), c_last + 1):
            if winners[full, r, c] < 0 and winners[full, below, c] < 0 and winners[full, r, min(c + 1, width - 1)] < 0:
                continue
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
                        if a != b or not joined(scene, a, code_a, code_b):
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


@inlined
def joined(scene, k, code_a, code_b):
    """Whether two samples of slot k show the same face, or neighbours with no step between them."""
    if code_a == code_b:
        return True
    other = (code_b >> 1) - scene.meshes.face_start[scene.class_ids[k]]
    near, face = scene.meshes.smooth_across, code_a >> 1
    return (code_a ^ code_b) & 1 == 0 and (near[face, 0] == other or near[face, 1] == other or near[face, 2] == other)
