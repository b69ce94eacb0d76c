"""Files and folders that appear whole have the permissions that the user's other files have."""

from __future__ import annotations

import os
import stat

import pytest

from glassgpt.core.files import new_folder, write_whole


@pytest.mark.skipif(os.name == "nt", reason="permissions of this kind are POSIX's")
@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750)])
def test_what_is_written_whole_can_be_read_by_those_who_may_read_other_files(tmp_path, mask, file_mode, folder_mode):
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "a.json", "{}")
        with new_folder(tmp_path / "folder"):
            pass
        assert os.umask(mask) == mask, "the user's mask stays as it was"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == file_mode
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == folder_mode
