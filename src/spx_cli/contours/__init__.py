"""Soft contours: a chance in 0 to 1 that a pixel lies on the border of an object, and how good such maps are.

Read `thinning` and `nms` (lines of one pixel), `matching` (which pixels of two maps belong together), `benchmark` (the
BSDS boundary benchmark).
"""
