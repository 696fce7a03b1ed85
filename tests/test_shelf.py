"""Shelves: photos that several processes map from one file."""

import pickle

import numpy as np

from rvlib import shelf


def test_photos_come_back_as_they_were_and_travel_as_a_path(tmp_path):
    rng = np.random.default_rng(0)
    photos = {f"set/{side}": rng.integers(0, 256, (side, 7, 3), dtype=np.uint8) for side in (5, 300, 1)}
    photos["turned"] = photos["set/300"][::-1, ::2]  # not one piece of memory
    made = shelf.write(photos.items(), tmp_path / "shelf.u8")
    sent = pickle.dumps(made)
    assert len(sent) < 1000
    for mine in (made, pickle.loads(sent)):
        assert list(mine) == list(photos)
        for name, photo in photos.items():
            assert np.array_equal(mine[name], photo)
            assert not mine[name].flags.owndata
    assert (tmp_path / "shelf.u8").stat().st_size == sum(photo.size for photo in photos.values())


def test_a_run_has_its_own_place_and_leaves_nothing(tmp_path):
    file = shelf.place(tmp_path / "run") / "references.u8"
    made = shelf.write([("one", np.ones((2, 3, 3), np.uint8))], file)
    shelf.clear(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    assert made["one"].sum() == 18  # what is mapped stays readable
