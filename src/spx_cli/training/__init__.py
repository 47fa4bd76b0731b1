"""Training: a data set comes in, weights and a log of the run go out.

Read `augment` (random views of a sample), `samples` (batches of them), `feed` (ahead of their step), `processes` (who
takes part), `state` (what changes, and its checkpoint), `validation`, `log`, and `loop`: the run.
"""
