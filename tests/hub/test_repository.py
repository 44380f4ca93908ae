"""Weights of the Hub, by a made-up client on this disk; and by the real one with a made-up Hub."""

import functools
import json
import pickle
import sys
import types

import numpy as np
import pytest

import prnet_jax
from prnet_jax.errors import InputError, RunError
from prnet_jax.hub.folder import CARD, CONFIG, MODEL
from tests.hub import fake
from tests.hub.server import serving
from tests.runs import blobs

SLICE = blobs((1, 48, 40))
REPO = "me/lungs"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    made = fake.Hub(tmp_path / "hub")
    module = types.SimpleNamespace(HfApi=made.HfApi, errors=fake.ERRORS)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", fake.ERRORS)
    monkeypatch.chdir(tmp_path)
    return made


def test_what_is_pushed_is_loaded(hub, finished_run, tmp_path):
    commit = prnet_jax.push_to_hub(finished_run, REPO, license="mit", private=True, token="t")
    assert hub.private == {REPO: True} and hub.token == "t"
    loaded = prnet_jax.from_pretrained(REPO)
    assert loaded.published == f"{REPO}@{commit}"
    # The weights are asked for by commit: a push in between cannot mix two versions.
    assert hub.fetched == [(REPO, CONFIG, None), (REPO, MODEL, commit)]
    expected = prnet_jax.load(finished_run).predict(SLICE)
    np.testing.assert_array_equal(loaded.predict(SLICE).prob, expected.prob)
    card = (tmp_path / "hub" / REPO / commit / CARD).read_text()
    assert f'from_pretrained("{REPO}")' in card


def test_an_export_says_which_commit_it_is_of(hub, finished_run, tmp_path):
    pytest.importorskip("flatbuffers")
    commit = prnet_jax.push_to_hub(finished_run, REPO, license="mit")
    prnet_jax.from_pretrained(REPO).export(tmp_path / "out" / "model.stablehlo")
    header = json.loads((tmp_path / "out" / "model.json").read_text())
    assert header["weights_from"] == f"{REPO}@{commit}"


def test_revisions(hub, finished_run):
    first = prnet_jax.push_to_hub(finished_run, REPO, license="mit")
    second = prnet_jax.push_to_hub(finished_run, REPO, license="mit", about="Again.")
    other = prnet_jax.push_to_hub(finished_run, REPO, license="mit", revision="trial")
    assert len({first, second, other}) == 3
    for revision, commit in ((None, second), ("main", second), ("trial", other), (first, first)):
        found = prnet_jax.from_pretrained(REPO, revision=revision)
        assert found.published == f"{REPO}@{commit}"
    with pytest.raises(InputError, match="^me/lungs has no revision 'v9'$"):
        prnet_jax.from_pretrained(REPO, revision="v9")


def test_other_files_are_neither_removed_nor_fetched(hub, finished_run, tmp_path):
    commit = prnet_jax.push_to_hub(finished_run, REPO, license="mit")
    (tmp_path / "hub" / REPO / commit / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    commit = prnet_jax.push_to_hub(finished_run, REPO, license="mit")
    assert (tmp_path / "hub" / REPO / commit / "pytorch_model.bin").exists()
    prnet_jax.from_pretrained(REPO)
    assert {name for _, name, _ in hub.fetched} == {CONFIG, MODEL}


def test_a_folder_wins(hub, finished_run, tmp_path):
    prnet_jax.save_pretrained(finished_run, tmp_path / REPO, license="mit")
    assert prnet_jax.from_pretrained(REPO).published is None
    with pytest.raises(InputError, match="is a folder here, which has no revision 'v1'"):
        prnet_jax.from_pretrained(REPO, revision="v1")


def test_repositories_of_others(hub, finished_run, tmp_path):
    with pytest.raises(InputError, match="there is no folder me/lungs, and no such repository"):
        prnet_jax.from_pretrained(REPO)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "pytorch_model.bin").write_bytes(b"")
    hub.create_repo("a/bert", False, True)
    hub.upload_folder("a/bert", tmp_path / "theirs", None, "x")
    with pytest.raises(InputError, match="a/bert holds no weights of prnet_jax"):
        prnet_jax.from_pretrained("a/bert")
    (tmp_path / "theirs" / CONFIG).write_text('{"model_type": "bert"}')
    hub.upload_folder("a/bert", tmp_path / "theirs", None, "x")
    with pytest.raises(InputError, match="is not what prnet_jax.push_to_hub writes"):
        prnet_jax.from_pretrained("a/bert")
    with pytest.raises(InputError, match="'no/such/name' is no folder here, and no repository can"):
        prnet_jax.from_pretrained("no/such/name")


def test_what_is_larger_than_said_is_not_fetched(hub, finished_run, tmp_path):
    commit = prnet_jax.push_to_hub(finished_run, REPO, license="mit")
    weights = tmp_path / "hub" / REPO / commit / MODEL
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(InputError, match="model.safetensors has .* bytes, expected at most"):
        prnet_jax.from_pretrained(REPO)
    assert [name for _, name, _ in hub.fetched] == [CONFIG]


def test_names_that_are_no_repository(hub):
    with pytest.raises(InputError, match=r"weights in the package: .* prnet_jax.load\('lungs'\)$"):
        prnet_jax.from_pretrained("lungs")
    assert hub.fetched == []


def test_a_name_that_no_file_can_have(finished_run, tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    monkeypatch.chdir(tmp_path)
    for name in ("a" * 300, "a\0b"):
        with pytest.raises(InputError, match="no repository can have that name"):
            prnet_jax.from_pretrained(name)


@pytest.mark.parametrize(
    ("fails", "kind", "message"),
    [
        (fake.LocalEntryNotFoundError(), RunError, "the Hub does not answer"),
        (fake.HfHubHTTPError("busy", 503), RunError, "the Hub failed at me/lungs: busy"),
        (fake.HfHubHTTPError("no", 403), InputError, "refuses me/lungs to you: log in"),
        (fake.LocalTokenNotFoundError(), InputError, "me/lungs needs a token: log in"),
        (fake.HTTPError("no route\nto host"), RunError, "HTTPError: no route to host"),
    ],
)
def test_failures_of_the_hub(hub, finished_run, fails, kind, message):
    hub.fails = fails
    with pytest.raises(kind, match=message):
        prnet_jax.from_pretrained(REPO)
    with pytest.raises(kind, match=message):
        prnet_jax.push_to_hub(finished_run, REPO, license="mit")


def test_without_the_extra(monkeypatch, finished_run, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (
        lambda: prnet_jax.from_pretrained(REPO),
        lambda: prnet_jax.push_to_hub(finished_run, REPO, license="mit"),
    ):
        with pytest.raises(InputError, match=r"pip install 'prnet_jax\[hub\]'"):
            call()
    prnet_jax.save_pretrained(finished_run, tmp_path / "w", license="mit")
    assert prnet_jax.from_pretrained(tmp_path / "w").published is None


def test_the_real_client(finished_run, tmp_path, monkeypatch):
    """huggingface_hub itself, with a Hub on this machine: what it sends, keeps and raises."""
    client = pytest.importorskip("huggingface_hub")
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no token"))
    with serving() as (endpoint, served):
        at_home = functools.partial(client.HfApi, endpoint=endpoint)
        monkeypatch.setattr(client, "HfApi", at_home)
        with pytest.raises(InputError, match="no such repository on the Hub that you may read"):
            prnet_jax.from_pretrained(REPO)
        commit = prnet_jax.push_to_hub(finished_run, REPO, license="mit", token="hf_made_up")
        sent = served.repos[REPO][commit]
        assert set(sent) == {CONFIG, MODEL, CARD}
        config = json.loads(sent[CONFIG])  # ours, not one of huggingface_hub's own
        assert config["network"] == "unet" and config["file"]["bytes"] == len(sent[MODEL])

        loaded = prnet_jax.from_pretrained(REPO)
        assert loaded.published == f"{REPO}@{commit}"
        expected = prnet_jax.load(finished_run).predict(SLICE)
        np.testing.assert_array_equal(loaded.predict(SLICE).prob, expected.prob)

        served.repos[REPO][commit]["pytorch_model.bin"] = b"never fetched"
        prnet_jax.from_pretrained(REPO, revision=commit)
        fetched = {path.rpartition("/")[2] for method, path in served.seen if method == "GET"}
        assert fetched == {CONFIG, MODEL}
        with pytest.raises(InputError, match="^me/lungs has no revision 'v9'$"):
            prnet_jax.from_pretrained(REPO, revision="v9")
        served.repos["a/bert"] = {"0" * 40: {"pytorch_model.bin": b""}}
        with pytest.raises(InputError, match="a/bert holds no weights of prnet_jax"):
            prnet_jax.from_pretrained("a/bert")
        with pytest.raises(InputError, match="no repository can have that name"):
            prnet_jax.from_pretrained("a/b/c")
    # The server is gone: what is kept is found, and nothing else.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert prnet_jax.from_pretrained(REPO).published == f"{REPO}@{commit}"
    with pytest.raises(RunError, match="the Hub does not answer, and a/other was not downloaded"):
        prnet_jax.from_pretrained("a/other")
