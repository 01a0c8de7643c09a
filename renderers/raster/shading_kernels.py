"""Compiled shading of one sample: its colour, and how that changes with the place on the face and with the light.

Colour = albedo * (ambient + diffuse * max(0, n . l)); albedo is the corners' colours, interpolated, times the texture.
A place on a face is its barycentric coordinates b1 and b2 of corners 1 and 2 (b0 = 1 - b1 - b2).

``light`` is six numbers: direction to the light, or its position, in the object's frame; ambient; diffuse; 1 where it is a
position.

All of it runs once a sample: functions are inlined, take scalars rather than rows, and index arrays in place, because the
compiler's bookkeeping for a view or for a call that hands on a dozen arrays takes longer than what they compute.
"""

from __future__ import annotations

import numpy as np

from inverse_graphics.compiled import inlined


@inlined
def corner(meshes, class_id, face, i):
    """Position of a face's corner in the object's frame (metres)."""
    v = meshes.vertex_start[class_id] + meshes.faces[face, i]
    return meshes.vertices_m[v, 0], meshes.vertices_m[v, 1], meshes.vertices_m[v, 2]


@inlined
def light_at(light, k):
    """The light of slot k of [n 6] as six numbers."""
    return light[k, 0], light[k, 1], light[k, 2], light[k, 3], light[k, 4], light[k, 5]


@inlined
def mix(a, b, c, b0, b1, b2):
    """Interpolate three corners' values."""
    return b0 * a + b1 * b + b2 * c


@inlined
def mix_at(values, face, channel, b0, b1, b2):
    """Interpolate one channel of [f 3 c] over a face."""
    return b0 * values[face, 0, channel] + b1 * values[face, 1, channel] + b2 * values[face, 2, channel]


@inlined
def place_on(meshes, class_id, face, b0, b1, b2):
    """Point of a face in the object's frame (metres)."""
    x0, y0, z0 = corner(meshes, class_id, face, 0)
    x1, y1, z1 = corner(meshes, class_id, face, 1)
    x2, y2, z2 = corner(meshes, class_id, face, 2)
    return mix(x0, x1, x2, b0, b1, b2), mix(y0, y1, y2, b0, b1, b2), mix(z0, z1, z2, b0, b1, b2)


@inlined
def texel_square(meshes, class_id, face, b0, b1, b2):
    """The four texels round a place: their indices, and the place between them (0..1, columns and rows)."""
    height, width = meshes.textures[class_id, 1], meshes.textures[class_id, 2]
    x = mix_at(meshes.corner_uv, face, 0, b0, b1, b2) * width - 0.5
    y = (1.0 - mix_at(meshes.corner_uv, face, 1, b0, b1, b2)) * height - 0.5
    column, row = np.floor(x), np.floor(y)
    c0, r0 = np.int64(column) % width, np.int64(row) % height
    c1, r1 = (c0 + 1) % width, (r0 + 1) % height
    start = np.int64(meshes.textures[class_id, 0])
    upper, lower = start + r0 * width, start + r1 * width
    return upper + c0, upper + c1, lower + c0, lower + c1, x - column, y - row


@inlined
def bilinear(texels, i, j, m, n, along, down, channel):
    """One channel between four texels."""
    upper = (1 - along) * texels[i, channel] + along * texels[j, channel]
    lower = (1 - along) * texels[m, channel] + along * texels[n, channel]
    return texels.dtype.type((1 - down) * upper + down * lower)


@inlined
def shade(meshes, class_id, code, b1, b2, light):
    """Colour of a place on a face.

    Args:
        meshes: PackedMeshes.
        class_id: which mesh.
        code: 2 * face, plus 1 where the face is seen from behind (its normal is then turned round).
        b1, b2: the place.
        light: six numbers.
    """
    f = code >> 1
    b0 = np.float32(1.0) - b1 - b2
    red = mix_at(meshes.corner_rgb, f, 0, b0, b1, b2)
    green = mix_at(meshes.corner_rgb, f, 1, b0, b1, b2)
    blue = mix_at(meshes.corner_rgb, f, 2, b0, b1, b2)
    if meshes.textures[class_id, 1] > 0:
        i, j, m, n, along, down = texel_square(meshes, class_id, f, b0, b1, b2)
        t = meshes.texels
        red *= bilinear(t, i, j, m, n, along, down, 0)
        green *= bilinear(t, i, j, m, n, along, down, 1)
        blue *= bilinear(t, i, j, m, n, along, down, 2)
    nx, ny, nz = normal_at(meshes, f, b0, b1, b2)
    lx, ly, lz = light[0], light[1], light[2]
    if light[5] > 0:
        x, y, z = place_on(meshes, class_id, f, b0, b1, b2)
        lx, ly, lz = lx - x, ly - y, lz - z
        scale = np.float32(1.0) / np.sqrt(max(lx * lx + ly * ly + lz * lz, np.float32(1e-24)))
        lx, ly, lz = lx * scale, ly * scale, lz * scale
    cosine = (nx * lx + ny * ly + nz * lz) / np.sqrt(max(nx * nx + ny * ny + nz * nz, np.float32(1e-24)))
    if code & 1:
        cosine = -cosine
    level = light[3] + light[4] * max(np.float32(0.0), cosine)
    return level * red, level * green, level * blue


@inlined
def normal_at(meshes, face, b0, b1, b2):
    """Interpolated normal, not of unit length."""
    return (
        mix_at(meshes.corner_normals, face, 0, b0, b1, b2),
        mix_at(meshes.corner_normals, face, 1, b0, b1, b2),
        mix_at(meshes.corner_normals, face, 2, b0, b1, b2),
    )


@inlined
def rise(values, face, i, channel):
    """How much one channel of [f 3 c] rises from corner 0 to corner i."""
    return values[face, i, channel] - values[face, 0, channel]


@inlined
def albedo_slopes(meshes, class_id, face, b0, b1, b2):
    """Albedo, its derivatives by b1 and b2, and the texture's own value (1 without one); three channels each."""
    k = meshes.corner_rgb
    a0, a1, a2 = mix_at(k, face, 0, b0, b1, b2), mix_at(k, face, 1, b0, b1, b2), mix_at(k, face, 2, b0, b1, b2)
    p0, p1, p2 = rise(k, face, 1, 0), rise(k, face, 1, 1), rise(k, face, 1, 2)
    s0, s1, s2 = rise(k, face, 2, 0), rise(k, face, 2, 1), rise(k, face, 2, 2)
    if meshes.textures[class_id, 1] == 0:
        return (a0, a1, a2), (p0, p1, p2), (s0, s1, s2), (1.0, 1.0, 1.0)
    i, j, m, n, along, down = texel_square(meshes, class_id, face, b0, b1, b2)
    uv = meshes.corner_uv
    height, width = meshes.textures[class_id, 1], meshes.textures[class_id, 2]
    x1, x2 = rise(uv, face, 1, 0) * width, rise(uv, face, 2, 0) * width
    y1, y2 = -rise(uv, face, 1, 1) * height, -rise(uv, face, 2, 1) * height
    t0, tx0, ty0 = texel_slopes(meshes.texels, i, j, m, n, along, down, 0)
    t1, tx1, ty1 = texel_slopes(meshes.texels, i, j, m, n, along, down, 1)
    t2, tx2, ty2 = texel_slopes(meshes.texels, i, j, m, n, along, down, 2)
    return (
        (a0 * t0, a1 * t1, a2 * t2),
        (p0 * t0 + a0 * (tx0 * x1 + ty0 * y1), p1 * t1 + a1 * (tx1 * x1 + ty1 * y1), p2 * t2 + a2 * (tx2 * x1 + ty2 * y1)),
        (s0 * t0 + a0 * (tx0 * x2 + ty0 * y2), s1 * t1 + a1 * (tx1 * x2 + ty1 * y2), s2 * t2 + a2 * (tx2 * x2 + ty2 * y2)),
        (t0, t1, t2),
    )


@inlined
def texel_slopes(texels, i, j, m, n, along, down, channel):
    """Bilinear value and its derivatives by column and row (texels)."""
    upper = (1 - along) * texels[i, channel] + along * texels[j, channel]
    lower = (1 - along) * texels[m, channel] + along * texels[n, channel]
    rising = (1 - down) * (texels[j, channel] - texels[i, channel]) + down * (texels[n, channel] - texels[m, channel])
    return (1 - down) * upper + down * lower, rising, lower - upper


@inlined
def cosine_slopes(meshes, class_id, code, b0, b1, b2, light):
    """Cosine of the light where positive (else all 0), and its derivatives.

    Returns:
        The cosine; its derivatives by b1, by b2, by the light's direction or position, and by the interpolated normal.
    """
    f = code >> 1
    nx, ny, nz = normal_at(meshes, f, b0, b1, b2)
    length = np.sqrt(max(nx * nx + ny * ny + nz * nz, 1e-24))
    turned = -1.0 / length if code & 1 else 1.0 / length
    ux, uy, uz = nx * turned, ny * turned, nz * turned
    lx, ly, lz = np.float64(light[0]), np.float64(light[1]), np.float64(light[2])
    reach = 0.0
    if light[5] > 0:
        x, y, z = place_on(meshes, class_id, f, b0, b1, b2)
        lx, ly, lz = lx - x, ly - y, lz - z
        reach = 1.0 / np.sqrt(max(lx * lx + ly * ly + lz * lz, 1e-24))
        lx, ly, lz = lx * reach, ly * reach, lz * reach
    cosine = ux * lx + uy * ly + uz * lz
    if cosine <= 0.0:
        return 0.0, 0.0, 0.0, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)
    n = meshes.corner_normals
    # by the interpolated normal
    mx, my, mz = turned * (lx - cosine * ux), turned * (ly - cosine * uy), turned * (lz - cosine * uz)
    by_1 = mx * rise(n, f, 1, 0) + my * rise(n, f, 1, 1) + mz * rise(n, f, 1, 2)
    by_2 = mx * rise(n, f, 2, 0) + my * rise(n, f, 2, 1) + mz * rise(n, f, 2, 2)
    if reach == 0.0:
        return cosine, by_1, by_2, (ux, uy, uz), (mx, my, mz)
    px, py, pz = reach * (ux - cosine * lx), reach * (uy - cosine * ly), reach * (uz - cosine * lz)
    x0, y0, z0 = corner(meshes, class_id, f, 0)
    x1, y1, z1 = corner(meshes, class_id, f, 1)
    x2, y2, z2 = corner(meshes, class_id, f, 2)
    by_1 -= px * (x1 - x0) + py * (y1 - y0) + pz * (z1 - z0)
    by_2 -= px * (x2 - x0) + py * (y2 - y0) + pz * (z2 - z0)
    return cosine, by_1, by_2, (px, py, pz), (mx, my, mz)
