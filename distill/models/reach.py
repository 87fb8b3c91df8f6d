"""Models before anything loads them: whether a folder is whole, and whether the Hugging Face hub has a name; at once, in one line."""

from functools import lru_cache
from pathlib import Path

from cluster.errors import one_line
from distill.models.files import check_folder, read_json, read_object
from distill.models.locate import BUNDLED_STUDENT, BUNDLED_TEACHER, ModelError, locate

_TIMEOUT_S = 10.0
_CONFIGURATIONS = ("config.json", "modules.json")


class UnreachableError(ModelError):
    """The hub cannot be asked from here. Machines in another network may reach it."""


def check_model(model: str, revision: str | None = None, *, pickled: bool = True) -> None:
    """Raise a `ModelError` for a model that is not there, or a local one whose files are damaged. Nothing is fetched.

    Cost: the headers of a local model's files, or a request to the hub for a model that is not in its cache.

    Args:
        model: a local folder, a bundled model, or a name on the hub.
        revision: commit on the hub.
        pickled: whether weights may be those of `torch.save`.
    """
    found = locate(model)
    if model in {BUNDLED_STUDENT, BUNDLED_TEACHER}:
        return
    if not Path(found).is_dir():
        check_hub(found, revision)
        return
    folder = Path(found)
    if (folder / "modules.json").is_file():
        modules = read_json(folder / "modules.json")
        path = (
            modules[0].get("path") if isinstance(modules, list) and modules and isinstance(modules[0], dict) else None
        )
        if not isinstance(path, str):
            raise ModelError(
                f"{folder / 'modules.json'} names no folder of its first module; fetch the checkpoint again"
            )
        folder /= path
    check_folder(folder, pickled=pickled)
    if (Path(found) / "artifact.metadata").is_file():
        read_object(Path(found) / "artifact.metadata")


@lru_cache(maxsize=64)
def check_hub(model: str, revision: str | None = None) -> None:
    """Raise a `ModelError` for a name that neither the hub's cache nor the hub has. One request, without further attempts.

    Raises:
        UnreachableError: the model is not in the cache, and the hub does not answer or may not be asked.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub import errors as hub

    named = f"'{model}'" if revision is None else f"'{model}' (revision {revision})"
    try:
        if any(isinstance(try_to_load_from_cache(model, name, revision=revision), str) for name in _CONFIGURATIONS):
            return
    except hub.HFValidationError as error:
        raise ModelError(
            f"{named} is neither a local folder nor a name on the Hugging Face hub (owner/name)"
        ) from error
    if constants.HF_HUB_OFFLINE:
        raise UnreachableError(
            f"{named} is no local folder and not in the cache of the Hugging Face hub ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE "
            "forbids to fetch it; correct the name, or fetch it where there is a network"
        )
    for name in _CONFIGURATIONS:
        try:
            get_hf_file_metadata(hf_hub_url(model, name, revision=revision), timeout=_TIMEOUT_S)
        except hub.GatedRepoError as error:
            raise ModelError(f"{named} is gated: accept its terms on the Hugging Face hub and set HF_TOKEN") from error
        except hub.RepositoryNotFoundError as error:
            raise ModelError(
                f"{named} is no local folder, and the Hugging Face hub shows no model of that name; correct it, or set HF_TOKEN"
            ) from error
        except hub.RevisionNotFoundError as error:
            raise ModelError(f"the Hugging Face hub has no revision {revision} of '{model}'") from error
        except hub.EntryNotFoundError:
            continue
        except Exception as error:
            raise UnreachableError(
                f"{named} is not in the cache of the Hugging Face hub, and the hub cannot be reached: {one_line(error, 160)}; check the "
                "network, HF_ENDPOINT and proxies, or give a local folder"
            ) from error
        return
    raise ModelError(f"{named} has no config.json on the Hugging Face hub, so it is no model of transformers")
