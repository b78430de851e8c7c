"""Packages of the wheel: this folder is `emu_video`, and its subfolders are its packages. See also pyproject.toml."""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOMS = find_packages(exclude=["tests", "tests.*"])


class WithoutScripts(build_py):
    """Leave out run.py and setup.py, which lie beside the package's `__init__.py`."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        modules = super().find_package_modules(package, package_dir)
        return [entry for entry in modules if package != "emu_video" or entry[1] == "__init__"]


setup(
    packages=["emu_video", *(f"emu_video.{room}" for room in ROOMS)],
    package_dir={"emu_video": "."},
    package_data={
        "emu_video": ["subgraphs/**", "web/**", "workflows/**"],
        **{f"emu_video.{room}": ["**"] for room in ROOMS},
    },
    exclude_package_data={"": ["*.pyc"]},
    cmdclass={"build_py": WithoutScripts},
)
