"""Training: a data set comes in, weights and a log of the run go out.

Read `augment` (random views of a sample), `samples` (batches of them), `muon` (an optimizer), `loop` (the run).
"""
