"""Evaluation: a data set and label maps come in, one document of scores and a verdict on it go out.

Read `sources` (who makes the maps), `document` (what is said in the end), `ledger` and `work` (scores kept for a
resumed run, made in many processes), `scoring` (of label maps) and `boundaries` (of contour maps), `gates` (is it good
enough).
"""
