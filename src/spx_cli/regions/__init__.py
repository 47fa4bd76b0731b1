"""Algebra of label maps: what a method hands over comes in, K connected regions and pictures of them go out.

Read `runs` (rows as runs of one id), `maps` (components, overlaps, boundaries; the contract of a label map), `graph`
(which regions touch, and merging), `finish` (exactly K of them), `overlays` (pictures).
"""
