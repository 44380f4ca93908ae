"""What the doctor finds on a machine that is as it should be, and on others."""

import json
import os
import shutil
import sys

import pytest

from prnet_jax import compiler, doctor
from prnet_jax.errors import RunError


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A machine of its own: empty folders, and no settings."""
    for name in ("PRNET_MANUAL_DIR", "JAX_PLATFORMS", "XLA_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "records"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(check):
    (finding,) = (f for f in doctor.examine() if f.check == check)
    return finding


@pytest.fixture
def only(monkeypatch):
    """Leaves one check."""
    return lambda check: monkeypatch.setattr(doctor, "_CHECKS", {check: doctor._CHECKS[check]})


def test_nothing_is_wrong_here(here, capsys):
    assert doctor.main([]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith("\nNothing is wrong.\n")
    for check in doctor._CHECKS:
        assert any(line.split()[1:2] == [check] for line in printed.splitlines())
    assert f"records in {here / 'records'}: none" in printed


def test_json(here, only, capsys):
    only("disk")
    assert doctor.main(["--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["wrong"] == 0
    assert about["checks"][0].keys() == {"check", "state", "found", "advice"}
    assert (about["checks"][0]["check"], about["checks"][0]["state"]) == ("disk", "ok")


@pytest.mark.parametrize(
    ("versions", "says", "install"),
    [
        ({"clu": None}, "clu is missing", "'clu>=0.0.12'"),
        ({"jax": "0.10.2"}, "jax 0.10.2 is known to be bad", "'jax"),
        ({"numpy": "2.1.2", "flax": "0.9"}, "flax 0.9 is older than 0.11.2, numpy 2.1.2", "'flax"),
    ],
)
def test_packages(monkeypatch, only, capsys, versions, says, install):
    there = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda name: versions[name] if name in versions else there(name)
    )
    only("packages")
    assert doctor.main([]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("wrong ") and says in printed
    assert f"-m pip install {install}" in printed
    assert printed.endswith("\n1 of 1 checks failed.\n")


def test_requirements_of_a_checkout_are_those_that_it_is_installed_with(monkeypatch):
    def absent(name):
        raise doctor.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.importlib.metadata, "requires", absent)
    required = dict(doctor._requirements())
    assert required["jax"] == ">=0.7.2,!=0.10.2"
    assert {"absl-py", "tqdm"} < required.keys() and "pytest" not in required


def test_newer_versions_are_new_enough():
    assert doctor._numbers("0.12.0.1") > doctor._numbers("0.7.2")
    assert doctor._numbers("2.10") > doctor._numbers("2.9.3")


def test_a_missing_library_is_named(monkeypatch, only, capsys):
    """The checks of other things go on."""
    monkeypatch.setitem(sys.modules, "jax", None)  # as where it is not installed
    checks = {name: doctor._CHECKS[name] for name in ("devices", "disk")}
    monkeypatch.setattr(doctor, "_CHECKS", checks)
    assert doctor.main([]) == 1
    printed = capsys.readouterr().out
    assert "wrong   devices   ModuleNotFoundError: import of jax halted" in printed
    assert "ok      disk " in printed


def test_a_compiler_that_computes_wrongly(monkeypatch, only):
    def fails():
        raise RunError("jaxlib computes wrongly on this CPU")

    monkeypatch.setattr(compiler, "self_check", fails)
    only("compiler")
    finding = found("compiler")
    assert (finding.state, finding.found) == (
        doctor.WRONG,
        "RunError: jaxlib computes wrongly on this CPU",
    )


def test_records_and_downloads(here, only, monkeypatch):
    only("data")
    record = here / "records" / "lung_phantom" / "default" / "1.0.0" / "dataset_info.json"
    record.parent.mkdir(parents=True)
    record.touch()
    finding = found("data")
    assert finding.state == "ok" and "1 of lung_phantom" in finding.found
    monkeypatch.setenv("PRNET_MANUAL_DIR", str(here))
    assert f"downloads in {here}" in found("data").found
    monkeypatch.setenv("PRNET_MANUAL_DIR", str(here / "none"))
    assert found("data").state == doctor.WRONG


def test_a_full_disk_and_a_nearly_full_one(here, only, monkeypatch):
    only("disk")
    for free, state in ((2**29, doctor.WRONG), (2 * 2**30, doctor.ADVICE), (2**34, doctor.OK)):
        usage = shutil._ntuple_diskusage(2**40, 2**40 - free, free)
        monkeypatch.setattr(shutil, "disk_usage", lambda place, usage=usage: usage)
        assert found("disk").state == state


def test_a_folder_that_cannot_be_written_to(here, only, monkeypatch):
    only("disk")
    monkeypatch.setattr(os, "access", lambda path, mode: path != here)
    finding = found("disk")
    assert finding.state == doctor.WRONG and f"{here} cannot be written to" in finding.found


def test_an_accelerator_that_is_not_used(here, only, monkeypatch):
    only("devices")
    device = here / "nvidia0"
    monkeypatch.setattr(doctor, "_ACCELERATORS", ((str(device), "an NVIDIA GPU", "cuda"),))
    assert found("devices").advice.startswith("no accelerator")
    device.touch()
    finding = found("devices")
    assert finding.state == doctor.ADVICE and "an NVIDIA GPU is not used" in finding.found
    assert finding.advice == "pip install 'prnet_jax[cuda]'"
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # on purpose
    assert "not used" not in found("devices").found


def test_the_cache(here, only):
    only("cache")
    assert "0 files" in found("cache").found
    (here / "cache").mkdir()
    (here / "cache" / "program").write_bytes(bytes(2**20))
    assert f"1 files, 1 MiB, in {here / 'cache'}" in found("cache").found
