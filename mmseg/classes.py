"""Class sets, above all the 19 Cityscapes evaluation classes with their table from label ids to train ids."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

IGNORE_LABEL = 255
# In a table of a class set: a stored label id that the set does not know.
OUTSIDE_LABEL = 254

CLASSES: tuple[str, ...] = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)

# RGB, 0..255, one row per class.
PALETTE: tuple[tuple[int, int, int], ...] = (
    (128, 64, 128),
    (244, 35, 232),
    (70, 70, 70),
    (102, 102, 156),
    (190, 153, 153),
    (153, 153, 153),
    (250, 170, 30),
    (220, 220, 0),
    (107, 142, 35),
    (152, 251, 152),
    (70, 130, 180),
    (220, 20, 60),
    (255, 0, 0),
    (0, 0, 142),
    (0, 0, 70),
    (0, 60, 100),
    (0, 80, 100),
    (0, 0, 230),
    (119, 11, 32),
)

# The DSEC Night-Semantic test labels contain no trucks, so the paper averages over the other 18 classes.
DSEC_ABSENT_CLASSES: tuple[int, ...] = (CLASSES.index("truck"),)

# Cityscapes label id (-1..33) -> train id. Other ids are ignored.
LABEL_ID_TO_TRAIN_ID: dict[int, int] = {
    7: 0,
    8: 1,
    11: 2,
    12: 3,
    13: 4,
    17: 5,
    19: 6,
    20: 7,
    21: 8,
    22: 9,
    23: 10,
    24: 11,
    25: 12,
    26: 13,
    27: 14,
    28: 15,
    31: 16,
    32: 17,
    33: 18,
}

# Cityscapes polygon label name -> label id (the public cityscapesScripts table).
LABEL_NAME_TO_ID: dict[str, int] = {
    "unlabeled": 0,
    "ego vehicle": 1,
    "rectification border": 2,
    "out of roi": 3,
    "static": 4,
    "dynamic": 5,
    "ground": 6,
    "road": 7,
    "sidewalk": 8,
    "parking": 9,
    "rail track": 10,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "guard rail": 14,
    "bridge": 15,
    "tunnel": 16,
    "pole": 17,
    "polegroup": 18,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "caravan": 29,
    "trailer": 30,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
    "license plate": -1,
}


@dataclass(frozen=True)
class ClassSet:
    """The classes that a network tells apart, and which stored label ids they stand for.

    Attributes:
        name: ``cityscapes19``, ``dsec11``, or the name in a file.
        names: name of each class; its position is the index of the class.
        palette: RGB colour of each class, 0..255.
        sources: for each class, the stored label ids that become it. Label maps are stored as Cityscapes train ids,
            unless ``from_cityscapes`` is False.
        ignored: stored label ids that become the ignored label, besides 255 itself.
        from_cityscapes: whether stored label ids are Cityscapes train ids.
        cityscapes: for a set with label ids of its own: for each class, the Cityscapes train ids that become it; None
            without a map from them.
    """

    name: str
    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    sources: tuple[tuple[int, ...], ...]
    ignored: tuple[int, ...] = ()
    from_cityscapes: bool = True
    cityscapes: tuple[tuple[int, ...], ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def label_map(self) -> dict[int, int]:
        """Stored label id -> index of the class, or 255. Other ids do not belong into a label map."""
        known = {label_id: index for index, ids in enumerate(self.sources) for label_id in ids}
        return {**known, **dict.fromkeys((*self.ignored, IGNORE_LABEL), IGNORE_LABEL)}

    def label_table(self) -> list[int]:
        """For each of the 256 stored values its class index, 255, or ``OUTSIDE_LABEL`` for an unknown one."""
        known = self.label_map
        return [known.get(value, OUTSIDE_LABEL) for value in range(256)]

    def by_index(self) -> ClassSet:
        """The same classes, for label maps that hold the indices of the classes."""
        indices = tuple((index,) for index in range(len(self)))
        return replace(self, sources=indices, ignored=(), from_cityscapes=False)

    def of_cityscapes(self) -> ClassSet | None:
        """The same classes for label maps of Cityscapes train ids; None without a map from them."""
        if self.from_cityscapes or self.cityscapes is None:
            return self if self.from_cityscapes else None
        used = {train_id for ids in self.cityscapes for train_id in ids}
        ignored = tuple(train_id for train_id in range(len(CLASSES)) if train_id not in used)
        return replace(self, sources=self.cityscapes, ignored=ignored, from_cityscapes=True, cityscapes=None)

    def absent(self, absent_ids: Collection[int]) -> tuple[int, ...]:
        """Indices of the classes that label maps without some Cityscapes train ids cannot contain."""
        if not self.from_cityscapes:
            return ()
        return tuple(index for index, ids in enumerate(self.sources) if set(ids) <= set(absent_ids))


CITYSCAPES_19 = ClassSet("cityscapes19", CLASSES, PALETTE, tuple((train_id,) for train_id in range(len(CLASSES))))


def _merged(name: str, groups: dict[str, tuple[str, ...]]) -> ClassSet:
    """A class set whose classes are groups of Cityscapes classes, with the colour of the first of each."""
    sources = tuple(tuple(map(CLASSES.index, group)) for group in groups.values())
    return ClassSet(name, tuple(groups), tuple(PALETTE[ids[0]] for ids in sources), sources)


# DSEC-Semantic (Sun et al., ECCV 2022)
DSEC_11 = _merged(
    "dsec11",
    {
        "sky": ("sky",),
        "building": ("building",),
        "fence": ("fence",),
        "person": ("person", "rider"),
        "pole": ("pole",),
        "road": ("road",),
        "sidewalk": ("sidewalk",),
        "vegetation": ("vegetation", "terrain"),
        "car": ("car", "truck", "bus", "train", "motorcycle", "bicycle"),
        "wall": ("wall",),
        "traffic sign": ("traffic sign", "traffic light"),
    },
)
CLASS_SETS: dict[str, ClassSet] = {classes.name: classes for classes in (CITYSCAPES_19, DSEC_11)}
