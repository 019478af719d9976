"""The Hugging Face Hub: weights fetched into its cache, each fault as a sentence."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fieldguide.errors import UsageError

FILES = ("model.safetensors", "pytorch_model.bin")  # what timm looks for, in its order


@dataclass(frozen=True)
class Cached:
    """Weights in the Hub's cache."""

    name: str  # of the backbone
    bytes: int


def in_cache(source: str) -> Path | None:
    """Where the weights of a repository such as `timm/resnet50.a1_in1k` lie in the cache; None if they do not."""
    from huggingface_hub import try_to_load_from_cache

    for name in FILES:
        if isinstance(found := try_to_load_from_cache(source, name), str):
            return Path(found)
    return None


def fetch(source: str) -> Path:
    """Downloads a repository's weights into the cache; a broken download is gone on with, and what is there is kept.

    Raises:
        UsageError: the fault, as a sentence.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for place, name in enumerate(FILES):
        try:
            return Path(hf_hub_download(source, name, endpoint=constants.ENDPOINT))
        except Exception as error:  # the network layer raises errors of many kinds
            is_other = isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)
            if not is_other or place == len(FILES) - 1:
                raise UsageError(fault(error)) from None
    raise AssertionError("one of the files was tried last")


def fault(error: BaseException) -> str:
    """What went wrong in a download, and what to do."""
    from huggingface_hub import constants

    chain = list(_chain(error))
    status = next((code for each in chain if (code := _status(each)) is not None), None)
    if status in SENTENCES:
        return SENTENCES[status]
    if status is not None:
        return f"the Hub answered with error {status}; try again later"
    names, text = {type(each).__name__ for each in chain}, " ".join(map(str, chain))
    if "Consistency check failed" in text or "RemoteProtocolError" in names:
        return "the download ended early (a truncated file); run the command again to go on with it"
    if "ProxyError" in names and any("407" in str(each) for each in chain):  # on the way to an https address
        return SENTENCES[407]
    if "ProxyError" in names:
        return f"the proxy refused the connection ({_first(chain[-1])}); check HTTPS_PROXY and HTTP_PROXY"
    if constants.HF_HUB_OFFLINE or "OfflineModeIsEnabled" in names:
        return "HF_HUB_OFFLINE is set and they are not in the cache"
    if isinstance(error, OSError) and error.errno == 28:
        return f"the disk is full: {constants.HF_HUB_CACHE}; free some space, or set HF_HOME to another disk"
    return f"no answer from the Hub: {_first(chain[-1])}"


SENTENCES = {
    401: "the Hub refused access (401): there are no such weights, or they need a login: hf auth login",
    403: "the Hub refused access (403): these weights are gated; accept their terms on their page, then hf auth login",
    404: "the Hub has no such file (404); it may have been renamed",
    407: "the proxy wants a name and a password (407); write them into HTTPS_PROXY and HTTP_PROXY, as in "
    "http://NAME:PASSWORD@HOST:PORT",
    429: "the Hub has had too many requests from here (429); wait some minutes, or log in: hf auth login",
}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    found = getattr(getattr(error, "response", None), "status_code", None)
    return int(found) if found is not None else None


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def cached() -> list[Cached]:
    """The weights of timm's networks in the cache, by name."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        found = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    named = [(repo.repo_id, repo.size_on_disk) for repo in found if in_cache(repo.repo_id)]
    return sorted((Cached(name.removeprefix("timm/"), size) for name, size in named), key=lambda each: each.name)


def put(source: str, content: bytes, commit: str) -> Path:
    """Lays weights (safetensors) into the cache as if they were fetched; `commit` has 40 hexadecimal digits."""
    from huggingface_hub import constants

    root = Path(constants.HF_HUB_CACHE) / f"models--{source.replace('/', '--')}"
    target = root / "snapshots" / commit / FILES[0]
    target.parent.mkdir(parents=True, exist_ok=True)
    (root / "refs").mkdir(exist_ok=True)
    target.write_bytes(content)
    (root / "refs" / "main").write_text(commit)
    return target
