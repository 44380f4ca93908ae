"""The files for contributors agree with the scripts, with each other and with what they link to."""

import os
import re
import subprocess

import pytest
import yaml

import prnet_jax
from tests import written

PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*")
DOCUMENTS = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def workflows(root):
    return {path.stem: read(path) for path in (root / ".github" / "workflows").glob("*.yml")}


def test_the_workflow_tests_the_stacks_of_the_script(root, workflows):
    script = (root / ".ci" / "run").read_text(encoding="utf-8")
    named = re.search(r"^stacks=\$\{\*:-(.*?)\}", script, re.MULTILINE)[1].split()
    in_script = re.findall(r"^if found ([\d.]+) (\w+) ", script, re.MULTILINE)
    job = workflows["test"]["jobs"]["stack"]
    rows = job["strategy"]["matrix"]["include"]
    assert [(row["python"], row["stack"]) for row in rows] == in_script
    assert [stack for _, stack in in_script] == named == ["newest", "colab", "oldest"]
    (run,) = (step["run"] for step in job["steps"] if ".ci/run" in step.get("run", ""))
    assert run == 'bash .ci/run "$STACK"'


def test_every_action_is_pinned_by_its_commit(root):
    """A tag can be moved to other code. The comment is what Dependabot raises with the commit."""
    used = []
    for path in (root / ".github" / "workflows").glob("*.yml"):
        used += re.findall(r"uses: (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(used) > 8
    assert [action for action in used if not PINNED.fullmatch(action)] == []
    assert len({action.split("@")[0] for action in used}) == len(set(used))  # one version each
    hooks = (root / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.fullmatch(r"[0-9a-f]{40}", yaml.safe_load(hooks)["repos"][0]["rev"])
    assert re.search(r"rev: \w+ # frozen: v[\d.]+$", hooks, re.MULTILINE)


def test_only_the_jobs_that_need_it_may_write(workflows):
    allowed = {
        ("release", "build"): {"contents": "read", "id-token": "write", "attestations": "write"},
        ("release", "pypi"): {"id-token": "write"},
        ("release", "github"): {"contents": "write"},
    }
    for name, workflow in workflows.items():
        assert workflow["permissions"] == {"contents": "read"}
        for job, content in workflow["jobs"].items():
            assert content.get("permissions") == allowed.get((name, job)), (name, job)
            checkouts = [s for s in content["steps"] if "actions/checkout" in s.get("uses", "")]
            assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_a_release_is_published_without_a_password_from_what_was_attested(workflows):
    jobs = workflows["release"]["jobs"]
    assert workflows["release"][True] == {"push": {"tags": ["v*"]}}  # YAML reads "on" as true
    uses = {name: [s.get("uses", "").split("@")[0] for s in jobs[name]["steps"]] for name in jobs}
    assert uses["pypi"] == ["actions/download-artifact", "pypa/gh-action-pypi-publish"]
    assert jobs["pypi"]["environment"] == "pypi" and "with" not in jobs["pypi"]["steps"][1]
    attested = [s["with"] for s in jobs["build"]["steps"] if "actions/attest@" in s.get("uses", "")]
    sbom = "sbom/prnet_jax.cdx.json"
    assert attested == [
        {"subject-path": "dist/*"},
        {"subject-path": "dist/*", "sbom-path": sbom},
    ]
    assert any(sbom in step.get("run", "") for step in jobs["build"]["steps"])
    assert "secrets." not in str(jobs)


def test_the_readme_of_a_release_has_no_link_that_only_works_in_the_repository(
    root, workflows, tmp_path
):
    """PyPI shows it by itself: a picture or a page beside it is not there."""
    before = (root / "README.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text(before, encoding="utf-8")
    steps = workflows["release"]["jobs"]["build"]["steps"]
    (command,) = (step["run"] for step in steps if "sed " in step.get("run", ""))
    env = {"GITHUB_SERVER_URL": "https://host", "GITHUB_REPOSITORY": "us/it"}
    env |= {"GITHUB_REF_NAME": "v1.0", "PATH": os.environ["PATH"]}
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, env=env, check=True)
    (file,) = tmp_path.iterdir()
    after = file.read_text(encoding="utf-8")
    assert len(written.links(before)) > 20 and written.links(after) == []
    assert "](https://host/us/it/raw/v1.0/docs/pictures/overview.png)" in after
    assert "](https://host/us/it/blob/v1.0/docs/runs.md#interruptions)" in after
    assert re.sub(r"https://host/us/it/(raw|blob)/v1.0/", "", after) == before


def test_dependabot_raises_what_is_pinned(root):
    updates = read(root / ".github" / "dependabot.yml")["updates"]
    assert {row["package-ecosystem"] for row in updates} == {"github-actions", "pre-commit"}


def test_a_report_asks_for_the_doctor(root):
    forms = {path.stem: read(path) for path in (root / ".github/ISSUE_TEMPLATE").glob("*.yml")}
    assert forms.pop("config") == {"blank_issues_enabled": False}
    for form in forms.values():
        assert form.keys() >= {"name", "description", "body"}
        ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
        assert len(ids) == len(set(ids)) and "doctor" in ids
    (doctor,) = (field for field in forms["bug"]["body"] if field.get("id") == "doctor")
    assert "python -m prnet_jax.doctor" in doctor["attributes"]["label"]
    assert doctor["validations"] == {"required": True}


def test_the_changelog_begins_with_this_version(root):
    """`release.yml` takes the section of a release by this title."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    title = re.search(r"^## (.+)$", text, re.MULTILINE)[1]
    assert re.fullmatch(
        rf"{re.escape(prnet_jax.__version__)} - (\d{{4}}-\d\d-\d\d|not released yet)", title
    )


@pytest.mark.parametrize("name", DOCUMENTS)
def test_paths_exist(root, name):
    text = (root / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    paths = re.findall(
        r"`((?:\.ci|\.github|launch|tests|prnet_jax|configs|datasets)/[\w./-]*)`", text
    )
    for path in links + paths:
        assert (root / path).exists(), path
