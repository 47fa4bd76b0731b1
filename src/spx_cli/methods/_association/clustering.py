"""Compiled kernels of SSN's clustering and of its gradients, over cells first..last of all images.

They work on tiles: the pixels of a cell side by side, channel by channel, so that loops over them vectorise.
"""

import numpy as np
from numba import njit

from spx_cli.methods._association.grid import EPSILON

_CHUNK = 256  # pixels whose nine weights and features stay in the first-level cache

# Sums may be reordered, so that they vectorise; results stay the same from run to run and for any number of threads.
fast = njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")


@fast
def to_tiles(first, last, x, rows, columns, origin, tiles):
    """x (B, H, W, C) -> tiles (B * cells, C, area) less origin (B * cells, C). Pixels of a cell in raster order."""
    width, cells = len(columns) - 1, (len(rows) - 1) * (len(columns) - 1)
    channels = x.shape[3]
    for tile in range(first, last):
        b, cell = divmod(tile, cells)
        i, j = divmod(cell, width)
        p = 0
        for y in range(rows[i], rows[i + 1]):
            for k in range(columns[j], columns[j + 1]):
                for c in range(channels):
                    tiles[tile, c, p] = x[b, y, k, c] - origin[tile, c]
                p += 1


@fast
def from_tiles(first, last, tiles, rows, columns, x):
    """tiles (B * cells, C, area) -> x (B, H, W, C)."""
    width, cells = len(columns) - 1, (len(rows) - 1) * (len(columns) - 1)
    channels = x.shape[3]
    for tile in range(first, last):
        b, cell = divmod(tile, cells)
        i, j = divmod(cell, width)
        p = 0
        for y in range(rows[i], rows[i + 1]):
            for k in range(columns[j], columns[j + 1]):
                for c in range(channels):
                    x[b, y, k, c] = tiles[tile, c, p]
                p += 1


# Blocks of pixels are given as rows with a first pixel and a number: sliced in two axes, an array would lose its known
# stride of one, and the loops over pixels would not vectorise.


@fast
def _product(left, right, start, n, out):
    """Add left (9, C) @ right (C, start : start + n) to out (9, : n)."""
    channels = right.shape[0]
    fours = channels - channels % 4
    for j in range(9):
        row = out[j, :n]
        for c in range(0, fours, 4):
            k0, k1, k2, k3 = left[j, c], left[j, c + 1], left[j, c + 2], left[j, c + 3]
            r0, r1 = right[c, start : start + n], right[c + 1, start : start + n]
            r2, r3 = right[c + 2, start : start + n], right[c + 3, start : start + n]
            for p in range(n):
                row[p] += k0 * r0[p] + k1 * r1[p] + k2 * r2[p] + k3 * r3[p]
        for c in range(fours, channels):
            k0, r0 = left[j, c], right[c, start : start + n]
            for p in range(n):
                row[p] += k0 * r0[p]


@fast
def _product_transposed(left, right, start, n, out):
    """Add left (9, : n) @ right (C, start : start + n) transposed to out (9, C)."""
    channels = right.shape[0]
    fours = channels - channels % 4
    for j in range(9):
        row = left[j, :n]
        for c in range(0, fours, 4):
            r0, r1 = right[c, start : start + n], right[c + 1, start : start + n]
            r2, r3 = right[c + 2, start : start + n], right[c + 3, start : start + n]
            s0 = s1 = s2 = s3 = np.float32(0)
            for p in range(n):
                s0 += row[p] * r0[p]
                s1 += row[p] * r1[p]
                s2 += row[p] * r2[p]
                s3 += row[p] * r3[p]
            out[j, c] += s0
            out[j, c + 1] += s1
            out[j, c + 2] += s2
            out[j, c + 3] += s3
        for c in range(fours, channels):
            r0 = right[c, start : start + n]
            s0 = np.float32(0)
            for p in range(n):
                s0 += row[p] * r0[p]
            out[j, c] += s0


@fast
def _spread_product(left, right, first, out, start, n):
    """Add left (9, C) transposed @ right (9, first : first + n) to out (C, start : start + n)."""
    r0, r1, r2 = right[0, first : first + n], right[1, first : first + n], right[2, first : first + n]
    r3, r4, r5 = right[3, first : first + n], right[4, first : first + n], right[5, first : first + n]
    r6, r7, r8 = right[6, first : first + n], right[7, first : first + n], right[8, first : first + n]
    for c in range(out.shape[0]):
        k0, k1, k2, k3, k4 = left[0, c], left[1, c], left[2, c], left[3, c], left[4, c]
        k5, k6, k7, k8 = left[5, c], left[6, c], left[7, c], left[8, c]
        row = out[c, start : start + n]
        for p in range(n):
            row[p] += (
                k0 * r0[p] + k1 * r1[p] + k2 * r2[p] + k3 * r3[p] + k4 * r4[p]
                + k5 * r5[p] + k6 * r6[p] + k7 * r7[p] + k8 * r8[p]
            )  # fmt: skip


_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOWEST = np.float32(-87.0)


@fast
def _softmax(z, n, bits):
    """Replace z (9, : n) by its softmax over the first axis; bits (n,) int32 is scratch. exp is that of Cephes."""
    power = bits.view(np.float32)
    top, total = np.empty(n, np.float32), np.zeros(n, np.float32)
    top[:] = z[0, :n]
    for j in range(1, 9):
        row = z[j, :n]
        for p in range(n):
            top[p] = max(top[p], row[p])
    for j in range(9):
        row = z[j, :n]
        for p in range(n):
            x = max(row[p] - top[p], _LOWEST)
            k = np.int32(x * _LOG2E - np.float32(0.5))
            kf = np.float32(k)
            x = x - kf * _LN2_HIGH - kf * _LN2_LOW
            y = np.float32(1.9875691500e-4)
            y = y * x + np.float32(1.3981999507e-3)
            y = y * x + np.float32(8.3334519073e-3)
            y = y * x + np.float32(4.1665795894e-2)
            y = y * x + np.float32(1.6666665459e-1)
            y = y * x + np.float32(5.0000001201e-1)
            row[p] = y * x * x + x + np.float32(1)
            bits[p] = (k + np.int32(127)) << np.int32(23)
        for p in range(n):
            row[p] *= power[p]
            total[p] += row[p]
    for p in range(n):
        total[p] = np.float32(1) / total[p]
    for j in range(9):
        row = z[j, :n]
        for p in range(n):
            row[p] *= total[p]


_OUTSIDE = np.float32(-1e30)


@fast
def _near(tile, means, origin, table, near, bias):
    """near (9, C): the centres around a cell less its origin; bias (9,): minus their squares, or -1e30 off the grid."""
    cells, channels = table.shape[0], means.shape[1]
    base = tile - tile % cells
    for j in range(9):
        g = table[tile % cells, j]
        bias[j] = 0 if g >= 0 else _OUTSIDE
        for c in range(channels):
            near[j, c] = means[base + g, c] - origin[tile, c] if g >= 0 else np.float32(0)
            bias[j] -= near[j, c] * near[j, c]


@fast
def _area(tile, rows, columns):
    width, cells = len(columns) - 1, (len(rows) - 1) * (len(columns) - 1)
    i, j = divmod(tile % cells, width)
    return (rows[i + 1] - rows[i]) * (columns[j + 1] - columns[j])


@fast
def _scores(near, bias, pixels, start, n, z):
    """z (9, : n): minus the squared distances of n pixels (C, area) to near (9, C), up to a constant per pixel."""
    for j in range(9):
        z[j, :n] = bias[j]
    _product(near * np.float32(2), pixels, start, n, z)


@fast
def associate(first, last, tiles, means, origin, table, rows, columns, q, sums):
    """One association. tiles (T, C, area) -> q (T, 9, area) or none; sums (T, 9, C + 1) of q times (features, 1)."""
    channels = tiles.shape[1]
    near, bias = np.empty((9, channels), np.float32), np.empty(9, np.float32)
    z, bits = np.empty((9, _CHUNK), np.float32), np.empty(_CHUNK, np.int32)
    part = np.empty((9, channels), np.float32)
    for tile in range(first, last):
        _near(tile, means, origin, table, near, bias)
        area = _area(tile, rows, columns)
        part[:] = 0
        sums[tile] = 0
        pixels = tiles[tile]
        if len(q):
            q[tile, :, area:] = 0
        for start in range(0, area, _CHUNK):
            n = min(_CHUNK, area - start)
            _scores(near, bias, pixels, start, n, z)
            _softmax(z, n, bits)
            _product_transposed(z, pixels, start, n, part)
            for j in range(9):
                row, total = z[j, :n], np.float32(0)
                if len(q):
                    q[tile, j, start : start + n] = row
                for p in range(n):
                    total += row[p]
                sums[tile, j, channels] += total
        for j in range(9):
            for c in range(channels):
                sums[tile, j, c] = part[j, c] + sums[tile, j, channels] * origin[tile, c]


@fast
def nearest(first, last, tiles, means, origin, table, rows, columns, labels):
    """tiles (T, C, area) -> labels (B, H, W): the nearest of the nine centres, the first of equals."""
    cells, channels, width = table.shape[0], tiles.shape[1], len(columns) - 1
    near, bias = np.empty((9, channels), np.float32), np.empty(9, np.float32)
    z, best = np.empty((9, _CHUNK), np.float32), np.empty(_CHUNK, np.int32)
    for tile in range(first, last):
        _near(tile, means, origin, table, near, bias)
        b, cell = divmod(tile, cells)
        i, j = divmod(cell, width)
        y, x = rows[i], columns[j]
        area = _area(tile, rows, columns)
        for start in range(0, area, _CHUNK):
            n = min(_CHUNK, area - start)
            _scores(near, bias, tiles[tile], start, n, z)
            top = z[0]
            best[:n] = 0
            for k in range(1, 9):
                row = z[k]
                for p in range(n):
                    if row[p] > top[p]:
                        top[p] = row[p]
                        best[p] = k
            for p in range(n):
                labels[b, y, x] = table[cell, best[p]]
                x += 1
                if x == columns[j + 1]:
                    x = columns[j]
                    y += 1


@fast
def update(first, last, sums, table, means, weights):
    """Turn sums (T, 9, C + 1) into means (T, C), weights (T,)."""
    cells, channels = table.shape[0], means.shape[1]
    total = np.empty(channels + 1, np.float32)
    for tile in range(first, last):
        base = tile - tile % cells
        total[:] = 0
        for j in range(9):
            g = table[tile % cells, j]
            if g >= 0:
                # This cell is neighbour 8 - j of its neighbour j.
                total += sums[base + g, 8 - j]
        weights[tile] = total[channels] + np.float32(EPSILON)
        means[tile] = total[:channels] / weights[tile]


@fast
def gather(first, last, sums, table, out):
    """Add sums (T, 9, C + 1) up by superpixel, out (T, C)."""
    cells, channels = table.shape[0], out.shape[1]
    for tile in range(first, last):
        base = tile - tile % cells
        out[tile] = 0
        for j in range(9):
            g = table[tile % cells, j]
            if g >= 0:
                out[tile] += sums[base + g, 8 - j, :channels]


@fast
def associate_backward(
    first, last, tiles, means, origin, table, rows, columns, q, new, weights, grad_new, dq, grad_tiles, sums
):
    """Gradients of one association and update: grad_tiles (T, C, area) grows, sums (T, 9, C + 1) for the old means.

    new, grad_new (T, C): the updated means and the gradient that reaches them; dq (T, 9, area): what reaches q.
    """
    cells, channels = table.shape[0], tiles.shape[1]
    near, bias = np.empty((9, channels), np.float32), np.empty(9, np.float32)
    pull, shift = np.zeros((9, channels), np.float32), np.zeros(9, np.float32)
    grad, part = np.empty((9, _CHUNK), np.float32), np.empty((9, channels), np.float32)
    mean, total = np.empty(_CHUNK, np.float32), np.empty(9, np.float32)
    for tile in range(first, last):
        base = tile - tile % cells
        _near(tile, means, origin, table, near, bias)
        for j in range(9):
            g = table[tile % cells, j]
            shift[j] = 0
            for c in range(channels):
                # d mean / d q = (feature - mean) / weight, d mean / d feature = q / weight
                pull[j, c] = grad_new[base + g, c] / weights[base + g] if g >= 0 else np.float32(0)
                shift[j] -= pull[j, c] * (new[base + g, c] - origin[tile, c]) if g >= 0 else np.float32(0)
        part[:] = 0
        total[:] = 0
        pixels, out, area = tiles[tile], grad_tiles[tile], _area(tile, rows, columns)
        for start in range(0, area, _CHUNK):
            n = min(_CHUNK, area - start)
            mean[:n] = 0
            for j in range(9):
                row, incoming = grad[j, :n], dq[tile, j, start : start + n]
                for p in range(n):
                    row[p] = incoming[p] + shift[j]
            _product(pull, pixels, start, n, grad)
            for j in range(9):
                row, weight = grad[j, :n], q[tile, j, start : start + n]
                for p in range(n):
                    mean[p] += weight[p] * row[p]
            for j in range(9):
                row, weight = grad[j, :n], q[tile, j, start : start + n]
                all_of_it = np.float32(0)
                for p in range(n):
                    # softmax backward, times 2: scores hold minus the squares of the distances
                    row[p] = np.float32(2) * weight[p] * (row[p] - mean[p])
                    all_of_it += row[p]
                total[j] += all_of_it
            _spread_product(pull, q[tile], start, out, start, n)
            _spread_product(near, grad, 0, out, start, n)
            _product_transposed(grad, pixels, start, n, part)
        for j in range(9):
            for c in range(channels):
                sums[tile, j, c] = part[j, c] - total[j] * near[j, c]
            sums[tile, j, channels] = 0
