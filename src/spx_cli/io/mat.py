"""MATLAB files of versions 4 to 7, read here because damaged ones can crash the process in the library for them.

Only what spx asks for is read: matrices of numbers, and `groundTruth` of the BSDS. Sizes are judged before numbers.
The format is described in MathWorks, MAT-File Format (R2023b).
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from math import prod
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spx_cli.errors import FormatError
from spx_cli.io.codec import CheckSize

_COMPRESSED, _MATRIX = 15, 14
_CELL, _STRUCT, _TEXT, _SPARSE = 1, 2, 4, 5
_CLASSES = range(1, 18)
_NUMBERS = range(6, 16)  # double, single, and integers of 8 to 64 bits
_COMPLEX = 0x0800
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TYPES_4 = ("f8", "f4", "i4", "i2", "u2", "u1")
_MOST_DIMENSIONS, _LONGEST_NAME, _MOST_FIELDS, _MOST_ANNOTATIONS = 8, 256, 256, 1000
_SHOWN = 12


class Variable(NamedTuple):
    """A variable of a file. `open` gives its numbers, or what follows its head; `kind` is one of the classes."""

    name: str
    kind: int
    shape: tuple[int, ...]
    open: Callable[[], "_Source"]
    complex: bool = False
    dtype: str = ""  # of version 4, which has no tags

    @property
    def is_map(self) -> bool:
        """Whether it is a matrix of real numbers."""
        return self.kind in _NUMBERS and len(self.shape) == 2 and not self.complex

    def __str__(self) -> str:
        what = {_CELL: "cells", _STRUCT: "struct", _TEXT: "text", _SPARSE: "sparse"}.get(self.kind, "")
        return f"{self.name} ({' x '.join(map(str, self.shape))}{' ' * bool(what)}{what})"


def read_map(file: BinaryIO, size: tuple[int, int] | None, check_size: CheckSize) -> NDArray[np.generic]:
    """Return the matrix in a file that is a label map, of the type that is stored.

    That is `labels`, or the only matrix of more than one number, or of those the only one of the size that is known:
    so [L, N] = superpixels(...) may be saved with N. Raises FormatError where it is not clear which.
    check_size : called with height and width before the numbers are read.
    """
    found = variables(file)
    maps = [v for v in found if v.is_map]
    several = [v for v in maps if prod(v.shape) > 1] or maps
    fitting = [v for v in several if v.shape == size] or several
    named = [v for v in found if v.name == "labels"]
    chosen = named or fitting
    if len(chosen) != 1 or not chosen[0].is_map:
        truths = [v for v in found if v.name == "groundTruth"]
        if not maps and truths:
            segmentations = read_ground_truth(file, check_size)
            if len(segmentations) == 1:
                return segmentations[0]
            raise FormatError(f"groundTruth holds {len(segmentations)} annotations; a label map is one")
        shown = ", ".join(map(str, found[:_SHOWN])) + (", ..." if len(found) > _SHOWN else "")
        raise FormatError(f"needs a matrix named 'labels' or one matrix only, found {shown or 'none'}")
    check_size(*chosen[0].shape)
    return _numbers(chosen[0])


def read_vector(file: BinaryIO, name: str) -> NDArray[np.generic]:
    """Return the numbers of the variable `name` in one row; FormatError where there is no such array."""
    for variable in variables(file):
        if variable.name == name and variable.is_map:
            return _numbers(variable).ravel()
    raise FormatError(f"holds no numbers named {name}")


def read_ground_truth(file: BinaryIO, check_size: CheckSize) -> list[NDArray[np.generic]]:
    """Return the matrices groundTruth{i}.Segmentation of a BSDS annotation, in the order of the file.

    check_size : called with the height and width of each before its numbers are read.
    """
    variable = next((v for v in variables(file) if v.name == "groundTruth"), None)
    if variable is None:
        raise FormatError("holds no variable groundTruth: not a BSDS annotation")
    source = variable.open()
    if prod(variable.shape) > _MOST_ANNOTATIONS:
        raise FormatError(f"damaged: {prod(variable.shape):,} annotations")
    if variable.kind == _STRUCT:
        structs = iter([variable])
    elif variable.kind == _CELL:
        structs = (_head(_element(source, _MATRIX), source) for _ in range(prod(variable.shape)))
    else:
        raise FormatError(f"{variable} is no cell array of structs: not a BSDS annotation")
    return [matrix for struct in structs for matrix in _segmentation(struct, source, check_size)]


def count_ground_truth(file: BinaryIO) -> int:
    """Return how many annotations `read_ground_truth` will find, 0 in a file of something else."""
    return sum(prod(v.shape) for v in variables(file) if v.name == "groundTruth" and v.kind in (_CELL, _STRUCT))


def variables(file: BinaryIO) -> list[Variable]:
    """Return the variables of a file, of which no number has been read; FormatError where it is not MATLAB's."""
    file.seek(0)
    start = file.read(128)
    if len(start) >= 4 and 0 in start[:4] and not start.startswith(b"\x89HDF"):
        return list(_variables_4(file))
    if start[124:128] in (b"\0\2IM", b"\2\0MI") or start.startswith(b"\x89HDF"):
        raise FormatError("a MATLAB 7.3 file; save it with -v7")
    order = {b"\0\1IM": "<", b"\1\0MI": ">"}.get(start[124:128])
    if order is None:
        raise FormatError("not a MATLAB file")
    return list(_variables_5(file, order))


class _Source:
    """Bytes that are read once, from the front; none is read that was not asked for."""

    def __init__(self, data: BinaryIO, order: str) -> None:
        self._data, self.order = data, order

    def read(self, count: int) -> bytes:
        """Return so many bytes; FormatError where they end before."""
        found = self._data.read(count)
        if len(found) < count:
            raise FormatError("damaged: the data end too early")
        return found

    def skip(self, count: int) -> None:
        """Pass over so many bytes, if there are."""
        while count > 0 and (found := self._data.read(min(count, 1 << 20))):
            count -= len(found)

    def integers(self, format: str) -> tuple[int, ...]:
        """Return numbers in the order of bytes of the file."""
        return struct.unpack(self.order + format, self.read(struct.calcsize("=" + format)))


class _Inflated(BytesIO):
    """The content of a zlib stream, of which no more is inflated than is read."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._left, self._engine = data, zlib.decompressobj()

    def read(self, count: int | None = -1, /) -> bytes:
        """Return up to `count` bytes."""
        wanted, parts = max(count or 0, 0), []
        while wanted > 0 and not self._engine.eof:
            part = self._engine.decompress(self._left, wanted)
            self._left = self._engine.unconsumed_tail
            if not part and not self._left:
                break
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)


class _Element(NamedTuple):
    """The tag of an element: its type, the bytes of its content and of what fills them up; `content` of a small one."""

    type: int
    length: int
    padding: int
    content: bytes | None = None


def _tag(source: _Source) -> _Element:
    first, count = source.integers("II")
    if first >> 16:  # a small element: its content takes the place of the count
        small = first >> 16
        if small > 4:
            raise FormatError("damaged: an element that is no element")
        return _Element(first & 0xFFFF, small, 0, struct.pack(source.order + "I", count)[:small])
    return _Element(first, count, -count % 8)


def _element(source: _Source, type: int) -> int:
    """Return the bytes of an element of this type, whose content follows."""
    element = _tag(source)
    if element.type != type or element.content is not None:
        raise FormatError("damaged: an element of another kind than expected")
    return element.length


def _content(source: _Source, most: int) -> tuple[int, bytes]:
    """Return the type and the content of an element of up to `most` bytes."""
    element = _tag(source)
    if element.length > most:
        raise FormatError(f"damaged: an element of {element.length:,} bytes where {most:,} would do")
    if element.content is not None:
        return element.type, element.content
    content = source.read(element.length)
    source.skip(element.padding)
    return element.type, content


def _head(count: int, source: _Source) -> Variable:
    """Return the matrix of which `count` bytes follow, up to its data."""
    if count == 0:  # an empty matrix
        return Variable("", _NUMBERS[0], (0, 0), lambda: source)
    _, flags = _content(source, 8)
    _, dimensions = _content(source, 4 * _MOST_DIMENSIONS)
    _, name = _content(source, _LONGEST_NAME)
    if len(flags) != 8 or len(dimensions) < 8 or len(dimensions) % 4:
        raise FormatError("damaged: a matrix without kind or size")
    kind = struct.unpack(source.order + "I", flags[:4])[0]
    shape = struct.unpack(f"{source.order}{len(dimensions) // 4}i", dimensions)
    if kind & 0xFF not in _CLASSES or min(shape) < 0:
        raise FormatError(f"damaged: a matrix of kind {kind & 0xFF} and size {shape}")
    return Variable(name.decode("latin-1"), kind & 0xFF, shape, lambda: source, bool(kind & _COMPLEX))


def _variables_5(file: BinaryIO, order: str) -> Iterator[Variable]:
    place = 128
    while True:
        file.seek(place)
        start = file.read(8)
        if not start:
            return
        element = _tag(_Source(BytesIO(start), order))
        place += 8 + element.length + (0 if element.type == _COMPRESSED else element.padding)
        if element.type not in (_COMPRESSED, _MATRIX) or element.content is not None:
            raise FormatError(f"damaged: an element of type {element.type} among the variables")
        source = _inside(file, element, order)
        if element.type == _COMPRESSED:
            element = element._replace(length=_element(source, _MATRIX))
        yield _head(element.length, source)


def _inside(file: BinaryIO, element: _Element, order: str) -> _Source:
    content = file.read(element.length)
    if len(content) < element.length:
        raise FormatError("damaged: the file ends within a variable")
    return _Source(_Inflated(content) if element.type == _COMPRESSED else BytesIO(content), order)


def _variables_4(file: BinaryIO) -> Iterator[Variable]:
    end, place = file.seek(0, 2), 0
    while place < end:
        file.seek(place)
        start = file.read(20)
        if len(start) < 20:
            raise FormatError("not a MATLAB file")
        order = "<" if struct.unpack("<i", start[:4])[0] in range(1000) else ">"
        form, height, width, imaginary, length = struct.unpack(order + "5i", start)
        machine, rest, precision, kind = form // 1000, form // 100 % 10, form // 10 % 10, form % 10
        if machine > 1 or rest or precision >= len(_TYPES_4) or kind > 2 or not 0 < length <= _LONGEST_NAME:
            raise FormatError("not a MATLAB file")
        if min(height, width) < 0 or imaginary not in (0, 1):
            raise FormatError(f"damaged: a matrix of size {(height, width)}")
        dtype = np.dtype(order + _TYPES_4[precision])
        data = place + 20 + length
        place = data + height * width * dtype.itemsize * (1 + imaginary)
        if place > end:
            raise FormatError("damaged: the file ends within a variable")
        name = file.read(length).rstrip(b"\0").decode("latin-1")

        def open(data: int = data, order: str = order) -> _Source:
            file.seek(data)
            return _Source(file, order)

        yield Variable(name, (_NUMBERS[0], _TEXT, _SPARSE)[kind], (height, width), open, bool(imaginary), dtype.str)


def _numbers(variable: Variable) -> NDArray[np.generic]:
    """Return the numbers of a matrix, of the type in which they are stored."""
    source, count = variable.open(), prod(variable.shape)
    if variable.dtype:
        return np.frombuffer(source.read(count * np.dtype(variable.dtype).itemsize), variable.dtype).reshape(
            variable.shape, order="F"
        )
    if count == 0:
        return np.empty(variable.shape)
    type, content = _content(source, 8 * count)
    if type not in _TYPES:
        raise FormatError(f"damaged: numbers of type {type}")
    dtype = np.dtype(source.order + _TYPES[type])
    if len(content) != count * dtype.itemsize:
        raise FormatError(f"damaged: {len(content):,} bytes for {count:,} numbers of {dtype.itemsize}")
    return np.frombuffer(content, dtype).reshape(variable.shape, order="F")


def _segmentation(variable: Variable, source: _Source, check_size: CheckSize) -> Iterator[NDArray[np.generic]]:
    """Yield the field Segmentation of a struct, or of each in an array of structs; other fields are passed over."""
    if variable.kind != _STRUCT:
        raise FormatError("groundTruth holds no structs: not a BSDS annotation")
    _, width = _content(source, 4)
    _, names = _content(source, _LONGEST_NAME * _MOST_FIELDS)
    length = struct.unpack(source.order + "I", width)[0] if len(width) == 4 else 0
    if not 0 < length <= _LONGEST_NAME or len(names) % length:
        raise FormatError("damaged: a struct without names of fields")
    fields = [names[i : i + length].split(b"\0")[0] for i in range(0, len(names), length)]
    if b"Segmentation" not in fields:
        raise FormatError("groundTruth holds no field Segmentation: not a BSDS annotation")
    for _ in range(min(prod(variable.shape), _MOST_ANNOTATIONS)):
        for field in fields:
            count = _element(source, _MATRIX)
            if field != b"Segmentation":
                source.skip(count + -count % 8)
                continue
            matrix = _head(count, source)
            if not matrix.is_map:
                raise FormatError(f"Segmentation is no matrix of numbers but {matrix}")
            check_size(*matrix.shape)
            yield _numbers(matrix)
