"""Bundles: what is written is read, and a file that is not as it was written is refused."""

import dataclasses
import json
import zipfile

import pytest

from tests.bundles import DEVICE, bundle, entry
from wpk_envs.devices.cuda.bundle import FORMAT, MANIFEST, Bundle
from wpk_envs.errors import UserError


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "some.bundle"
    bundle(entry(tile=1), entry(tile=2), entry(tile=3, image=b"other machine code")).write(path)
    return path


def rewritten(path, **changes):
    """The same archive with another manifest."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(content[MANIFEST])
    content[MANIFEST] = json.dumps({**manifest, **changes}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def test_what_is_written_is_read(path):
    found = Bundle.read(path)
    written = bundle(entry(tile=1), entry(tile=2), entry(tile=3, image=b"other machine code"))
    assert found == written
    assert [each.config["tile"] for each in found.entries] == [1, 2, 3]
    assert found.entries[2].program.image == b"other machine code"
    assert found.arch == "sm_90"
    assert len(found.sha256) == 64


def test_equal_images_are_kept_once(path):
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == 3  # the manifest and two images


def test_the_same_content_has_the_same_bytes(path, tmp_path):
    again = tmp_path / "again.bundle"
    Bundle.read(path).write(again)
    assert again.read_bytes() == path.read_bytes()
    assert Bundle.read(again).sha256 == Bundle.read(path).sha256


def test_any_flipped_byte_is_noticed(path):
    """Of the bytes that carry content: what an archive says twice or not at all may differ."""
    whole, content = Bundle.read(path), path.read_bytes()
    sentences = []
    for position in range(0, len(content), 41):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        try:
            assert Bundle.read(path) == whole, f"byte {position} changes what is read"
        except UserError as error:
            sentences.append(str(error))
    assert len(sentences) > 0.8 * len(content) / 41
    assert not any("\n" in sentence for sentence in sentences)


@pytest.mark.parametrize("kept", [5, 100, 0.5, 0.99])
def test_a_cut_off_bundle_is_refused(path, kept):
    content = path.read_bytes()
    path.write_bytes(content[: kept if kept > 1 else int(kept * len(content))])
    with pytest.raises(UserError, match="cut off; copy it again"):
        Bundle.read(path)


def test_an_image_with_another_checksum_is_refused(path):
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    image = next(name for name in content if name != MANIFEST)
    content[image] += b"!"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(UserError, match=r"damaged \(the checksum of image \w+ is wrong\)"):
        Bundle.read(path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": FORMAT + 1}, f"is of format {FORMAT + 1}, newer than {FORMAT}"),
        ({"format": 0}, "make it again"),
        ({"format": "one"}, "its manifest.json has no format"),
        ({"entries": [{}]}, "content that this version cannot use"),
        ({"device": {"name": "a GPU"}}, "content that this version cannot use"),
    ],
)
def test_a_manifest_of_another_form_is_refused(path, changes, sentence):
    rewritten(path, **changes)
    with pytest.raises(UserError, match=sentence):
        Bundle.read(path)


def test_every_field_of_an_entry_is_needed(path):
    with zipfile.ZipFile(path) as archive:
        entries = json.loads(archive.read(MANIFEST))["entries"]
    for name in entries[0]:
        first = {key: value for key, value in entries[0].items() if key != name}
        rewritten(path, entries=[first])
        with pytest.raises(UserError, match="content that this version cannot use"):
            Bundle.read(path)


def test_files_that_are_no_bundles_are_refused(tmp_path):
    text, archive = tmp_path / "text", tmp_path / "archive"
    text.write_text("hello")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("hello", "hello")
    for path, sentence in (
        (tmp_path / "missing", "cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (text, "is not a bundle; make one with"),
        (archive, "is an archive but not a bundle"),
    ):
        with pytest.raises(UserError, match=sentence):
            Bundle.read(path)


def test_a_bundle_is_for_one_architecture():
    made = bundle(entry(tile=1))
    made.check_runs_on("sm_90", "NVIDIA H200")
    with pytest.raises(UserError, match=r"are for sm_90 \(Test GPU\) but Tesla P100 has sm_60; build one"):
        made.check_runs_on("sm_60", "Tesla P100")


def test_spills_are_known():
    clean = entry(tile=1)
    resources = {"kernel": dataclasses.replace(clean.program.resources["kernel"], spill_bytes=8)}
    spilling = dataclasses.replace(clean, program=dataclasses.replace(clean.program, resources=resources))
    assert (clean.spills, spilling.spills) == (False, True)


def test_a_full_disk_leaves_the_old_bundle(path, monkeypatch):
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(OSError, match="No space"):
        bundle(entry(tile=9)).write(path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert DEVICE.kind == "cuda"
