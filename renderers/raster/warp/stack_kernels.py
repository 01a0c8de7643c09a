# type: ignore  # device code: its types are checked by Warp's compiler
"""Warp kernels that merge layers: images of prefixes, ids at the pixels' centres, masks, errors of replacements.

A stack is n layers of every scene one after the other; one thread works on one pixel and its samples.
"""

import warp as wp

from renderers.raster.warp.face_kernels import Layout, inverse_depth_of

wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@wp.func
def front_slot(
    keys: wp.array3d(dtype=wp.int64), base: wp.int32, count: wp.int32, without: wp.int32, row: wp.int32, column: wp.int32
) -> wp.int32:
    """The nearest of a scene's first ``count`` layers at a sample, -1 where there is none.

    Args:
        keys: [layers hs ws].
        base: the scene's first layer.
        count: how many of its layers count.
        without: a slot that is left out, -1 for none.
        row, column: the sample.
    """
    best = wp.float32(0.0)
    slot = wp.int32(-1)
    for j in range(count):
        if j != without:
            q = inverse_depth_of(keys[base + j, row, column])
            if q > best:
                best = q
                slot = j
    return slot


@wp.func
def merged_pixel(
    keys: wp.array3d(dtype=wp.int64),
    rgb: wp.array3d(dtype=wp.vec3),
    background: wp.vec3,
    base: wp.int32,
    count: wp.int32,
    without: wp.int32,
    row: wp.int32,
    column: wp.int32,
    samples: wp.int32,
) -> wp.vec3:
    """Colour of a pixel that shows a scene's first ``count`` layers; arguments as of ``front_slot``, row and column in pixels."""
    total = wp.vec3(0.0, 0.0, 0.0)
    for i in range(samples * samples):
        r = row * samples + i // samples
        c = column * samples + i % samples
        slot = front_slot(keys, base, count, without, r, c)
        if slot >= 0:
            total += rgb[base + slot, r, c] - background
    return background + total / wp.float32(samples * samples)


@wp.func
def touches(keys: wp.array3d(dtype=wp.int64), layer: wp.int32, row: wp.int32, column: wp.int32, samples: wp.int32) -> wp.int32:
    """Whether a layer covers any sample of a pixel."""
    for i in range(samples * samples):
        if keys[layer, row * samples + i // samples, column * samples + i % samples] != wp.int64(0):
            return 1
    return 0


@wp.kernel
def merge_prefixes(
    layout: Layout,
    keys: wp.array3d(dtype=wp.int64),
    rgb: wp.array3d(dtype=wp.vec3),
    background: wp.array3d(dtype=wp.vec3),
    first_prefix: wp.int32,
    canvases: wp.array4d(dtype=wp.vec3),
):
    """Images of the first first_prefix, ..., n objects.  Launched with [scenes h w] threads.

    Args:
        layout: of the stack.
        keys, rgb: [layers hs ws].
        background: [scenes h w].
        first_prefix: the first count whose canvas is wanted.
        canvases: [scenes n + 1 - first_prefix h w], filled.
    """
    scene, row, column = wp.tid()
    slots = layout.layers_per_scene
    base = scene * slots
    behind = background[scene, row, column]
    colour = behind
    changed = wp.int32(0)
    for count in range(slots + 1):
        if count > 0:
            changed = wp.max(changed, touches(keys, base + count - 1, row, column, layout.samples))
        if count >= first_prefix:
            if changed == 1:
                colour = merged_pixel(keys, rgb, behind, base, count, -1, row, column, layout.samples)
                changed = 0
            canvases[scene, count - first_prefix, row, column] = colour


@wp.kernel
def find_visible(
    layout: Layout,
    keys: wp.array3d(dtype=wp.int64),
    depth_m: wp.array3d(dtype=wp.float32),
    object_ids: wp.array3d(dtype=wp.int64),
):
    """Depth (0 where empty) and slot (-1 where empty) of a stack with one sample a pixel.  Launched with [scenes h w] threads."""
    scene, row, column = wp.tid()
    base = scene * layout.layers_per_scene
    slot = front_slot(keys, base, layout.layers_per_scene, -1, row, column)
    object_ids[scene, row, column] = wp.int64(slot)
    depth_m[scene, row, column] = 0.0
    if slot >= 0:
        depth_m[scene, row, column] = 1.0 / inverse_depth_of(keys[base + slot, row, column])


@wp.kernel
def share_samples(layout: Layout, keys: wp.array3d(dtype=wp.int64), masks: wp.array4d(dtype=wp.float32)):
    """Share of each pixel's samples in which each object is seen.  Launched with [scenes h w] threads.

    Args:
        layout: of the stack.
        keys: [layers hs ws].
        masks: [scenes n h w], 0 on entry, filled.
    """
    scene, row, column = wp.tid()
    slots = layout.layers_per_scene
    samples = layout.samples
    for i in range(samples * samples):
        slot = front_slot(keys, scene * slots, slots, -1, row * samples + i // samples, column * samples + i % samples)
        if slot >= 0:
            masks[scene, slot, row, column] = masks[scene, slot, row, column] + 1.0 / wp.float32(samples * samples)


@wp.kernel
def residuals_without(
    layout: Layout,
    keys: wp.array3d(dtype=wp.int64),
    rgb: wp.array3d(dtype=wp.vec3),
    background: wp.array3d(dtype=wp.vec3),
    target: wp.array3d(dtype=wp.vec3),
    residual: wp.array4d(dtype=wp.vec3),
):
    """Canvases of each prefix without one of its slots, minus the target.  Launched with [scenes * n h w] threads.

    Args:
        layout: of the stack.
        keys, rgb: [layers hs ws].
        background, target: [scenes h w].
        residual: [scenes * n, n + 1 h w], filled; 0 for prefixes that do not hold the slot.
    """
    layer, row, column = wp.tid()
    slots = layout.layers_per_scene
    scene = layer // slots
    without = layer % slots
    behind = background[scene, row, column]
    for count in range(slots + 1):
        if count <= without:
            residual[layer, count, row, column] = wp.vec3(0.0, 0.0, 0.0)
        else:
            colour = merged_pixel(keys, rgb, behind, scene * slots, count, without, row, column, layout.samples)
            residual[layer, count, row, column] = colour - target[scene, row, column]


@wp.func
def replaced_change(
    keys: wp.array3d(dtype=wp.int64),
    rgb: wp.array3d(dtype=wp.vec3),
    other_key: wp.int64,
    other_rgb: wp.vec3,
    background: wp.vec3,
    base: wp.int32,
    count: wp.int32,
    without: wp.int32,
    row: wp.int32,
    column: wp.int32,
) -> wp.vec3:
    """Colour of a sample with a replacement in slot ``without``, minus that without it."""
    slot = front_slot(keys, base, count, without, row, column)
    behind = background
    if slot >= 0:
        if inverse_depth_of(keys[base + slot, row, column]) >= inverse_depth_of(other_key):
            return wp.vec3(0.0, 0.0, 0.0)
        behind = rgb[base + slot, row, column]
    return other_rgb - behind


@wp.kernel
def swap_changes(
    layout: Layout,
    keys: wp.array3d(dtype=wp.int64),
    rgb: wp.array3d(dtype=wp.vec3),
    other_keys: wp.array3d(dtype=wp.int64),
    other_rgb: wp.array3d(dtype=wp.vec3),
    background: wp.array3d(dtype=wp.vec3),
    residual: wp.array4d(dtype=wp.vec3),
    alternatives: wp.int32,
    lanes: wp.int32,
    change: wp.array3d(dtype=wp.float32),
):
    """What each alternative adds to the squared errors of ``residuals_without``.  [scenes * n * alternatives, lanes] threads.

    Args:
        layout: of the stack.
        keys, rgb: [layers hs ws], the stack.
        other_keys, other_rgb: [layers * alternatives hs ws].
        background: [scenes h w].
        residual: from ``residuals_without``.
        alternatives: for each slot.
        lanes: threads of an alternative; each takes every lanes-th pixel.
        change: [layers * alternatives, n + 1 lanes], 0 on entry, filled with sums over each thread's pixels.
    """
    other, lane = wp.tid()
    layer = other // alternatives
    slots = layout.layers_per_scene
    scene = layer // slots
    without = layer % slots
    samples = layout.samples
    width = layout.columns // samples
    for pixel in range(lane, width * (layout.rows // samples), lanes):
        row = pixel // width
        column = pixel % width
        if touches(other_keys, other, row, column, samples) == 1:
            for count in range(without + 1, slots + 1):
                d = wp.vec3(0.0, 0.0, 0.0)
                for i in range(samples * samples):
                    r = row * samples + i // samples
                    c = column * samples + i % samples
                    key = other_keys[other, r, c]
                    if key != wp.int64(0):
                        d += replaced_change(
                            keys,
                            rgb,
                            key,
                            other_rgb[other, r, c],
                            background[scene, row, column],
                            scene * slots,
                            count,
                            without,
                            r,
                            c,
                        )
                d = d / wp.float32(samples * samples)
                extra = wp.dot(d, d + 2.0 * residual[layer, count, row, column])
                change[other, count, lane] = change[other, count, lane] + extra
