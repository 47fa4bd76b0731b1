"""What a network is trained on."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from runs import run
from spx_cli.datasets import Sample
from spx_cli.datasets.folder import Folder
from spx_cli.errors import DataError, LabelError, ParameterError
from spx_cli.methods import create
from spx_cli.training.augment import index
from spx_cli.training.loop import train
from spx_cli.training.samples import Pairs, make_batch, open_samples
from trainee import RECIPE, Trainee, samples


def test_a_batch_holds_the_samples_of_its_positions():
    pairs = Pairs(samples(5))
    for first in (0, 7):
        wanted = [pairs[index(RECIPE.seed, at, len(pairs))].id for at in range(first, first + RECIPE.batch_size)]
        assert make_batch(pairs, RECIPE, first).ids == wanted


def test_every_annotation_is_a_sample_and_ignored_pixels_are_marked():
    pairs = Pairs(samples(2))
    assert [pairs[i].id for i in range(len(pairs))] == ["s0:0", "s0:1", "s1:0", "s1:1"]
    assert (pairs[1].truth[0] == -1).all()
    assert pairs[0].truth.min() == 0


def test_a_teacher_takes_the_place_of_annotations():
    def count(image, rng):
        return np.full(image.shape[:2], rng.integers(1000))

    unlike = Sample("a", np.zeros((20, 30, 3), np.uint8), (np.zeros((3, 3), np.int32),) * 2)
    pairs = Pairs([unlike], count)
    assert len(pairs) == 1
    first, again, later = (make_batch(pairs, RECIPE, position) for position in (0, 0, 2))
    assert first.truth.dtype == np.int64
    assert first.truth.shape == first.images.shape[:3]
    assert np.array_equal(first.truth, again.truth)
    assert len(np.unique(np.concatenate([first.truth, later.truth]))) == 4


def test_samples_beyond_the_memory_are_read_again(monkeypatch):
    kept = Pairs(samples())
    ids = [kept[i].id for i in range(10)]
    monkeypatch.setattr("spx_cli.training.samples.MEMORY", 3000)
    read = Pairs(samples())
    assert [read[i].id for i in range(10)] == [f"s{i // 2}:{i % 2}" for i in range(10)] == ids
    assert len(read._kept) < 3 < len(kept._kept)
    assert read.order == kept.order
    np.testing.assert_array_equal(read[9].truth, kept[9].truth)


def test_nothing_is_decoded_before_it_is_needed(tmp_path, monkeypatch):
    write_folder(tmp_path, [f"{i:02}" for i in range(12)])
    found = open_samples("folder", tmp_path)
    whole = [Pairs([found.train[i] for i in range(len(found.train))], teacher) for teacher in (None, lambda *_: None)]
    read = []
    load = Folder.load
    monkeypatch.setattr(Folder, "load", lambda self, entry: (read.append(entry.id), load(self, entry))[1])
    for expected, teacher in zip(whole, (None, lambda *_: None), strict=True):
        pairs = Pairs(found.train, teacher)
        assert (len(pairs), pairs.order) == (len(expected), expected.order)
    assert read == []
    assert pairs[3].id == "03"
    assert read == ["03"]


def test_a_sample_that_changed_meanwhile_is_named(tmp_path):
    data = samples(2)
    pairs = Pairs(data)
    data[1] = data[1]._replace(truths=())
    with pytest.raises(DataError, match="s1: the file has changed since the training began"):
        pairs[3]


def test_images_alone_can_be_trained_on(tmp_path):
    bare = [s._replace(truths=()) for s in samples()]
    assert len(list(train(Trainee(), bare, bare, RECIPE, tmp_path))) == 12
    assert not (tmp_path / "best.safetensors").exists()


def test_superpixels_for_flow_are_trained_on_flow(tmp_path):
    rng = np.random.default_rng(0)
    flow = np.zeros((40, 60, 2), np.float32)
    flow[:, 30:] = 5.0
    image = (np.where(flow[..., :1] > 0, 140, 100) + rng.integers(0, 60, (40, 60, 3))).astype(np.uint8)
    known = np.ones((40, 60), bool)
    known[:4] = False
    flow[:4] = 1e10
    data = [Sample("a", image, flow=flow, valid=known)]
    recipe = replace(RECIPE, crop=36, steps=8, lr=0.003, schedule="constant", clip=0.0, flips="none")
    method = create("ssn", contours=False, train_segments=9, device="cpu")
    losses = [record.loss for record in train(method, data, [], recipe, tmp_path)]
    assert np.mean(losses[-2:]) < np.mean(losses[:2])
    for name in ("fcn", "sin"):
        with pytest.raises(ParameterError, match="label maps"):
            list(train(create(name, device="cpu"), data, [], recipe, tmp_path / name))


def test_an_annotation_that_cannot_be_scored_is_named_at_the_start(tmp_path):
    blank = samples(1)[0]._replace(id="blank", truths=(np.full((18, 24), 9, np.int32),))
    with pytest.raises(LabelError, match="annotation blank:0: no labelled pixel"):
        next(train(Trainee(), samples(), [blank], RECIPE, tmp_path))
    with pytest.raises(LabelError, match="annotation blank:0: no labelled pixel"):
        run(tmp_path, data=[blank])


def test_no_samples(tmp_path):
    with pytest.raises(DataError, match="empty"):
        run(tmp_path, data=[])


def test_whole_images_of_different_sizes_do_not_make_a_batch(tmp_path):
    mixed = samples(2) + samples(2, (24, 18))
    recipe = replace(RECIPE, crop=0, scale_min=1.0, scale_max=1.0)
    with pytest.raises(ParameterError, match="batch_size=1"):
        run(tmp_path, recipe, data=mixed)
    assert len(run(tmp_path / "single", replace(recipe, batch_size=1), data=mixed)) == 12


def test_a_crop_larger_than_the_image_enlarges_it(tmp_path):
    assert len(run(tmp_path, replace(RECIPE, crop=40, steps=2))) == 2


def write_folder(root, names):
    for name in names:
        sample = samples(1)[0]
        for kind, array in (("images", sample.image), ("labels", sample.truths[0].astype(np.uint8))):
            path = root / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return root


def test_a_folder_without_splits_holds_every_tenth_back(tmp_path):
    found = open_samples("folder", write_folder(tmp_path, [f"{i:02}" for i in range(20)]))
    assert (len(found.train), len(found.val)) == (18, 2)
    assert [s.id for s in (found.val[0], found.val[1])] == ["09", "19"]
    assert {found.train[i].id for i in range(18)}.isdisjoint({"09", "19"})
    assert len(open_samples("folder", tmp_path, None, "none").train) == 20
    alone = open_samples("folder", tmp_path / "images")  # nothing to validate by
    assert (len(alone.train), len(alone.val)) == (20, 0)
    assert "validated on nothing" in alone.about


def test_a_folder_with_splits(tmp_path):
    write_folder(tmp_path, ["train/a", "train/b", "val/c", "test/d"])
    found = open_samples("folder", tmp_path)
    assert [len(found.train), len(found.val)] == [2, 1]
    both = open_samples("folder", tmp_path, "train+val")
    assert [len(both.train), len(both.val)] == [3, 0]
    assert "nothing" in both.about
    with pytest.raises(DataError):
        open_samples("folder", tmp_path / "absent")


def test_images_without_annotation_are_named(tmp_path, caplog):
    write_folder(tmp_path, ["a", "b"])
    (tmp_path / "labels/a.png").rename(tmp_path / "labels/c.png")
    found = open_samples("folder", tmp_path, None, "none")
    assert [found.train[0].id, len(found.train)] == ["b", 1]
    assert "c.png: no image of that name; " in caplog.text
    (tmp_path / "labels/b.png").rename(tmp_path / "labels/d.png")
    with pytest.raises(DataError, match=r"nothing to train on in .*c\.png: no image of that name.*and 1 more"):
        open_samples("folder", tmp_path)


def test_bsds500(shared):
    found = open_samples("bsds500", shared / "data" / "BSDS500")
    assert [len(found.train), len(found.val)] == [200, 100]
    id, annotations = found.train.outline(7)
    assert (found.train[7].id, len(found.train[7].truths)) == (id, annotations)


def test_content_is_known_by_both_ends(tmp_path):
    write_folder(tmp_path, ["a", "b"])
    samples = open_samples("folder", tmp_path, None, "none").train
    before = samples.content()
    assert samples.content() == before
    path = tmp_path / "labels/b.png"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert samples.content() != before


def test_of_few_images_none_is_held_back(tmp_path, caplog):
    write_folder(tmp_path, ["a", "b"])
    found = open_samples("folder", tmp_path)
    assert [len(found.train), len(found.val)] == [2, 0]
    assert found.about.endswith("validated on nothing")
    assert "fewer than ten images" in caplog.text
