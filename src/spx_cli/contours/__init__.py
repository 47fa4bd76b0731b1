"""Soft contours: images go in, for each pixel the chance that it lies on the border of an object comes out.

Read `maps` (where contours come from, and what is done to them), `nms` and `thinning` (lines of one pixel), `folder`
(maps that other tools made), `picture`; then the benchmarks: `matching` (which pixels of two maps belong together),
`benchmark` (boundaries: ODS, OIS, AP) and `hierarchy` (the regions that ultrametric maps enclose).
"""
