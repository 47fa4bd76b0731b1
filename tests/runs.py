"""Runs of training, and what they leave."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from spx_cli.training.loop import train
from trainee import RECIPE, Trainee, samples

TRAINEE = str(Path(__file__).with_name("trainee.py"))


def run(out, recipe=RECIPE, method=None, data=None, **options):
    data = samples() if data is None else data
    return list(train(method or Trainee(), data, samples(2), recipe, out, **options))


def read_log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def assert_equal(out, other, name="last"):
    one, two = (load_file(folder / f"{name}.safetensors") for folder in (out, other))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
