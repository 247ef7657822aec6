# SPDX-License-Identifier: BSD-3-Clause
"""The base of all our exceptions."""


class KeywordException(Exception):
    """An exception whose class takes keyword arguments, and that can be pickled nevertheless."""

    def __reduce__(self) -> tuple[object, ...]:
        # Exception's own way calls the class with args alone, which lacks the keyword arguments.
        return (_rebuild, (type(self), self.args), self.__dict__)


def _rebuild(cls: type[KeywordException], args: tuple[object, ...]) -> KeywordException:
    error = cls.__new__(cls)
    error.args = args
    return error
