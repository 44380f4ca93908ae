"""Published weights as a repository of the Hugging Face Hub, by the package huggingface_hub.

Two files are ever downloaded, config.json and model.safetensors, and neither can hold code.
"""

import contextlib
import dataclasses
import importlib.metadata
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from prnet_jax import predictor
from prnet_jax.commands import one_line
from prnet_jax.errors import InputError, RunError
from prnet_jax.hub.folder import (
    CONFIG,
    MODEL,
    MOST_BYTES,
    check_weights,
    read_config,
    save_pretrained,
)
from prnet_jax.predictor import Predictor
from prnet_jax.weights import released

_LOGIN = "log in by `hf auth login`, or give a token"


def from_pretrained(
    repo: str | os.PathLike,
    *,
    revision: str | None = None,
    flips: bool = False,
    batch_size: int | None = None,
    token: str | None = None,
) -> Predictor:
    """The network of published weights, downloaded once and kept by huggingface_hub.

        predictor = prnet_jax.from_pretrained("user/repo", revision="v1")

    Args:
        repo: "user/repo" of the Hub; or a folder that `save_pretrained` wrote, which wins over it.
        revision: a branch, a tag or a commit; None: the branch `main`. A commit cannot change;
            `Predictor.published` says which was loaded.
        flips: as for `prnet_jax.load`.
        batch_size: likewise.
        token: for a private repository; None: the one that `hf auth login` keeps.

    Raises:
        InputError: no such repository, revision or folder; no weights of this package in it;
            huggingface_hub is not installed.
        RunError: the Hub does not answer; the compiler of this machine computes wrongly.
    """
    folder, published = pathlib.Path(repo), None
    if os.path.isdir(folder):  # unlike folder.is_dir(), for any text
        if revision is not None:
            raise InputError(f"{folder} is a folder here, which has no revision {revision!r}")
        check_weights(folder / MODEL, read_config(folder / CONFIG))
    elif str(repo) in released():
        raise InputError(
            f"{repo} is no folder here but the name of weights in the package: they are loaded by "
            f"prnet_jax.load({str(repo)!r})"
        )
    else:
        folder, published = _download(str(repo), revision, token)
    loaded = predictor.load(folder / MODEL, flips=flips, batch_size=batch_size)
    return dataclasses.replace(loaded, published=published)


def push_to_hub(
    path: str | os.PathLike,
    repo: str,
    *,
    license: str,
    about: str = "",
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Publishes the weights of a run's best checkpoint with their settings, scores and a card.

    README.md, config.json and model.safetensors of the repository are replaced by those of
    `prnet_jax.save_pretrained`; its other files stay.

    Args:
        path: a run, or a folder of imported weights.
        repo: "user/repo", made where absent.
        license: as for `prnet_jax.save_pretrained`.
        about: likewise.
        private: whether a repository that is made is private; one that exists stays as it is.
        revision: a branch, made where absent; None: `main`.
        token: that may write; None: the one that `hf auth login` keeps.

    Returns:
        The commit, for `from_pretrained(repo, revision=...)`.

    Raises:
        InputError: `path` holds no weights; `repo` is no name, or may not be written to;
            huggingface_hub is not installed.
        RunError: the Hub does not answer.
    """
    hub = _api(repo, token)
    with tempfile.TemporaryDirectory(prefix="prnet-hub-") as scratch:
        folder = pathlib.Path(scratch) / "weights"
        save_pretrained(path, folder, license=license, about=about, repo=repo)
        with _one_line(repo, revision):
            hub.create_repo(repo, private=private, exist_ok=True)
            if revision is not None:
                hub.create_branch(repo, branch=revision, exist_ok=True)
            done = hub.upload_folder(
                repo_id=repo,
                folder_path=folder,
                revision=revision,
                commit_message=f"Weights of prnet_jax {importlib.metadata.version('prnet_jax')}",
            )
    return done.oid


def _download(repo: str, revision: str | None, token: str | None) -> tuple[pathlib.Path, str]:
    """The folder of a repository's files at one commit, and "user/repo@commit"."""
    hub = _api(repo, token)

    def fetched(name: str, at: str | None, most: int) -> pathlib.Path:
        size = hub.hf_hub_download(repo, name, revision=at, dry_run=True).file_size
        if size is None or size > most:
            raise InputError(
                f"{repo}: {name} has {size or 'an unknown number of'} bytes, expected at most "
                f"{most:,}: push it again"
            )
        return pathlib.Path(hub.hf_hub_download(repo, name, revision=at))

    with _one_line(repo, revision):
        # By the name of the revision, so that it is found again without network.
        path = fetched(CONFIG, revision, MOST_BYTES[CONFIG])
        config, commit = read_config(path), path.parent.name
        # By the commit, whatever is pushed meanwhile.
        weights = fetched(MODEL, commit, min(config["file"]["bytes"], MOST_BYTES[MODEL]))
    check_weights(weights, config)
    return weights.parent, f"{repo}@{commit}"


def _api(repo: str, token: str | None) -> Any:
    """The client of the Hub.

    Raises:
        InputError: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError:
        raise InputError(
            f"{repo} is no folder here, and the Hugging Face Hub needs the package "
            "huggingface_hub: pip install 'prnet_jax[hub]'"
        ) from None
    return huggingface_hub.HfApi(token=token, library_name="prnet_jax")


@contextlib.contextmanager
def _one_line(repo: str, revision: str | None) -> Iterator[None]:
    """Turns what the client raises into one line."""
    from huggingface_hub import errors

    at = "" if revision is None else f" at revision {revision!r}"
    try:
        yield
    except (InputError, RunError):
        raise
    except errors.HFValidationError as error:
        raise InputError(
            f"{repo!r} is no folder here, and no repository can have that name "
            f"({one_line(error)}): give user/repo"
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{repo} has no revision {revision!r}") from None
    except errors.RepositoryNotFoundError:  # a gated one too
        raise InputError(
            f"there is no folder {repo}, and no such repository on the Hub that you may read: "
            f"correct the name; if it is private or gated, {_LOGIN}"
        ) from None
    except errors.LocalEntryNotFoundError:
        raise RunError(
            f"the Hub does not answer, and {repo}{at} was not downloaded here before: try again"
        ) from None
    except errors.EntryNotFoundError:
        raise InputError(
            f"{repo}{at} holds no weights of prnet_jax ({CONFIG} and {MODEL}): name a repository "
            "that prnet_jax.push_to_hub made"
        ) from None
    except errors.LocalTokenNotFoundError:
        raise InputError(f"{repo} needs a token: {_LOGIN}") from None
    except errors.HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise InputError(f"the Hub refuses {repo} to you: {_LOGIN} that may write") from None
        raise RunError(f"the Hub failed at {repo}{at}: {one_line(error)}") from None
    except (errors.HTTPError, OSError) as error:  # no connection; a full disk
        raise RunError(f"{repo}{at}: {type(error).__name__}: {one_line(error)}") from None
