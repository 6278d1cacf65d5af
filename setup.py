"""The packages of the wheel: ``mmseg``, and ``configs/`` as ``mmseg/configs``. Everything else is in pyproject.toml."""

from setuptools import find_namespace_packages, find_packages, setup

CONFIGS = "mmseg.configs"
# What the launcher writes into a clone stays there.
folders = find_namespace_packages("configs", exclude=["generated", "generated.*"])

setup(
    packages=[*find_packages(include=["mmseg*"]), CONFIGS, *(f"{CONFIGS}.{folder}" for folder in folders)],
    package_dir={CONFIGS: "configs"},
    package_data={"mmseg.report": ["*.html", "*.css", "*.js"], "": ["*.pth", "*.json", "*.toml"]},
    py_modules=["cmda_command"],
)
