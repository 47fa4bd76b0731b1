"""Compiled kernels of sums between pixels and the nine cells around each by given weights, over images first..last."""

import numpy as np

from spx_cli.methods._association.clustering import fast
from spx_cli.methods._association.grid import EPSILON


@fast
def best(first, last, q, index, table, out):
    """q (B, H, W, 9), index (H, W) -> out (B, H, W), line by line."""
    for line in range(first, last):
        b, y = divmod(line, q.shape[1])
        for x in range(q.shape[2]):
            near, best = table[index[y, x]], -1
            for j in range(9):
                if near[j] >= 0 and (best < 0 or q[b, y, x, j] > q[b, y, x, best]):
                    best = j
            out[b, y, x] = near[best]


@fast
def add_up(first, last, q, x, table, rows, columns, out):
    """q (B, H, W, 9), x (B, H, W, D) -> out (B, cells, D)."""
    for b in range(first, last):
        for cell in range(len(table)):
            i, j = divmod(cell, len(columns) - 1)
            for y in range(rows[i], rows[i + 1]):
                for k in range(columns[j], columns[j + 1]):
                    for n in range(9):
                        g = table[cell, n]
                        if g >= 0:
                            for d in range(x.shape[3]):
                                out[b, g, d] += q[b, y, k, n] * x[b, y, k, d]


@fast
def unpool(first, last, q, values, table, rows, columns, out):
    """q (B, H, W, 9), values (B, cells, D) -> out (B, H, W, D)."""
    for b in range(first, last):
        for cell in range(len(table)):
            i, j = divmod(cell, len(columns) - 1)
            for y in range(rows[i], rows[i + 1]):
                for k in range(columns[j], columns[j + 1]):
                    for n in range(9):
                        g = table[cell, n]
                        if g >= 0:
                            for d in range(values.shape[2]):
                                out[b, y, k, d] += q[b, y, k, n] * values[b, g, d]


@fast
def inner(first, last, values, x, table, rows, columns, out):
    """values (B, cells, D), x (B, H, W, D) -> out (B, H, W, 9), their inner products."""
    for b in range(first, last):
        for cell in range(len(table)):
            i, j = divmod(cell, len(columns) - 1)
            for y in range(rows[i], rows[i + 1]):
                for k in range(columns[j], columns[j + 1]):
                    for n in range(9):
                        g = table[cell, n]
                        if g >= 0:
                            for d in range(x.shape[3]):
                                out[b, y, k, n] += values[b, g, d] * x[b, y, k, d]


@fast
def agree(first, last, q, truth, table, rows, columns, share, mass, out):
    """q (B, H, W, 9), truth (B, H, W) -> share (B, cells, labels), mass (B, cells), out (B, H, W)."""
    for b in range(first, last):
        for cell in range(len(table)):
            i, j = divmod(cell, len(columns) - 1)
            for y in range(rows[i], rows[i + 1]):
                for k in range(columns[j], columns[j + 1]):
                    label = truth[b, y, k]
                    if label >= 0:
                        for n in range(9):
                            g = table[cell, n]
                            if g >= 0:
                                share[b, g, label] += q[b, y, k, n]
        for cell in range(len(table)):
            mass[b, cell] = share[b, cell].sum() + np.float32(EPSILON)
            share[b, cell] /= mass[b, cell]
        for cell in range(len(table)):
            i, j = divmod(cell, len(columns) - 1)
            for y in range(rows[i], rows[i + 1]):
                for k in range(columns[j], columns[j + 1]):
                    label = truth[b, y, k]
                    total = np.float32(1)
                    if label >= 0:
                        total = np.float32(0)
                        for n in range(9):
                            g = table[cell, n]
                            if g >= 0:
                                total += q[b, y, k, n] * share[b, g, label]
                    out[b, y, k] = total


@fast
def agree_backward(first, last, q, truth, table, rows, columns, share, mass, grad, upper, out):
    """grad (B, H, W) -> out (B, H, W, 9); upper (B, cells, labels) zeros, becomes the gradient of share."""
    for b in range(first, last):
        for cell in range(len(table)):
            i, j = divmod(cell, len(columns) - 1)
            for y in range(rows[i], rows[i + 1]):
                for k in range(columns[j], columns[j + 1]):
                    label = truth[b, y, k]
                    if label >= 0:
                        for n in range(9):
                            g = table[cell, n]
                            if g >= 0:
                                upper[b, g, label] += q[b, y, k, n] * grad[b, y, k]
        for cell in range(len(table)):
            mean = np.float32(0)
            for label in range(share.shape[2]):
                mean += upper[b, cell, label] * share[b, cell, label]
            for label in range(share.shape[2]):
                upper[b, cell, label] = (upper[b, cell, label] - mean) / mass[b, cell]
        for cell in range(len(table)):
            i, j = divmod(cell, len(columns) - 1)
            for y in range(rows[i], rows[i + 1]):
                for k in range(columns[j], columns[j + 1]):
                    label = truth[b, y, k]
                    for n in range(9):
                        g = table[cell, n]
                        inside = g >= 0 and label >= 0
                        out[b, y, k, n] = (
                            grad[b, y, k] * share[b, g, label] + upper[b, g, label] if inside else np.float32(0)
                        )
