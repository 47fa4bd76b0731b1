"""Evaluation: a data set and label maps come in, one document of scores and a verdict on it go out.

Read `sources` (who makes the maps), `scoring` (a row for each pair, and the document), `ledger` (rows kept for a
resumed run), `gates` (is it good enough).
"""
