"""Check that the optional packages of an extra are installed in suitable versions."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from relid_sumo.base.errors import InputError, missing_extra


def require_extra(extra: str) -> None:
    """Check that the packages of an extra are installed in versions that relid_sumo supports.

    Parameters
    ----------
    extra
        Name of an extra in pyproject.toml: ``sb3`` for ``pip install "relid_sumo[sb3]"``.

    Raises
    ------
    InputError
        A package is missing or its version does not fit, or this installation has no such extra; the message says what
        to install.

    Examples
    --------
    >>> require_extra("sb3")  # doctest: +SKIP
    """
    needed = _packages(extra)
    if not needed:
        raise InputError(f"this relid_sumo has no extra '{extra}'; check the name, or install relid_sumo again")
    for one in needed:
        try:
            found = version(one.name)
        except PackageNotFoundError:
            raise missing_extra(one.name, extra) from None
        if not one.specifier.contains(found, prereleases=True):
            fix = f'install it with: pip install "relid_sumo[{extra}]"'
            raise InputError(f"{one.name} {found} is installed, but relid_sumo needs {one.specifier}; {fix}")


def _packages(extra: str) -> list[Requirement]:
    """Return the packages that an extra needs on this system, by pyproject.toml."""
    listed = [Requirement(line) for line in requires("relid_sumo") or ()]
    conditional = [(one, one.marker) for one in listed if one.marker is not None]
    return [one for one, on in conditional if on.evaluate({"extra": extra}) and not on.evaluate({"extra": ""})]
