"""Pictures in tables: parquet files, and data sets of the hub, which are such tables.

A row holds a picture, as the bytes of a file or as the pair {bytes, path} that the hub has, and may hold a label: a
class number or a word, in a column that says so or is called `label`. Both need the extra `hub`.

References:
    The Parquet format, https://parquet.apache.org; Datasets: A Community Library for Natural Language Processing,
    https://arxiv.org/abs/2109.02846
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaebm.data.errors import DataError
from vaebm.data.gathering import Entry, PictureList, PoolAndTest

__all__ = ["find_parquet_files", "list_hub", "list_parquet_file", "list_parquet_files"]

_PICTURE_NAMES = ("image", "images", "img", "picture")
_LABEL_NAMES = ("label", "labels", "class", "y", "fine_label")
_HELD_OUT = ("test", "validation", "valid", "val")
_ROWS_AT_ONCE = 64
_SECONDS = 5.0
_TELL_APART = re.compile(r"(?P<part>[a-z]+)")


class _Columns(NamedTuple):
    picture: str
    label: str | None
    label_names: tuple[str, ...]


def find_parquet_files(folder: Path) -> list[Path]:
    """List the parquet files of a folder and its sub-folders, in the order of their paths, hidden ones left out."""
    found = (path for path in folder.rglob("*.parquet") if path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def list_parquet_file(path: Path) -> PictureList:
    """List the pictures of one parquet file.

    Arguments:
        path: The file.

    Raises:
        DataError: If the extra isn't installed, the file is damaged, or has no column of pictures.
    """
    return _list_files([path], path.stem, str(path))


def list_parquet_files(folder: Path) -> PoolAndTest:
    """List the pictures of a folder of parquet files.

    Arguments:
        folder: Files whose names begin with `test`, or with `validation` if there is none, hold the test pictures.

    Raises:
        DataError: If the extra isn't installed, a file is damaged, or has no column of pictures.
    """
    files = find_parquet_files(folder)
    parts: dict[str, list[Path]] = {}
    for path in files:
        match = _TELL_APART.match(path.stem.lower())
        part = match["part"] if match and match["part"] in _HELD_OUT else "train"
        parts.setdefault(part, []).append(path)
    lists = {part: _list_files(paths, folder.name, str(folder)) for part, paths in parts.items()}
    return _pool_and_test(lists, str(folder))


def list_hub(name: str, is_certain: bool = True) -> PoolAndTest:
    """List the pictures of a data set of the hub, which is fetched or taken from the cache.

    Arguments:
        name: owner/name, or owner/name/configuration.
        is_certain: Whether a name of the hub was meant, and not perhaps a path.

    Returns:
        The part `train`, or the only one there is; and as test pictures the part `test`, or else `validation`.

    Raises:
        DataError: If the extra isn't installed, the hub can't be reached, there is no such data set, or it has no
            column of pictures.
    """
    no_path = "" if is_certain else "there is no such file or folder, and "
    hub = _import("huggingface_hub", f"{name}: {no_path}names on the hub")
    datasets = _import("datasets", f"{name}: {no_path}names on the hub")
    words = name.split("/")
    repository, configuration = "/".join(words[:2]), "/".join(words[2:]) or None
    is_there = _look_for(hub, repository, no_path)
    parts = _load(hub, datasets, (repository, configuration), is_there, no_path)
    lists = {part: _list_rows(rows, name if part == "train" else f"{name} {part}") for part, rows in parts.items()}
    return _pool_and_test(lists, name)


def _import(module: str, what: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise DataError(f"{what} need the extra 'hub': pip install 'vaebm[hub]'") from None


def _look_for(hub: Any, repository: str, no_path: str) -> bool:
    """Asks the hub for a data set once, without the repetitions of a download; False if it doesn't answer."""
    try:
        hub.HfApi().dataset_info(repository, timeout=_SECONDS)
    except hub.errors.OfflineModeIsEnabled:
        return False
    except (hub.errors.GatedRepoError, hub.errors.RepositoryNotFoundError, hub.errors.HFValidationError) as error:
        kind = "asks for a permission" if isinstance(error, hub.errors.GatedRepoError) else "isn't there, or is private"
        raise DataError(f"{repository}: {no_path}on the hub a data set of this name {kind}: check the name") from None
    except hub.errors.HfHubHTTPError as error:
        raise DataError(f"{repository}: the hub refuses it ({_first_line(error)}): try again later") from None
    # Whatever else fails on the way is the network: each of its layers has errors of its own.
    except Exception:
        return False
    return True


def _load(hub: Any, datasets: Any, names: tuple[str, str | None], is_there: bool, no_path: str) -> Any:
    modes = [(hub.constants, "HF_HUB_OFFLINE"), (datasets.config, "HF_HUB_OFFLINE")]
    before = [getattr(module, mode) for module, mode in modes]
    datasets.disable_progress_bars()
    hub.utils.disable_progress_bars()
    # What they warn of (a missing card, say) is none of the user's business here.
    hub.logging.set_verbosity_error()
    try:
        if not is_there:
            # Offline, the cache answers at once; else each of many requests would be repeated for half a minute.
            for module, mode in modes:
                setattr(module, mode, True)
        return datasets.load_dataset(*names)
    except Exception as error:
        if not is_there:
            raise DataError(
                f"{names[0]}: {no_path}the hub can't be reached for a data set of this name, which isn't in the cache "
                f"either: check {'the path or ' if no_path else ''}the network"
            ) from None
        raise DataError(f"{names[0]}: the data set can't be loaded ({_first_line(error)}): choose another") from None
    finally:
        for (module, mode), value in zip(modes, before, strict=True):
            setattr(module, mode, value)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _pool_and_test(lists: dict[str, PictureList], place: str) -> PoolAndTest:
    held = next((part for part in _HELD_OUT if part in lists), None)
    left = [part for part in lists if part not in _HELD_OUT]
    pool = "train" if "train" in lists else left[0] if len(left) == 1 else None
    if pool is None and not left:
        # One part alone is split, whatever its name.
        return PoolAndTest(lists[held], None) if held and len(lists) == 1 else PoolAndTest(None, lists[held or ""])
    if pool is None:
        raise DataError(f"{place}: has the parts {', '.join(lists)}: expected train, and test if there is one")
    return PoolAndTest(lists[pool], None if held is None else lists[held])


def _list_files(files: Sequence[Path], name: str, place: str) -> PictureList:
    parquet = _import("pyarrow.parquet", f"{place}: parquet files")
    columns = [_columns_of_file(parquet, file) for file in files]
    if len({column[:2] for column in columns}) > 1:
        raise DataError(f"{place}: the files have columns of different names: expected the same ones in all")
    picture, label, names = columns[0]
    values: list[Any] = []
    for file in files if label else ():
        with _guarded(file):
            values += parquet.read_table(file, columns=[label]).column(0).to_pylist()
    labels, names = _labels(values, names) if label else (None, ())

    def entries() -> Iterator[Entry]:
        for file in files:
            yield from _entries_of_rows(_rows_of_file(parquet, file, picture), str(file))

    return PictureList(name, place, entries, labels, names)


def _list_rows(rows: Any, name: str) -> PictureList:
    features = {key: _described(feature) for key, feature in rows.features.items()}
    picture, label, names = _columns(features, name)
    labels, names = _labels(rows.with_format("arrow")[:][label].to_pylist(), names) if label else (None, ())

    def entries() -> Iterator[Entry]:
        # As arrow, the rows hold the bytes of the files, not pictures that another library has decoded.
        tables = rows.select_columns([picture]).with_format("arrow").iter(batch_size=_ROWS_AT_ONCE)
        return _entries_of_rows((row for table in tables for row in table.column(0).to_pylist()), name)

    return PictureList(name, name, entries, labels, names)


def _rows_of_file(parquet: Any, file: Path, column: str) -> Iterator[Any]:
    with _guarded(file), parquet.ParquetFile(file) as opened:
        for batch in opened.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[column]):
            yield from batch.column(0).to_pylist()


@contextmanager
def _guarded(file: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    # A damaged file makes decoders fail in more ways than can be listed.
    except Exception as error:
        raise DataError(
            f"{file}: cannot be read ({_first_line(error)}): expected a parquet file that is whole: get it again"
        ) from None


def _entries_of_rows(rows: Iterable[Any], place: str) -> Iterator[Entry]:
    for index, row in enumerate(rows):
        content = row.get("bytes") if isinstance(row, dict) else row
        # Without bytes there is nothing to read, as where only a path was stored.
        yield Entry(f"{place}[{index}]", content or b"")


def _described(feature: Any) -> tuple[str, tuple[str, ...]]:
    """The kind of a column of the hub's: picture, class or another, and the names of its classes."""
    kind = type(feature).__name__
    if (
        kind == "Image"
        or (isinstance(feature, dict) and "bytes" in feature)
        or (kind == "Value" and feature.dtype in ("binary", "large_binary"))
    ):
        return "picture", ()
    if kind == "ClassLabel":
        return "class", tuple(feature.names)
    return getattr(feature, "dtype", kind), ()


def _columns_of_file(parquet: Any, file: Path) -> _Columns:
    types = import_module("pyarrow.types")
    with _guarded(file):
        schema = parquet.read_schema(file)
    stored = _stored_features(schema.metadata or {})
    features: dict[str, tuple[str, tuple[str, ...]]] = {}
    for field in schema:
        kind, described = field.type, stored.get(field.name, {})
        is_pair = types.is_struct(kind) and "bytes" in {kind.field(index).name for index in range(kind.num_fields)}
        if is_pair or types.is_binary(kind) or types.is_large_binary(kind):
            features[field.name] = "picture", ()
        elif described.get("_type") == "ClassLabel":
            features[field.name] = "class", _stored_names(described)
        else:
            features[field.name] = str(kind), ()
    return _columns(features, str(file))


def _stored_features(metadata: dict[bytes, bytes]) -> dict[str, dict[str, Any]]:
    """What the hub writes of the columns beside them; where that is damaged, nothing."""
    try:
        stored = json.loads(metadata.get(b"huggingface", b"{}"))
    except (ValueError, RecursionError):
        return {}
    for key in ("info", "features"):
        stored = stored.get(key) if isinstance(stored, dict) else None
    features = stored if isinstance(stored, dict) else {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _stored_names(feature: dict[str, Any]) -> tuple[str, ...]:
    names = feature.get("names")
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _columns(features: dict[str, tuple[str, tuple[str, ...]]], place: str) -> _Columns:
    pictures = [name for name, (kind, _) in features.items() if kind == "picture"]
    named = [name for name in _PICTURE_NAMES if name in pictures]
    if not pictures:
        found = ", ".join(f"{name} ({kind})" for name, (kind, _) in features.items())
        raise DataError(f"{place}: has no column of pictures, but {found}: expected bytes, or pairs of bytes and path")
    if len(pictures) > 1 and not named:
        raise DataError(f"{place}: has several columns of pictures, {', '.join(pictures)}: expected one named image")
    fits = [
        name for name, (kind, _) in features.items() if name in _LABEL_NAMES and re.match("class|u?int|.*str", kind)
    ]
    labels = sorted(fits, key=_LABEL_NAMES.index) or [name for name, (kind, _) in features.items() if kind == "class"]
    label = labels[0] if labels else None
    return _Columns((named or pictures)[0], label, features[label][1] if label else ())


def _labels(values: list[Any], names: tuple[str, ...]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    if any(value is None for value in values):
        return None, ()
    if all(isinstance(value, int) for value in values):
        lowest, highest = min(values, default=0), max(values, default=0)
        if lowest < 0 or highest > np.iinfo(np.int64).max:
            return None, ()
        # Names that don't reach as far as the numbers may be those of other classes.
        return np.array(values, dtype=np.int64), names if highest < len(names) else ()
    classes = sorted({str(value) for value in values})
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[str(value)] for value in values], dtype=np.int64), tuple(classes)
