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
