"""Segmenting files: paths come in, label maps and overlays are written, a result per image goes out.

Read `inputs` (which files), `plan` (what becomes of each), `manifest` (what is already done), `engine` (the work).
"""
