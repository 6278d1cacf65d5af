"""CMDA: cross-modality domain adaptation for night-time semantic segmentation."""

import os as _os

__version__ = "0.2.0"


def _refuse_a_mixture() -> None:
    """Refuse to be imported where MMSegmentation was installed into the same folder: its package has this name too.

    Raises:
        ImportError: naming both.
    """
    package = _os.path.dirname(_os.path.abspath(__file__))
    # only an installed package holds the configs
    if not _os.path.isdir(_os.path.join(package, "configs")):
        return
    folder = _os.path.dirname(package)
    other = next((name for name in _os.listdir(folder) if name.startswith("mmsegmentation-")), None)
    if other is not None:
        raise ImportError(
            f"MMSegmentation ({other}) is installed in {folder} next to CMDA. Both packages are called mmseg, and each "
            "replaces files of the other: install CMDA into an environment of its own"
        )


_refuse_a_mixture()
