"""A made-up huggingface_hub: repositories are folders on this disk, one folder for each commit."""

import hashlib
import pathlib
import shutil
import types


class HTTPError(Exception):
    pass


class HfHubHTTPError(HTTPError, OSError):
    def __init__(self, message="", code=404):
        super().__init__(message)
        self.response = types.SimpleNamespace(status_code=code)


class RepositoryNotFoundError(HfHubHTTPError):
    pass


class RevisionNotFoundError(HfHubHTTPError):
    pass


class EntryNotFoundError(Exception):
    pass


class RemoteEntryNotFoundError(HfHubHTTPError, EntryNotFoundError):
    pass


class LocalEntryNotFoundError(FileNotFoundError, EntryNotFoundError):
    pass


class HFValidationError(ValueError):
    pass


class LocalTokenNotFoundError(EnvironmentError):
    pass


ERRORS = types.SimpleNamespace(
    **{k: v for k, v in globals().items() if isinstance(v, type) and issubclass(v, Exception)}
)


class Hub:
    """The Hub, and its client `HfApi`.

    Attributes:
        root: holds user/repo/commit/files.
        fetched: the (repo, name, revision) of each download.
        fails: raised by every call, if given.
    """

    def __init__(self, root):
        self.root, self.fetched, self.fails, self.private = pathlib.Path(root), [], None, {}
        self.refs = {}  # (repo, branch) -> commit

    def HfApi(self, token=None, library_name=None):  # noqa: N802
        self.token = token
        return self

    def create_repo(self, repo, private, exist_ok):
        assert exist_ok
        self._check(repo, exists=False)
        if not (self.root / repo).exists():
            self.private[repo] = private
            (self.root / repo).mkdir(parents=True)

    def create_branch(self, repo, branch, exist_ok):
        assert exist_ok
        if ("main" in {b for r, b in self.refs if r == repo}) and (repo, branch) not in self.refs:
            self.refs[repo, branch] = self.refs[repo, "main"]

    def upload_folder(self, repo_id, folder_path, revision, commit_message):
        assert commit_message
        branch = revision or "main"
        before = self.refs.get((repo_id, branch))
        number = f"{repo_id} {branch} {len(list((self.root / repo_id).iterdir()))}"
        commit = hashlib.sha1(number.encode()).hexdigest()
        target = self.root / repo_id / commit
        if before:
            shutil.copytree(self.root / repo_id / before, target)
        shutil.copytree(folder_path, target, dirs_exist_ok=True)
        self.refs[repo_id, branch] = commit
        return types.SimpleNamespace(oid=commit)

    def hf_hub_download(self, repo, name, revision=None, dry_run=False):
        self._check(repo)
        commit = self.refs.get((repo, revision or "main"), revision or "")
        if not (self.root / repo / commit).is_dir() or not commit:
            raise RevisionNotFoundError
        file = self.root / repo / commit / name
        if not file.is_file():
            raise RemoteEntryNotFoundError
        if dry_run:
            size = file.stat().st_size
            return types.SimpleNamespace(commit_hash=commit, file_size=size)
        self.fetched.append((repo, name, revision))
        return str(file)

    def _check(self, repo, exists=True):
        if self.fails:
            raise self.fails
        if repo.count("/") != 1:
            raise HFValidationError("Repo id must be in the form 'namespace/repo_name'")
        if exists and not (self.root / repo).is_dir():
            raise RepositoryNotFoundError
