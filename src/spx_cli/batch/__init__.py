"""Work on files: paths come in, label maps or contour maps and pictures are written, a result per image goes out.

Read `inputs` (which files), `plan` (where results go), `manifest` (what is already done), `job` (what is done to an
image), `flow` (to some of them, in threads), `engine` (to many), and `contours`: another job for the same engine.
"""
