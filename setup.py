"""Gives the top-level folders their import names below `handface.`; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

ROOMS = ("jobs", "model", "pipeline", "trainers")

setup(
    packages=["handface", *(f"handface.{name}" for name in find_packages("handface"))]
    + [f"handface.{name}" for room in ROOMS for name in (room, *(f"{room}.{sub}" for sub in find_packages(room)))],
    package_dir={"handface": "handface", **{f"handface.{room}": room for room in ROOMS}},
)
