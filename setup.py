"""Gives the top-level folders their import names below `handface.`; everything else is in pyproject.toml."""

from setuptools import find_namespace_packages, setup

ROOMS = {"handface": "handface", **{f"handface.{room}": room for room in ("jobs", "model", "pipeline", "trainers")}}

setup(
    packages=[
        ".".join(filter(None, (package, below)))
        for package, folder in ROOMS.items()
        for below in ("", *find_namespace_packages(folder, exclude=["*__pycache__*"]))
    ],
    package_dir=ROOMS,
)
