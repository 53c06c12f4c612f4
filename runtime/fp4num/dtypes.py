"""What an array's dtype says that its elements are: numbers, codes of an element format, or neither.

numpy has no bf16 and no 8-bit floats. ml_dtypes' types hold them where that package is installed. Where it is not, a
structured dtype does whose first field has the element's name: it survives slices, copies, `np.concatenate` and
`np.save`, and numpy refuses arithmetic on it and its conversion to floats, so that codes never pass for numbers.
Arrays of plain integers are neither: nothing tells codes from counts.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4num.elements import element as element_format
from fp4num.errors import DataError
from fp4num.tables import decoded
from fp4num.tensors import check_data

#: Element -> its name among ml_dtypes' and torch's types, and the numpy type of its codes.
_HELD = {
    "bf16": ("bfloat16", np.uint16),
    "e4m3": ("float8_e4m3fn", np.uint8),
    "e5m2": ("float8_e5m2", np.uint8),
    "e8m0": ("float8_e8m0fnu", np.uint8),
}
_ELEMENTS = {name: element for element, (name, _) in _HELD.items()}


@cache
def codes_dtype(element: str) -> np.dtype[Any]:
    """The numpy dtype of an array of `bf16`, `e4m3`, `e5m2` or `e8m0` codes that says what they are."""
    name, codes = _HELD[element]
    try:
        import ml_dtypes
    except ImportError:
        return _structured(element)
    return np.dtype(getattr(ml_dtypes, name, codes))


def element_of(dtype: np.dtype[Any]) -> str | None:
    """The element format whose codes an array of this dtype holds by its own word; None if it does not say."""
    if dtype.names is not None:
        first = dtype.names[0] if dtype.names else ""
        return first if first in _HELD and dtype == _structured(first) else None
    return _ELEMENTS.get(dtype.name)


def raw_codes(array: NDArray[Any], element: str) -> NDArray[Any]:
    """The codes, as unsigned integers that share the array's memory. `DataError` if they are another element's."""
    found = element_of(array.dtype)
    if found is None:
        if array.dtype.kind != "u":
            raise DataError(f"codes are unsigned integers, not {dtype_name(array.dtype)}")
        return array
    if found != element and (found, element) != ("e4m3", "ue4m3"):
        raise DataError(f"the array holds {found}, not {element}")
    return array.view(_HELD[found][1])


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The dtype's name, that of the element where it is a structured one of `codes_dtype`."""
    return (element_of(dtype) if dtype.names is not None else None) or dtype.name


def refuse_masked(x: object, what: str) -> None:
    """DataError for a numpy array with a mask."""
    if isinstance(x, np.ma.MaskedArray):
        raise DataError(f"{what} is a masked array, whose mask would be lost: fill it, x.filled(0)")


def numbers(x: Any, what: str) -> NDArray[Any]:
    """A real array or tensor as numpy holds its numbers: floats of any width, or `codes_dtype` codes decoded.

    Python's own numbers may be integers; an array of integers is refused, because it may as well hold codes.
    """
    if hasattr(x, "detach"):
        return _torch_numbers(x, what)
    refuse_masked(x, what)
    try:
        values = np.asarray(x)
    except ValueError as error:
        raise DataError(f"{what} is no array: {error}") from None
    dtype = values.dtype
    element = element_of(dtype)
    if element is not None:
        return decoded(raw_codes(values, element), element_format(element))
    if dtype.kind == "f" or (dtype.kind == "V" and dtype.name.startswith(("bfloat", "float"))):
        return values
    if dtype == np.int64 and not hasattr(x, "dtype"):
        return values
    if dtype.kind in "iu":
        raise _no_numbers(what, dtype.name)
    raise DataError(f"{what} is made of real numbers, not {dtype.name}")


def _torch_numbers(x: Any, what: str) -> NDArray[Any]:
    """bf16 has no numpy dtype: torch converts to float32, which is exact for all narrower types."""
    name = str(x.dtype).removeprefix("torch.")
    if name.startswith(("int", "uint")):
        raise _no_numbers(what, name)
    if not name.startswith(("float", "bfloat")) or name.startswith("float4"):
        raise DataError(f"{what} is made of real numbers, not {name}")
    check_data(x)
    x = x.detach().cpu().resolve_neg()
    return x.numpy() if name in ("float16", "float32", "float64") else x.float().numpy()


def _no_numbers(what: str, name: str) -> DataError:
    return DataError(
        f"{what} is {name}: integers are no numbers here, since they may be codes. Decode codes, "
        "fp4num.decode(x, 'bf16'); for integers that are meant, convert them to float32"
    )


@cache
def _structured(element: str) -> np.dtype[Any]:
    # The second field, of no bytes, is what keeps numpy from converting a structure of one field as if it were it.
    return np.dtype({"names": [element, "codes"], "formats": [_HELD[element][1], "V0"]})
