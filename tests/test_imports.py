"""What importing and running the package must and must not bring with it."""

import subprocess
import sys


def run(code, cwd, **env):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, env=env or None
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_no_tensorflow_and_no_torch(root):
    modules = "import sys, prnet_jax.main, prnet_jax.train, prnet_jax.torch_weights\n"
    code = modules + "print([m for m in ('tensorflow', 'tensorboard') if m in sys.modules])"
    assert run(code, root) == "[]"


def test_the_builders_import_from_the_checkout(root):
    code = (
        "import prnet_jax.datasets.lung_phantom, prnet_jax.datasets.finding_lungs as f\n"
        "print(f.__file__)"
    )
    assert run(code, root) == str(root / "datasets" / "finding_lungs" / "__init__.py")


def test_hugging_faces_datasets_is_not_shadowed(root, tmp_path):
    """From the repository's root, `import datasets` finds the installed package, not our folder."""
    package = tmp_path / "datasets"
    package.mkdir()
    (package / "__init__.py").write_text("WHOSE = 'another project'")
    code = f"import sys; sys.path.append({str(tmp_path)!r}); import datasets; print(datasets.WHOSE)"
    assert run(code, root) == "another project"
    assert not (root / "datasets" / "__init__.py").exists()


def test_an_installed_package_does_not_take_in_hugging_faces(root, tmp_path):
    """site-packages with a wheel of ours and Hugging Face's package side by side."""
    for package in ("prnet_jax", "prnet_jax/datasets", "datasets"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    ours = (root / "prnet_jax" / "datasets" / "__init__.py").read_text(encoding="utf-8")
    (tmp_path / "prnet_jax" / "datasets" / "__init__.py").write_text(ours, encoding="utf-8")
    code = "import prnet_jax.datasets; print(len(prnet_jax.datasets.__path__))"
    assert run(code, tmp_path) == "1"
