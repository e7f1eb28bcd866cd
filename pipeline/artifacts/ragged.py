"""Zarr stores of tables with a varying number of rows per image.

A store is a zarr group of parts, `part_00000` and so on. Each part is a group that holds
`IMAGES_A_PART` images. In a part, the rows of dimension X that belong to item i of the parent
dimension are `X_offset[i] : X_offset[i + 1]`. Parts have a fixed number of images, so that the
bytes do not depend on the number of workers. Every column of a part is one shard: DVC is fast
with few large files, and zarr requires that a shard has only one writer. The attributes hold
checksums: see `integrity`.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import safetensors.numpy
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ShardingCodecIndexLocation, ZstdCodec
from zarr.core.array import ShardsConfigParam

from pipeline.artifacts import integrity
from pipeline.common import files
from pipeline.common.errors import InputError

IMAGES_A_PART = 256
SCHEMA_VERSION = 2
_CHUNK_BYTES = 2**18
_UNFINISHED = "unfinished"
_PARTS_OPEN = 16

Values = Mapping[str, Any]  # column -> array of its rows, or a sequence of arrays if nested


@dataclass(frozen=True)
class Column:
    """One array of a part.

    dtype : of the array, as a NumPy type string.
    meaning : description, which is stored as an attribute of the array.
    dims : names of the dimensions after the first.
    nested : name of the first dimension if a row has a varying number of values, which are
        then stored concatenated; otherwise None.
    """

    dtype: str
    meaning: str
    dims: tuple[str, ...] = ()
    nested: str | None = None

    @property
    def by_row(self) -> bool:
        """Whether only the rows of an image are read; other columns are kept in memory."""
        return self.nested is not None or bool(self.dims)

    @property
    def file(self) -> str:
        """The name of the file with the values: one shard."""
        return ".".join(["c", "0", *("0" for _ in self.dims)])


@dataclass(frozen=True)
class Schema:
    """The content of a kind of store: the name of its row dimension, and its columns."""

    row: str
    columns: Mapping[str, Column]


@dataclass(frozen=True)
class _Image:
    """The rows of an image, with every nested column as concatenated values and lengths."""

    id: str
    height: int
    width: int
    rows: int
    arrays: Mapping[str, NDArray[Any]]

    @classmethod
    def of(cls, schema: Schema, image_id: str, height: int, width: int, values: Values) -> Self:
        arrays = {}
        for name, column in schema.columns.items():
            if column.nested is None:
                arrays[name] = np.asarray(values[name], column.dtype)
                continue
            nested = [np.asarray(array, column.dtype) for array in values[name]]
            arrays[name] = np.concatenate([np.empty(0, column.dtype), *nested])
            arrays[f"{column.nested}_length"] = np.array([len(array) for array in nested], np.int64)
        return cls(image_id, height, width, _row_count(schema, values), arrays)

    @classmethod
    def read(cls, path: Path) -> Self:
        with safetensors.safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = json.loads(file.metadata()["image"])
        return cls(**about, arrays=arrays)

    def write(self, path: Path) -> None:
        about = {"id": self.id, "height": self.height, "width": self.width, "rows": self.rows}
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        files.write_bytes(path, safetensors.numpy.save(arrays, {"image": json.dumps(about)}))


class RaggedWriter:
    """Writes a store image by image, in order, and resumes an unfinished store.

    An image that has been added is not lost if the process is killed: until its part is full,
    it is kept in a file of its own, in a folder beside the store. `close` writes the last part.

    Attributes
    ----------
    finished : number of images in the store, including those of an earlier, interrupted writer.
    rows : total number of their rows.
    empty : number of images without rows.

    Raises
    ------
    InputError
        If what an interrupted writer left is damaged.
    """

    def __init__(self, path: Path, schema: Schema, attributes: Mapping[str, Any]) -> None:
        self._path = path
        self._schema = schema
        self._waiting = path.with_name(f"{path.name}.images")
        shutil.rmtree(path / _UNFINISHED, ignore_errors=True)
        self._images: list[_Image] = []
        with _remedy(f"remove {path.parent} and run again"):
            with integrity.naming(path / "zarr.json"):
                self._group = zarr.open_group(
                    path,
                    mode="a",
                    zarr_format=3,
                    attributes={"schema_version": SCHEMA_VERSION, **attributes},
                )
            counts = [np.diff(offsets) for offsets in self._finished_offsets()]
            self._parts = len(counts)
            self.finished = sum(map(len, counts))
            self.rows = sum(int(part.sum()) for part in counts)
            self.empty = sum(int((part == 0).sum()) for part in counts)
            while (place := self._place(self.finished)).exists():
                with integrity.naming(place):
                    image = _Image.read(place)
                self._take(image)

    def _finished_offsets(self) -> Iterator[NDArray[np.int64]]:
        """Yield the offsets of the rows in every finished part, after checking the part."""
        for name in sorted(path.name for path in self._path.glob("part_*")):
            attributes = _part_attributes(self._group, self._path / name)
            integrity.check_files(self._path / name, attributes[integrity.FILES], lambda _: False)
            offsets: Any = self._group[f"{name}/{self._schema.row}_offset"]
            yield offsets[:]

    def append(self, image_id: str, height: int, width: int, values: Values) -> None:
        """Add an image (its id, and its size in pixels) and its rows."""
        image = _Image.of(self._schema, image_id, height, width, values)
        image.write(self._place(self.finished))
        self._take(image)

    def close(self) -> None:
        """Write the images of the last, shorter part, and that the store is finished."""
        if self._images:
            self._flush()
        attributes = {**self._group.attrs, "parts": self._parts}
        attributes.pop(integrity.CHECKSUM, None)
        self._group.update_attributes(integrity.sealed(attributes))
        shutil.rmtree(self._waiting, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()

    def _place(self, number: int) -> Path:
        """Return the file that an image is kept in until its part is full."""
        return self._waiting / f"{number:09d}.safetensors"

    def _take(self, image: _Image) -> None:
        self.finished += 1
        self.rows += image.rows
        self.empty += not image.rows
        self._images.append(image)
        if len(self._images) == IMAGES_A_PART:
            self._flush()

    def _flush(self) -> None:
        images = self._images
        part = self._group.create_group(_UNFINISHED)
        row = self._schema.row
        offsets = _offsets([image.rows for image in images])
        _write(part, f"{row}_offset", offsets, ("image_edge",), f"first {row} of an image")
        for name, column in self._schema.columns.items():
            self._write_column(part, name, column)
        attributes = {
            "image_id": [image.id for image in images],
            "height": [image.height for image in images],
            "width": [image.width for image in images],
            integrity.FILES: integrity.file_checksums(self._path / _UNFINISHED),
        }
        part.update_attributes(integrity.sealed(attributes))
        # A part gets its name when it is complete, even if the process is killed.
        (self._path / _UNFINISHED).rename(self._path / _part_name(self._parts))
        self._parts += 1
        self._images = []
        shutil.rmtree(self._waiting, ignore_errors=True)

    def _write_column(self, part: zarr.Group, name: str, column: Column) -> None:
        row = self._schema.row
        data = np.concatenate([image.arrays[name] for image in self._images])
        _write(part, name, data, (column.nested or row, *column.dims), column.meaning)
        if column.nested is not None and f"{column.nested}_offset" not in part:
            lengths = [image.arrays[f"{column.nested}_length"] for image in self._images]
            offsets = _offsets(np.concatenate(lengths))
            meaning = f"first {column.nested} of a {row}"
            _write(part, f"{column.nested}_offset", offsets, (f"{row}_edge",), meaning)


@dataclass(frozen=True)
class _Part:
    """A part opened for reading: columns with one number per row in memory, others on disk."""

    height: Sequence[int]
    width: Sequence[int]
    columns: Mapping[str, Any]
    offsets: Mapping[str, NDArray[np.int64]]


class RaggedStore:
    """A store opened for reading. It iterates over image ids in the order of writing.

    Raises
    ------
    InputError
        If there is no store, or it has another schema version. Also, when it is read, if it is
        damaged: the message names the file, and the stage that writes it.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self._schema = schema
        self._opened: dict[str, _Part] = {}
        self._checked: set[str] = set()
        self._stage = path.parent.name
        with self._whole(), integrity.naming(path / "zarr.json"):
            try:
                self._group = zarr.open_group(path, mode="r")
            except FileNotFoundError:
                raise InputError(
                    f"{path}: no such store; the stage that writes it has not run"
                ) from None
            attributes = dict(self._group.attrs)
            self._stage = str(attributes.get("stage", self._stage))
            version = attributes.get("schema_version")
            if version != SCHEMA_VERSION:
                raise ValueError(f"schema version {version}, this code reads {SCHEMA_VERSION}")
            self.attributes: dict[str, Any] = integrity.opened_seal(attributes)
        """Attributes of the store, such as the stage that wrote it and its parameters."""

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._places

    def size(self, image_id: str) -> tuple[int, int]:
        """Height and width of the image, in pixels."""
        name, position = self._place(image_id)
        part = self._part(name)
        return part.height[position], part.width[position]

    def read(self, image_id: str, columns: Sequence[str] | None = None) -> dict[str, Any]:
        """Read the rows of one image.

        Parameters
        ----------
        columns : names of the columns to read; by default all.

        Returns
        -------
        For every column an array of n rows, or a list of n arrays if the column is nested.

        Raises
        ------
        InputError
            If the store does not hold the image.
        """
        name, position = self._place(image_id)
        part = self._part(name)
        with self._whole():
            return self._read_rows(name, part, position, columns or list(self._schema.columns))

    def _read_rows(
        self, name: str, part: _Part, position: int, columns: Sequence[str]
    ) -> dict[str, Any]:
        first, last = part.offsets[f"{self._schema.row}_offset"][position : position + 2]
        values: dict[str, Any] = {}
        for column_name in columns:
            column = self._schema.columns[column_name]
            array = part.columns[column_name]
            with integrity.naming(self.path / name / column_name / column.file):
                if column.nested is None:
                    values[column_name] = array[first:last]
                    continue
                edges = part.offsets[f"{column.nested}_offset"][first : last + 1]
                rows = np.split(array[edges[0] : edges[-1]], edges[1:-1] - edges[0])
                # Without rows, np.split returns one empty array.
                values[column_name] = rows[: last - first]
        return values

    @cached_property
    def _places(self) -> dict[str, tuple[str, int]]:
        """For every image, the name of its part and its position there."""
        places = {}
        with self._whole():
            for number in range(self.attributes["parts"]):
                name = _part_name(number)
                ids = _part_attributes(self._group, self.path / name)["image_id"]
                places.update({str(image): (name, position) for position, image in enumerate(ids)})
        return places

    def _place(self, image_id: str) -> tuple[str, int]:
        if image_id not in self._places:
            raise InputError(f"{self.path}: holds no image {image_id}")
        return self._places[image_id]

    def _part(self, name: str) -> _Part:
        """Return a part; a limited number of parts stays open."""
        if name not in self._opened:
            if len(self._opened) == _PARTS_OPEN:
                self._opened.clear()
            with self._whole():
                self._opened[name] = self._open_part(name)
        return self._opened[name]

    def _open_part(self, name: str) -> _Part:
        attributes = _part_attributes(self._group, self.path / name)
        if name not in self._checked:
            by_row = {f"{k}/{c.file}" for k, c in self._schema.columns.items() if c.by_row}
            integrity.check_files(
                self.path / name, attributes[integrity.FILES], by_row.__contains__
            )
            self._checked.add(name)
        with integrity.naming(self.path / name):
            group: Any = self._group[name]
            arrays = dict(group.arrays())
            # Every read of a zarr array takes one or two milliseconds.
            columns = {
                key: arrays[key] if column.by_row else arrays[key][:]
                for key, column in self._schema.columns.items()
            }
            offsets = {k: array[:] for k, array in arrays.items() if k.endswith("_offset")}
        return _Part(attributes["height"], attributes["width"], columns, offsets)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Say of a damaged file which stage writes it."""
        with _remedy(f"to make it again: dvc repro {self._stage}"):
            yield


Store = TypeVar("Store", bound=RaggedStore)


@lru_cache(maxsize=2)
def opened(kind: type[Store], path: Path) -> Store:
    """Open a store and keep it open: a worker process reads many images from few stores."""
    return kind(path)  # type: ignore[call-arg]


@contextmanager
def _remedy(advice: str) -> Iterator[None]:
    """Raise InputError for a damaged file, with advice."""
    try:
        yield
    except integrity.DamagedFileError as error:
        raise InputError(f"{error}; {advice}") from None


def _part_name(number: int) -> str:
    return f"part_{number:05d}"


def _part_attributes(group: zarr.Group, part: Path) -> dict[str, Any]:
    """Read the attributes of a part, and compare their checksum."""
    with integrity.naming(part / "zarr.json"):
        return integrity.opened_seal(dict(group[part.name].attrs))


def _row_count(schema: Schema, values: Values) -> int:
    counts = {name: len(values[name]) for name in schema.columns}
    if len(set(counts.values())) != 1:
        raise ValueError(f"columns of different lengths: {counts}")
    return next(iter(counts.values()))


def _offsets(counts: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def _write(
    part: zarr.Group, name: str, data: NDArray[Any], dims: tuple[str, ...], meaning: str
) -> None:
    row_bytes = data.dtype.itemsize * int(np.prod(data.shape[1:]))
    rows_a_chunk = max(1, min(_CHUNK_BYTES // max(row_bytes, 1), len(data)))
    chunks = (rows_a_chunk, *data.shape[1:])
    # One shard holds the whole column, so that it is one file.
    shard_rows = max(1, -(-len(data) // rows_a_chunk)) * rows_a_chunk
    array = part.create_array(
        name,
        shape=data.shape,
        dtype=data.dtype,
        chunks=chunks,
        shards=ShardsConfigParam(
            shape=(shard_rows, *data.shape[1:]), index_location=ShardingCodecIndexLocation.start
        ),
        compressors=[ZstdCodec(level=5), Crc32cCodec()],
        # The shard lies beside zarr.json, without folders of its own: those also slow DVC down.
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=dims,
        attributes={"meaning": meaning},
    )
    if data.size:
        array[...] = data
