"""The cache: what it holds is what decoding gives, whatever happens to its files, and it stays in its bounds."""

import errno
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldguide import locks
from fieldguide.data.batch.batches import LabelledPhoto
from fieldguide.data.read import cache as caching
from fieldguide.data.read import content as reading
from fieldguide.data.read import photo_pixels
from fieldguide.data.read.cache import BOUND, Cache
from fieldguide.data.read.decode import UnreadableError, read_photo
from fieldguide.data.read.pack import DamagedError, Pack, write_pack
from fieldguide.data.read.photo_pixels import shrunk_to
from fieldguide.errors import PhotosError, UsageError
from fieldguide.storage import CACHE_PLACE, file_digest
from tests.data.photo_folders import make_photo
from tests.odd_photos import odd_contents

PLENTY = 10**9
PHOTO_BYTES = 45 * 60 * 3


def wanted_in(folder, count=6, size=(60, 45), first=0):
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(first, first + count):
        path = folder / f"{number}.png"
        make_photo("x", number, size).save(path)
        found.append(LabelledPhoto(path, path.name, 0, file_digest(path)))
    return found


def plain(photo, side=0):
    return np.asarray(shrunk_to(read_photo(photo.path), side))


def packs_of(folder):
    return sorted(folder.glob("*.pack"))


def test_cached_pixels_are_decoded_pixels_bit_for_bit(tmp_path):
    photos = wanted_in(tmp_path / "photos")
    Image.fromarray(plain(photos[0])).save(photos[0].path.with_suffix(".jpg"), exif=_turned())
    turned = LabelledPhoto(
        photos[0].path.with_suffix(".jpg"), "turned", 0, file_digest(photos[0].path.with_suffix(".jpg"))
    )
    cache = Cache(tmp_path / "cache", PLENTY)
    for _ in range(2):
        pixels = cache.pixels_of([*photos, turned], 100, 200)
        assert all(np.array_equal(pixels.read(photo), np.asarray(read_photo(photo.path))) for photo in photos)
        assert pixels.read(turned).shape == (60, 45, 3) and len(pixels) == 7
        assert np.array_equal(pixels.read(turned), np.asarray(read_photo(turned.path)))


def test_odd_photos_are_cached_as_they_are_decoded_and_the_rest_is_refused_alike(tmp_path):
    good, refused = {}, 0
    for name, content in odd_contents().items():
        if name.startswith(("mode-", "turned-", "as-", "animated-", "broken-", "cut-", "line", "two", "one")):
            path = tmp_path / name
            path.write_bytes(content)
            photo = LabelledPhoto(path, name, 0, file_digest(path))
            try:
                good[photo] = np.asarray(read_photo(path))
            except UnreadableError as error:
                refused += 1
                with pytest.raises(PhotosError, match="it was readable when the training began") as caught:
                    Cache(tmp_path / "refused", PLENTY).pixels_of([photo], 100, 200)
                assert str(error) in str(caught.value)
    pixels = Cache(tmp_path / "cache", PLENTY).pixels_of(list(good), 100, 200)
    assert len(pixels) == len({photo.content_hash for photo in good}) > 100 and refused > 50
    assert all(np.array_equal(pixels.read(photo), expected) for photo, expected in good.items())


def test_a_file_system_without_locks_is_neither_waited_for_nor_a_reason_for_no_cache(tmp_path, monkeypatch):
    class NoLocks:
        LOCK_EX = LOCK_SH = LOCK_NB = 0

        @staticmethod
        def flock(handle, how):
            raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks, "fcntl", NoLocks)
    photos, cache = wanted_in(tmp_path / "photos"), Cache(tmp_path / "cache", PLENTY)
    assert len(cache.pixels_of(photos, 50, 200)) == len(cache.pixels_of(photos, 50, 200)) == 6
    assert cache.clear() == 0 and not packs_of(cache.folder)


def test_an_error_of_a_device_that_passes_does_not_end_the_filling_of_the_cache(tmp_path, monkeypatch):
    (photo,) = wanted_in(tmp_path / "photos", 1)
    monkeypatch.setattr(reading, "PAUSES_S", (0, 0))
    failures, real = [errno.EIO, errno.ESTALE], os.open

    def troubled(path, *rest):
        if Path(path) == photo.path and failures:
            raise OSError(failures.pop(), "trouble")
        return real(path, *rest)

    monkeypatch.setattr(os, "open", troubled)
    assert len(Cache(tmp_path / "cache", PLENTY).pixels_of([photo], 50, 200)) == 1 and not failures


def _turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_a_larger_photo_is_resized_so_that_its_shorter_side_is_the_field(tmp_path):
    photos = wanted_in(tmp_path / "photos", size=(90, 40))
    pixels = Cache(tmp_path / "cache", PLENTY).pixels_of(photos, 20, 200)
    assert pixels.read(photos[0]).shape == (20, 45, 3)
    expected = read_photo(photos[0].path).resize((45, 20), Image.Resampling.BILINEAR)
    assert np.array_equal(pixels.read(photos[0]), np.asarray(expected))


def test_a_second_training_decodes_nothing(tmp_path, monkeypatch):
    photos, cache = wanted_in(tmp_path / "photos"), Cache(tmp_path / "cache", PLENTY)
    counts = []
    cache.pixels_of(photos, 50, 200, counts.append)
    assert sum(counts) == 6
    monkeypatch.setattr(photo_pixels, "decode", None)
    counts.clear()
    again = cache.pixels_of(photos, 50, 200, counts.append)
    assert again.read(photos[3]).shape == (45, 60, 3) and sum(counts) == 6


def test_another_side_another_decoding_and_another_pillow_have_pixels_of_their_own(tmp_path, monkeypatch):
    photos, cache = wanted_in(tmp_path / "photos"), Cache(tmp_path / "cache", PLENTY)
    assert cache.pixels_of(photos, 50, 200).read(photos[0]).shape == (45, 60, 3)
    assert cache.pixels_of(photos, 30, 200).read(photos[0]).shape == (30, 40, 3)
    assert len(packs_of(cache.folder)) == 2
    for name, value in (("DECODING", 99), ("PIL", type("Other", (), {"__version__": "0.1"}))):
        before = len(packs_of(cache.folder))
        monkeypatch.setattr(photo_pixels, name, value)
        cache.pixels_of(photos, 50, 200)
        assert len(packs_of(cache.folder)) == before + 1


def test_the_same_content_under_two_names_is_kept_once(tmp_path):
    (photo,) = wanted_in(tmp_path / "photos", 1)
    twin = LabelledPhoto(photo.path, "twin.png", 0, photo.content_hash)
    pixels = Cache(tmp_path / "cache", PLENTY).pixels_of([photo, twin], 50, 200)
    assert len(pixels) == 1 and np.array_equal(pixels.read(twin), plain(photo))


def test_many_photos_become_few_files(tmp_path, monkeypatch):
    monkeypatch.setattr(caching, "PACK_BYTES", 4 * PHOTO_BYTES)
    photos, cache = wanted_in(tmp_path / "photos", 10), Cache(tmp_path / "cache", PLENTY)
    pixels = cache.pixels_of(photos, 50, 200)
    assert len(packs_of(cache.folder)) == 3 and len(pixels) == 10
    assert all(np.array_equal(pixels.read(photo), plain(photo)) for photo in photos)


def test_a_side_of_nothing_means_no_cache_and_the_photos_own_size(tmp_path):
    photos = wanted_in(tmp_path / "photos", 2)
    pixels = Cache(tmp_path / "cache", PLENTY).pixels_of(photos, 0, 200)
    assert np.array_equal(pixels.read(photos[1]), plain(photos[1])) and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("cut", [0, 10, 40, 5_000, -1, -33])
def test_a_pack_that_was_cut_off_is_noticed_and_made_again(tmp_path, cut):
    photos, cache = wanted_in(tmp_path / "photos"), Cache(tmp_path / "cache", PLENTY)
    cache.pixels_of(photos, 50, 200)
    (path,) = packs_of(cache.folder)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DamagedError):
        Pack(path)
    pixels = cache.pixels_of(photos, 50, 200)
    assert len(pixels) == 6 and all(np.array_equal(pixels.read(photo), plain(photo)) for photo in photos)
    assert packs_of(cache.folder) != [path] and len(packs_of(cache.folder)) == 1


def test_any_flipped_bit_is_noticed_before_its_photo_is_used(tmp_path):
    photos, cache = wanted_in(tmp_path / "photos"), Cache(tmp_path / "cache", PLENTY)
    cache.pixels_of(photos, 50, 200)
    (path,) = packs_of(cache.folder)
    content = path.read_bytes()
    for place in [*np.random.default_rng(0).integers(0, len(content), 60).tolist(), len(content) - 1, 0]:
        changed = bytearray(content)
        changed[place] ^= 4
        for old in packs_of(cache.folder):
            old.unlink()
        path.write_bytes(changed)
        pixels = cache.pixels_of(photos, 50, 200)
        assert all(np.array_equal(pixels.read(photo), plain(photo)) for photo in photos), place
    assert len(content) > 6 * PHOTO_BYTES


def test_a_damaged_photo_is_decoded_and_its_pack_written_anew_by_the_next_training(tmp_path):
    photos, cache = wanted_in(tmp_path / "photos"), Cache(tmp_path / "cache", PLENTY)
    cache.pixels_of(photos, 50, 200)
    (path,) = packs_of(cache.folder)
    changed = bytearray(path.read_bytes())
    changed[16 + 2 * PHOTO_BYTES + 7] ^= 1
    path.write_bytes(changed)
    pixels = cache.pixels_of(photos, 50, 200)
    assert len(pixels) == 6 and not pixels.damaged
    assert np.array_equal(pixels.read(photos[2]), plain(photos[2])) and pixels.damaged == {photos[2].content_hash}
    assert np.array_equal(pixels.read(photos[3]), plain(photos[3])) and not path.exists()
    assert not cache.pixels_of(photos, 50, 200).damaged and len(packs_of(cache.folder)) == 1


def test_in_a_cache_that_cannot_be_written_damaged_photos_are_decoded_and_the_others_taken_from_it(
    tmp_path, monkeypatch
):
    photos, cache = wanted_in(tmp_path / "photos", 9), Cache(tmp_path / "cache", PLENTY)
    cut, flipped, whole = photos[:3], photos[3:6], photos[6:]
    paths = []
    for some in (cut, flipped, whole):
        cache.pixels_of(some, 50, 200)
        paths += [path for path in packs_of(cache.folder) if path not in paths]
    paths[0].write_bytes(paths[0].read_bytes()[:5_000])
    changed = bytearray(paths[1].read_bytes())
    changed[20] ^= 1
    paths[1].write_bytes(changed)

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(locks, "turn", refuse)
    pixels = cache.pixels_of(photos, 50, 200)
    assert len(pixels) == 6 and "cannot be written" in pixels.problem
    assert all(np.array_equal(pixels.read(photo), plain(photo)) for photo in photos)
    assert pixels.damaged == {flipped[0].content_hash} and packs_of(cache.folder) == sorted(paths)


def test_what_has_no_room_is_decoded_each_time_and_this_is_said(tmp_path):
    photos = wanted_in(tmp_path / "photos")
    cache = Cache(tmp_path / "cache", int(2.5 * PHOTO_BYTES))
    pixels = cache.pixels_of(photos, 50, 200)
    assert len(pixels) == 2 and BOUND in pixels.problem and cache.used_bytes() <= 3 * PHOTO_BYTES
    assert all(np.array_equal(pixels.read(photo), plain(photo)) for photo in photos)


def test_no_room_at_all_leaves_no_file(tmp_path):
    photos = wanted_in(tmp_path / "photos")
    pixels = Cache(tmp_path / "cache", 100).pixels_of(photos, 50, 200)
    assert len(pixels) == 0 and pixels.problem and not packs_of(tmp_path / "cache")
    assert np.array_equal(pixels.read(photos[0]), plain(photos[0]))


def test_what_was_used_longest_ago_goes_first_but_nothing_that_is_used(tmp_path):
    photos = wanted_in(tmp_path / "photos", 12)
    cache = Cache(tmp_path / "cache", 9 * PHOTO_BYTES + 2_000)
    of_first = cache.pixels_of(photos[:3], 50, 200)
    for number, path in enumerate(packs_of(cache.folder)):
        os.utime(path, (1_000 + number,) * 2)
    cache.pixels_of(photos[3:6], 50, 200)
    cache.pixels_of(photos[6:9], 50, 200)
    cache.pixels_of(photos[9:], 50, 200)  # the second group goes, since the first is in use
    assert all(np.array_equal(of_first.read(photo), plain(photo)) for photo in photos[:3])
    held = {key for path in packs_of(cache.folder) for key in Pack(path)}
    assert held == {photo.content_hash for photo in [*photos[:3], *photos[6:]]}
    assert cache.clear() == 1 and of_first.read(photos[0]) is not None
    del of_first
    assert cache.clear() == 0 and not packs_of(cache.folder)


def test_a_full_disk_means_no_cache_and_leaves_no_half_file(tmp_path, monkeypatch):
    photos, cache = wanted_in(tmp_path / "photos"), Cache(tmp_path / "cache", PLENTY)

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    pixels = cache.pixels_of(photos, 50, 200)
    assert "No space left" in pixels.problem and len(pixels) == 0
    assert np.array_equal(pixels.read(photos[0]), plain(photos[0]))
    assert not list(cache.folder.iterdir())


def test_a_place_that_cannot_be_written_means_no_cache(tmp_path):
    photos = wanted_in(tmp_path / "photos", 2)
    (tmp_path / "file").write_text("")
    pixels = Cache(tmp_path / "file" / "cache", PLENTY).pixels_of(photos, 50, 200)
    assert "cannot be written" in pixels.problem and np.array_equal(pixels.read(photos[0]), plain(photos[0]))


def _fill_and_say(folder, photos, queue):
    pixels = Cache(folder, PLENTY).pixels_of(photos, 50, 200)
    queue.put(all(np.array_equal(pixels.read(photo), plain(photo)) for photo in photos) and len(pixels))


def test_several_processes_fill_it_at_once_and_write_no_photo_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(caching, "PACK_BYTES", 5 * PHOTO_BYTES)
    photos = wanted_in(tmp_path / "photos", 24)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_fill_and_say, args=(tmp_path / "cache", photos, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=60) for _ in processes] == [24] * 3
    for process in processes:
        process.join()
    assert sum(len(Pack(path)) for path in packs_of(tmp_path / "cache")) == 24


def test_a_process_that_is_killed_while_it_writes_leaves_nothing_that_is_used_or_stays(tmp_path):
    photos, folder = wanted_in(tmp_path / "photos"), tmp_path / "cache"
    program = (
        "import os, sys, signal, pathlib, types\n"
        "from fieldguide.data.read import cache\n"
        "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.fsync = die\n"
        "cache.Cache(pathlib.Path(sys.argv[1]), 10**9).pixels_of(\n"
        "    [types.SimpleNamespace(path=pathlib.Path(a), file=a, content_hash=h)\n"
        "     for a, h in zip(sys.argv[2::2], sys.argv[3::2])], 50, 200)\n"
    )
    words = [str(word) for photo in photos for word in (photo.path, photo.content_hash)]
    done = subprocess.run([sys.executable, "-c", program, str(folder), *words], check=False)
    assert done.returncode == -9 and not packs_of(folder) and list(folder.glob(".writing-*"))
    cache = Cache(folder, PLENTY)
    assert len(cache.pixels_of(photos, 50, 200)) == 6
    assert len(packs_of(folder)) == 1 and not list(folder.glob(".writing-*"))


def test_a_photo_that_is_not_the_one_of_the_split_is_never_kept(tmp_path):
    photos, cache = wanted_in(tmp_path / "photos"), Cache(tmp_path / "cache", PLENTY)
    make_photo("y", 99, (60, 45)).save(photos[2].path)
    with pytest.raises(PhotosError, match=r"2\.png has changed"):
        cache.pixels_of(photos, 50, 200)
    photos[2].path.unlink()
    with pytest.raises(PhotosError, match=r"2\.png does not exist; it was readable when the training began"):
        cache.pixels_of(photos, 50, 200)
    assert not packs_of(cache.folder)


def test_a_photo_too_large_for_a_pack_is_decoded_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(caching, "MOST_PHOTO_BYTES", PHOTO_BYTES)
    photos = [*wanted_in(tmp_path / "photos", 2), *wanted_in(tmp_path / "photos", 1, (600, 49), first=5)]
    pixels = Cache(tmp_path / "cache", PLENTY).pixels_of(photos, 50, 200)
    assert len(pixels) == 2 and pixels.too_large == {photos[2].content_hash}
    assert np.array_equal(pixels.read(photos[2]), plain(photos[2]))


def test_place_and_bound_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_PLACE, str(tmp_path / "there"))
    monkeypatch.setenv(BOUND, "1.5")
    assert Cache().folder == tmp_path / "there/photos" and Cache().most_bytes == 1_500_000_000
    monkeypatch.setenv(BOUND, "much")
    with pytest.raises(UsageError, match="FIELDGUIDE_CACHE_GB=much: must be a number of gigabytes"):
        _ = Cache().most_bytes
    monkeypatch.delenv(BOUND)
    monkeypatch.delenv(CACHE_PLACE)
    assert Cache().most_bytes > 0 and Cache().folder.parts[-2:] == ("fieldguide", "photos")


def test_pixels_of_the_cache_cannot_be_written_to(tmp_path):
    write_pack(tmp_path / "a.pack", [("ab" * 32, np.zeros((3, 4, 3), np.uint8))])
    pixels = Pack(tmp_path / "a.pack").pixels("ab" * 32)
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 1


def test_a_pack_that_another_process_removed_is_not_used(tmp_path):
    write_pack(tmp_path / "a.pack", [("ab" * 32, np.zeros((3, 4, 3), np.uint8))])
    held = Pack(tmp_path / "a.pack")
    Path(tmp_path / "a.pack").unlink()
    with pytest.raises(FileNotFoundError):
        Pack(tmp_path / "a.pack")
    assert held.pixels("ab" * 32).shape == (3, 4, 3)
