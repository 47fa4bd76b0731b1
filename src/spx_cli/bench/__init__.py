"""Speed and accuracy side by side, of our methods and of other people's implementations, in one run.

Read `peers` (those of others), `stand` (a process for each contender), `timing` (pairs of calls, and what follows from
them), `sweep` (time over size and count), `papers` and `published` (tables of five papers), `run` (all of it, and the
document), `machine` (where it ran).
"""
