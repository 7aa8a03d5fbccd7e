"""Putting a function in the place of a product's method, on one object only, and taking it out again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from textsr.errors import InputError

Product = TypeVar("Product")
_MARK = "_textsr_hooked"


def hook(product: Any, owner: Any, method: str, made: Callable[[Any], Any]) -> None:
    """Replaces ``owner.method`` by ``made(that method)``; ``product`` is what `detach` will be given.

    :raises InputError: the product is hooked already, or has no such method: it is of a version with another build.
    """
    if _MARK in vars(product):
        raise InputError(f"{type(product).__name__}: restoring is attached already; detach it first")
    original = getattr(owner, method, None)
    if not callable(original):
        raise InputError(
            f"{type(owner).__name__} has no {method}: this version is not supported, see runtime/plugins for those "
            "that are; runtime.plugins.wrap fits any function that reads crops"
        )
    own = method in vars(owner)
    setattr(owner, method, made(original))
    vars(product)[_MARK] = (owner, method, original if own else None)


def detach(product: Product) -> Product:
    """Takes restoring out of a product again and returns it.

    :raises InputError: nothing is attached to it.
    """
    found = vars(product).pop(_MARK, None)
    if found is None:
        raise InputError(f"{type(product).__name__}: restoring is not attached")
    owner, method, original = found
    if original is None:
        delattr(owner, method)
    else:
        setattr(owner, method, original)
    return product
