import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spx_cli import weights
from spx_cli.cli import run
from spx_cli.errors import SpxError, UnknownName, WeightsError
from spx_cli.methods import create
from spx_cli.methods.sen import Embedder

LEARNED = ["fcn", "lnsnet", "sin", "ssn"]


def noise(size=(40, 60), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


@pytest.mark.parametrize("name", sorted(weights.WEIGHTS))
def test_bundled_file_is_what_its_record_says(name):
    weights.verify(name)
    assert weights.path(name).stat().st_size < 1e7
    assert weights.provenance(weights.path(name))["method"] == weights.WEIGHTS[name].method


def test_verify_notices_a_changed_byte(tmp_path, monkeypatch):
    content = bytearray(weights.path("ssn").read_bytes())
    content[-1] ^= 1
    (tmp_path / "ssn.safetensors").write_bytes(content)
    monkeypatch.setattr(weights, "BUNDLED", tmp_path)
    with pytest.raises(WeightsError, match="sha256"):
        weights.verify("ssn")


@pytest.mark.parametrize("name", LEARNED)
def test_round_trip_through_a_file(name, tmp_path):
    torch.manual_seed(0)
    method = create(name, device="cpu")
    network = method.build()
    file = tmp_path / "own.safetensors"
    assert weights.save(file, network.state_dict(), {"method": name, "steps": "3"}) == weights.sha256(file)
    assert weights.provenance(file) == {"method": name, "steps": "3"}
    loaded = create(name, weights=str(file), device="cpu")
    for key, value in loaded.load().state_dict().items():
        assert torch.equal(value, network.state_dict()[key])
    image = noise()
    np.testing.assert_array_equal(loaded.segment(image, 20), method.bind(network).segment(image, 20))


def test_the_same_weights_are_the_same_bytes(tmp_path):
    state = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(1).half(), "é": torch.zeros(0)}
    about = {name: f'"{name}" é' for name in ("method", "zeta", "alpha", "recipe", "data", "asa")}
    digests = {weights.save(tmp_path / f"{i}.safetensors", state, about) for i in range(8)}
    assert len(digests) == 1
    loaded = load_file(tmp_path / "0.safetensors")
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) and loaded[name].dtype == state[name].dtype for name in state)
    assert weights.provenance(tmp_path / "0.safetensors") == about


def test_loading_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    create("ssn").load()
    assert torch.equal(torch.rand(2), wanted)


def test_weights_of_another_method(tmp_path):
    file = tmp_path / "w.safetensors"
    weights.save(file, create("fcn").build().state_dict(), {"method": "fcn"})
    with pytest.raises(WeightsError, match="'fcn', not of 'sin'"):
        create("sin", weights=str(file), device="cpu").segment(noise(), 4)


def test_tensors_that_do_not_fit(tmp_path):
    state = create("ssn").build().state_dict()
    file = tmp_path / "w.safetensors"
    for change, message in (
        (lambda s: s.pop("output_conv.0.bias"), "'output_conv.0.bias' is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "'extra' is none of"),
        (lambda s: s.update({"output_conv.0.bias": torch.zeros(4)}), r"shape \(4,\), the network needs \(16,\)"),
    ):
        changed = dict(state)
        change(changed)
        weights.save(file, changed, {"method": "ssn"})
        with pytest.raises(WeightsError, match=message):
            create("ssn", weights=str(file)).load()


def test_a_shape_that_the_weights_do_not_have_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="width=8 is not that of the network, which has 4"):
        create("sen", width=8, device="cpu").segment(noise(), 12)
    file = tmp_path / "w.safetensors"
    weights.save(file, create("sen", width=8).build().state_dict(), {"method": "sen"})
    for asked in ({}, {"width": 8}):  # not asked for, it is as the weights have it
        assert create("sen", weights=str(file), device="cpu", **asked).segment(noise(), 12).max() == 11


def test_damaged_and_missing_files(tmp_path):
    file = tmp_path / "w.safetensors"
    with pytest.raises(WeightsError, match="no such weights file"):
        create("ssn", weights=str(file)).load()
    for content in (b"", b"not safetensors at all", weights.path("ssn").read_bytes()[:1000]):
        file.write_bytes(content)
        with pytest.raises(WeightsError, match="cannot be read"):
            create("ssn", weights=str(file)).load()
    with pytest.raises(UnknownName, match="did you mean 'ssn'"):
        create("ssn", weights="ssm").load()


def test_failed_save_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(SpxError, match="No space"):
        weights.save(tmp_path / "w.safetensors", {"a": torch.zeros(2)}, {"method": "ssn"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", LEARNED)
def test_a_method_travels_without_its_network(name):
    method = create(name, device="cpu")
    before = method.segment(noise(), 12)
    content = pickle.dumps(method)
    assert len(content) < 2000
    again = pickle.loads(content)
    assert again == method
    np.testing.assert_array_equal(again.segment(noise(), 12), before)


def test_bound_method_does_not_follow_later_training():
    torch.manual_seed(0)
    method = create("ssn", device="cpu")
    network = method.build().train()
    bound = method.bind(network)
    before = bound.assign(noise(), 12).features
    assert network.training
    for parameter in network.parameters():
        parameter.data += 1
    np.testing.assert_array_equal(bound.assign(noise(), 12).features, before)


@pytest.mark.parametrize("name", ["ssn", "sin", "fcn", "elm", "sen", "lnsnet"])
def test_a_bound_network_is_kept_and_told(name):
    torch.manual_seed(0)
    method = create(name, device="cpu")
    bound, image = method.bind(method.build()), noise()
    expected = bound.segment(image, 12)
    assert bound != method
    assert repr(bound) != repr(method)
    for same in (create(bound, border_price=bound.border_price), pickle.loads(pickle.dumps(bound))):
        assert same == bound
        np.testing.assert_array_equal(same.segment(image, 12), expected)
    with pytest.raises(WeightsError, match="lacks the bound network"):
        dataclasses.replace(bound).segment(image, 12)
    rough = create(bound, precision="bfloat16")
    np.testing.assert_array_equal(rough.segment(image, 12), create(rough, precision="bfloat16").segment(image, 12))
    np.testing.assert_array_equal(create(rough, precision="float32").segment(image, 12), expected)


def test_a_bound_network_keeps_its_shape():
    for name, asked in (("ssn", {"channels": 10}), ("sen", {"width": 8})):
        method = create(name, device="cpu")
        with pytest.raises(WeightsError, match=r"network to bind: .* has shape|width=8 is not that"):
            create(method.bind(method.build()), **asked)
    wide = create("sen").bind(create("sen", width=8).build())
    assert wide.width == 8
    with pytest.raises(WeightsError, match="width=4 is not that of the network, which has 8"):
        create(wide, width=4)
    with pytest.raises(WeightsError, match="no network of sen: width must be"):
        create("sen").bind(Embedder(8, 64, None))


def test_what_a_bound_network_itself_knows_is_changed_in_it():
    torch.manual_seed(3)
    network = create("sen", clustering=True).build()
    changed = create(create("sen", clustering=True).bind(network), iterations=3, anchor=4)
    expected = create("sen", clustering=True, iterations=3, anchor=4).bind(network)
    assert changed == expected
    assert changed.network.cluster.iterations == 3
    np.testing.assert_array_equal(changed.segment(noise(), 12), expected.segment(noise(), 12))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch's own, in compiling
def test_a_wrapped_network_is_bound_as_it_is():
    method = create("ssn", device="cpu")
    network = method.load()
    expected = method.bind(network).segment(noise(), 12)
    average, parallel = torch.optim.swa_utils.AveragedModel, torch.nn.DataParallel
    compiled = method.load()
    name, child = next(compiled.named_children())
    setattr(compiled, name, torch.compile(child))
    for wrapped in (parallel(network), average(network), parallel(average(network)), compiled):
        np.testing.assert_array_equal(method.bind(wrapped).segment(noise(), 12), expected)
    with pytest.raises(WeightsError, match="to bind must be"):
        method.bind("ssn")
    for other in (torch.nn.Sequential(network), create("ssn", channels=10).build(), create("fcn").build()):
        with pytest.raises(WeightsError, match="to bind"):
            method.bind(other)


@pytest.mark.parametrize("name", ["ssn", "sin", "fcn", "elm", "sen", "lnsnet", "rim"])
def test_what_others_ask_of_pytorch_changes_no_map(name):
    options = {"device": "cpu"} | ({"iterations": 3} if name == "rim" else {})
    expected = create(name, **options).segment(noise(), 12)
    for around in (torch.autocast("cpu", torch.bfloat16), torch.no_grad(), torch.inference_mode()):
        with around:
            np.testing.assert_array_equal(create(name, **options).segment(noise(), 12), expected)
    for kind in (torch.float64, torch.bfloat16):
        try:
            torch.set_default_dtype(kind)
            labels = create(name, **options).segment(noise(), 12)
        finally:
            torch.set_default_dtype(torch.float32)
        np.testing.assert_array_equal(labels, expected)


def spx(*args):
    return run([str(a) for a in args])


def test_list(capsys):
    assert spx("weights", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("\t")[:2] == ["name", "method"]
    assert [line.split("\t")[0] for line in lines[1:]] == list(weights.WEIGHTS)
    assert spx("weights", "list", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["name"]: row["sha256"] for row in rows} == {n: r.sha256 for n, r in weights.WEIGHTS.items()}


def test_verify(capsys, tmp_path, monkeypatch):
    assert spx("weights", "verify") == 0
    assert capsys.readouterr().out.count("ok") == len(weights.WEIGHTS)
    for name in weights.WEIGHTS:
        (tmp_path / f"{name}.safetensors").write_bytes(weights.path(name).read_bytes() + b"x" * (name == "sin"))
    monkeypatch.setattr(weights, "BUNDLED", tmp_path)
    assert spx("weights", "verify", "--json") == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["name"] for row in rows if row["status"] == "damaged"} == {"sin"}
    assert spx("weights", "verify", "ssm") == 2


@pytest.mark.parametrize("suffix", [".pth", ".npz"])
def test_convert_a_checkpoint_of_the_authors(suffix, tmp_path):
    state = create("sin", skips=False, contours=False).build().state_dict()
    unused = {"deconv3.0.weight": torch.zeros(256, 128, 3, 3), "pred_mask0.bias": torch.zeros(9)}
    source, out = tmp_path / f"theirs{suffix}", tmp_path / "ours.safetensors"
    if suffix == ".npz":
        np.savez(source, **{k: v.numpy() for k, v in {**state, **unused}.items()})
    else:
        beside = {"best": np.float64(0.5), "epoch": np.int64(3), "losses": [np.float32(1)], "all": np.arange(3.0)}
        torch.save({**beside, "state_dict": {f"module.{k}": v for k, v in {**state, **unused}.items()}}, source)
    assert spx("weights", "convert", "sin", source, "-o", out) == 0
    loaded = create("sin", skips=False, weights=str(out)).load().state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())
    assert spx("weights", "convert", "sin", source, "-o", out) == 2
    assert spx("weights", "convert", "sin", source, "-o", out, "--overwrite") == 0


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("code in a checkpoint was run",))


@pytest.mark.parametrize("case", ["missing", "empty", "text", "code", "list", "other"])
def test_convert_refuses(case, tmp_path, capsys):
    source, out = tmp_path / "source.pth", tmp_path / "out.safetensors"
    if case == "empty":
        source.write_bytes(b"")
    elif case == "text":
        source.write_bytes(b"not a checkpoint")
    elif case == "code":
        torch.save({"state_dict": Evil()}, source)
    elif case == "list":
        torch.save([1, 2], source)
    elif case == "other":
        torch.save(create("fcn").build().state_dict(), source)
    assert spx("weights", "convert", "ssn", source, "-o", out) == 1
    message = capsys.readouterr().err
    assert message.startswith("spx: error: ")
    assert message.count("\n") == 1
    assert "source.pth" in message
    assert not out.exists()


def test_convert_wants_a_learned_method(tmp_path, capsys):
    assert spx("weights", "convert", "slic", tmp_path / "a.pth", "-o", tmp_path / "b.safetensors") == 2
    assert "no weights" in capsys.readouterr().err


@pytest.mark.parity
def test_third_party_weights_convert_and_segment(shared, tmp_path):
    out = tmp_path / "ssn.safetensors"
    assert spx("weights", "convert", "ssn", shared / "reference/deep/ssn/model1667649810.npz", "-o", out) == 0
    labels = create("ssn", weights=str(out), device="cpu").segment(noise((60, 80)), 30)
    assert labels.max() == 29
