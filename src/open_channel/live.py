"""What lives in one process only: the channels, and all that is made by them."""

from __future__ import annotations

from typing import ClassVar, NoReturn

__all__ = ["Live"]


class Live:
    """An object that is refused by ``copy`` and by ``pickle``.

    A copy would be a second object that takes itself for the holder of the same lock, the reader of
    the same socket, and in another process of descriptors that are others' there.
    """

    __slots__ = ()

    _instead: ClassVar[str] = "open the channel again, by its name, where it is to be used"
    """What to do where one would copy it."""

    # Not __reduce_ex__: object's asks for this one, and so a subclass may still say otherwise.
    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled: {self._instead}")
