"""Weights in torch's format are read by a process that cannot take all time or all memory."""

import pickle
import struct
import sys

import pytest
import torch

from fieldguide.errors import UsageError
from fieldguide.model import foreign
from fieldguide.model.foreign import read_foreign, tensors_of


def in_torchs_old_format(program):
    """A pickle where torch expects one; `program` is its opcodes."""
    header = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
    return b"".join(pickle.dumps(part, protocol=2) for part in header) + b"\x80\x02" + program + b"."


@pytest.mark.slow
def test_what_a_child_read_is_what_was_saved(tmp_path):
    tied = torch.arange(6.0).view(2, 3)
    saved = {"a": tied, "tied": tied, "turned": tied.T, "count": torch.tensor(5), "half": torch.ones(2).bfloat16()}
    torch.save({"state_dict": saved | {"epoch": 3}}, tmp_path / "a.pth")
    found = read_foreign(tmp_path / "a.pth")
    assert found.keys() == saved.keys() == tensors_of(tmp_path / "a.pth").keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in saved.items())


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="from Python 3.14 on a tuple keeps its hash")
def test_a_file_that_would_keep_the_reader_busy_for_years_is_given_up(tmp_path, monkeypatch):
    nested = b")" + b"q\x00h\x00\x86" * 200  # a pair of a pair of ...; its hash takes 2 ** 200 steps
    (tmp_path / "a.pth").write_bytes(in_torchs_old_format(b"}" + nested + b"K\x01s"))
    monkeypatch.setattr(foreign, "SECONDS", 4.0)
    with pytest.raises(UsageError, match=r"a\.pth took over 4 s to read, so reading stopped; save its state dict"):
        read_foreign(tmp_path / "a.pth")


def test_a_file_that_asks_for_gigabytes_gets_none(tmp_path):
    torch.save({"a": torch.zeros(77)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(content.replace(b"K\x4d", b"J" + struct.pack("<i", 10**9)))  # 4 GB of floats
    with pytest.raises(UsageError, match=rf"^model\.weights: {tmp_path / 'a.pth'} cannot be read .*allocate memory"):
        read_foreign(tmp_path / "a.pth")


def test_tensors_that_say_they_are_larger_than_their_file_are_refused(tmp_path):
    one = torch.zeros(1_000)
    for tensors in ({"a": torch.zeros(1).expand(10**6, 10**6)}, {str(number): one for number in range(100)}):
        torch.save(tensors, tmp_path / "a.pth")
        with pytest.raises(UsageError, match="its tensors claim to be larger than the file"):
            tensors_of(tmp_path / "a.pth")
