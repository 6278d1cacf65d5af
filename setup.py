"""The packages of the wheel: ``mmseg``, and ``configs/`` as ``mmseg/configs``. Everything else is in pyproject.toml."""

from setuptools import find_namespace_packages, find_packages, setup

CONFIGS = "mmseg.configs"
# What goes where; messages name them
GUIDES = {"mmseg.guides.data": "data", "mmseg.guides.pretrained": "pretrained"}
# What the launcher writes into a clone stays there.
folders = find_namespace_packages("configs", exclude=["generated", "generated.*"])

setup(
    packages=[*find_packages(include=["mmseg*"]), CONFIGS, *(f"{CONFIGS}.{folder}" for folder in folders), *GUIDES],
    package_dir={CONFIGS: "configs", **GUIDES},
    package_data={
        "mmseg": ["*.toml"],
        "mmseg.report": ["*.html", "*.css", "*.js"],
        **{f"{CONFIGS}.{folder}": ["*.pth", "*.json"] for folder in folders},
        **{guide: ["README.md"] for guide in GUIDES},
    },
    py_modules=["cmda_command"],
)
