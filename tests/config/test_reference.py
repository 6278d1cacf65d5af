"""The page of all config keys."""

from mmseg.config.reference import keys_page


def test_the_page_is_current(root):
    """To update it, run ``python -m mmseg.config.reference > docs/config_keys.md``."""
    assert (root / "docs" / "config_keys.md").read_text(encoding="utf-8") == keys_page()


def test_rows_hold_default_range_and_type():
    rows = keys_page().splitlines()
    assert any(row.startswith("| `optimizer.lr` | must be given | a number above 0 and at most 10 |") for row in rows)
    assert any("`data.train.source.events_num`" in row and "(DSECDataset)" in row for row in rows)
    assert not any("workflow" in row for row in rows)
