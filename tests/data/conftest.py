"""What the tests of the photos share."""

import pytest

from tests.data.photo_folders import make_photos


@pytest.fixture
def photos(tmp_path):
    """`photos({"cat": 3, "dog": 3})` makes a folder of photos and gives its path."""

    def make(counts, **keywords):
        return make_photos(tmp_path / "photos", counts, **keywords)

    return make
