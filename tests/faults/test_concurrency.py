"""Two processes at once: one waits for the other, and both leave what one alone would have left."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image
from test_fetch import CONTENT, lists, row, server  # noqa: F401  (a fixture)

from rvlib import photos
from rvlib.files import alone
from rvlib.study import fetch as fetching

PROGRAM = """
import sys
from pathlib import Path
from rvlib import download
from rvlib.study import fetch as fetching
fetching.MANIFEST, fetching.GITHUB, download.CHUNK = Path(sys.argv[1]), sys.argv[2], 1000
fetching.fetch(["toy"], sys.argv[3], progress=False)
"""


@pytest.mark.slow
def test_two_fetches_into_one_folder(server, tmp_path, tally, times):  # noqa: F811
    for number in range(times(1, 40)):
        lists(tmp_path, row() if number % 2 else row(sha256=None, size=None))
        server.asked.clear()
        target = tmp_path / f"data-{number}"
        command = [sys.executable, "-c", PROGRAM, tmp_path / "manifest.csv", server.address, target]
        both = [subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True) for _ in range(2)]
        told = [process.communicate()[1] for process in both]
        assert [process.returncode for process in both] == [0, 0], told
        assert (target / "toy/test/reference/photo.png").read_bytes() == CONTENT
        assert len(server.asked) == 1  # the second found what the first had fetched
        tally("two fetches into one folder", "one fetched, the other waited")


def test_a_fetch_waits_for_the_one_before_it(server, tmp_path):  # noqa: F811
    entered = threading.Event()

    def second():
        entered.set()
        fetching.fetch(["toy"], tmp_path / "data", progress=False)

    with alone(tmp_path / "data/fetch"):
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait()
        time.sleep(0.2)
        assert thread.is_alive()
        assert server.asked == []
    thread.join()
    assert (tmp_path / "data/toy/test/reference/photo.png").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["toy"], "no lock is left"


def test_writers_of_one_file_leave_one_whole_file(tmp_path, tally, times):
    pictures = [np.full((64, 64, 3), shade, np.uint8) for shade in range(8)]

    def write(picture):
        for _ in range(times(20, 500)):
            photos.write(tmp_path / "photo.png", picture)

    threads = [threading.Thread(target=write, args=(picture,)) for picture in pictures]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if (tmp_path / "photo.png").exists():
            with Image.open(tmp_path / "photo.png") as image:
                assert np.unique(np.asarray(image)).size == 1
            tally("a file read while eight threads write it", "one whole version")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]
