"""Finds the folder of package.xml, launch and configuration files in every kind of install."""

from __future__ import annotations

from pathlib import Path

from holdfast.errors import ConfigError


def folder() -> Path:
    """Return the folder that holds `package.xml`, `launch/` and `config/`.

    In a checkout (also one installed with `pip install -e` or colcon's --symlink-install)
    it is the checkout itself, so that edits count at once; else `share/holdfast` under the
    prefix that this package was installed to.

    Raises:
        ConfigError: the install is incomplete.
    """
    package = Path(__file__).resolve().parent
    places = [package.parent, *(above / "share" / "holdfast" for above in package.parents)]
    for place in places:
        if (place / "package.xml").is_file():
            return place
    raise ConfigError(f"no share/holdfast/package.xml above {package}: reinstall holdfast")
