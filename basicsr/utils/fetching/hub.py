"""Files of model repositories, by huggingface_hub: into its own cache, with its login, endpoint and offline mode."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from basicsr.utils.errors import UserError, nearest, some
from basicsr.utils.fetching.addresses import HubFile

_SUFFIXES = ('.safetensors', '.pth', '.pt', '.ckpt', '.bin')


class InHub(NamedTuple):
    """A file in the hub's cache. revision: its commit. file: its path in the repository. licence: of the card, or ''."""
    path: Path
    revision: str
    file: str
    licence: str


def fetch_from_hub(source: HubFile, again: bool = False) -> InHub:
    """Get a file of weights, and the `config.json` beside a `model.safetensors`.

    Args:
        again: fetch anew what the cache has.

    Raises:
        UserError: without huggingface_hub; for what is not there, not open, or not to be reached.
    """
    client = _client()
    with _explained(source):
        info = client.model_info(source.repository, revision=source.revision)
        files = [entry.rfilename for entry in info.siblings or []]
        file = source.file or _only_weights(source, files)
        if file not in files:
            raise UserError(f"'{source}': the repository has no file '{file}'.{nearest(file, files)}"
                            f" It has: {some(sorted(files), 10)}")
        path = client.hf_hub_download(source.repository, file, revision=info.sha, force_download=again)
        config = str(PurePosixPath(file).with_name('config.json'))
        if PurePosixPath(file).name == 'model.safetensors' and config in files:
            client.hf_hub_download(source.repository, config, revision=info.sha, force_download=again)
    tags = [tag.removeprefix('license:') for tag in info.tags or [] if tag.startswith('license:')]
    return InHub(Path(path), str(info.sha), file, tags[0] if tags else '')


def in_cache(source: HubFile, revision: str, file: str) -> Path | None:
    """A file that was fetched, without a connection; None where the hub's cache has lost it, or its client is gone."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(source.repository, file, revision=revision)
    return Path(found) if isinstance(found, str) and Path(found).is_file() else None


def _client() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError("weights on the hub need huggingface_hub: pip install 'retinexmamba[hub]'") from error
    return huggingface_hub.HfApi()


def _only_weights(source: HubFile, files: list[str]) -> str:
    """The weights of a folder as `PyTorchModelHubMixin` writes it, else the only ones."""
    weights = [name for name in files if name.endswith(_SUFFIXES)]
    if 'model.safetensors' in weights:
        return 'model.safetensors'
    if len(weights) == 1:
        return weights[0]
    if not weights:
        raise UserError(f"'{source}': the repository has no weights ({', '.join(_SUFFIXES)});"
                        f" it has: {some(sorted(files), 10) or 'nothing'}")
    raise UserError(f"'{source}': the repository has several weights, {some(sorted(weights), 10)};"
                    f' choose one: {source}:FILE')


@contextmanager
def _explained(source: HubFile) -> Iterator[None]:
    """Errors of the client as sentences. Its transport has errors of its own, in other classes with each of its versions."""
    from huggingface_hub import constants, errors
    login = 'log in with `hf auth login`, or set HF_TOKEN'
    page = f'{constants.ENDPOINT}/{source.repository}'
    try:
        yield
    except UserError:
        raise
    except errors.GatedRepoError as error:
        raise UserError(
            f"'{source}' is given only to those who agree to its terms: agree at {page}, and {login}") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"'{source}': there is no repository at {page}, or it is private; then {login}") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"'{source}': the repository has no revision '{source.revision}'") from error
    except errors.OfflineModeIsEnabled as error:
        raise UserError(f"'{source}' has not been fetched, and HF_HUB_OFFLINE forbids to fetch anything") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk
            raise
        raise UserError(f"'{source}' cannot be fetched from {constants.ENDPOINT}: {_line(error)}") from error


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip('.') if lines else type(error).__name__
