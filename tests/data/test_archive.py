"""Large archives, on request: what is fetched, what goes on, and what never gets the name of a data set."""

import http.server
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dfa_bench.data.archive import BLOCK, fetch_folder
from dfa_bench.errors import CorruptData, MissingData
from dfa_bench.settings.schema import DataSettings
from dfa_bench.tasks.view_synthesis.datasets import SceneFiles
from tests.data.server import serving
from tests.view_synthesis.scenes import write_blender, write_llff


@dataclass
class Source:
    """An HTTP server on this machine that serves one file and can go on in the middle of it."""

    content: bytes = b""
    breaks_after: int | None = None  # bytes of the next answer
    asked: list[str | None] = field(default_factory=list)  # ranges
    url: str = ""


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    monkeypatch.delenv("DFA_BENCH_DATA", raising=False)
    served = Source()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers["Range"]
            served.asked.append(asked)
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
            if start and start >= len(served.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(served.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(served.content) - start))
            self.end_headers()
            breaks, served.breaks_after = served.breaks_after, None
            self.wfile.write(served.content[start:][:breaks])

        def log_message(self, format: str, *args: object) -> None:
            pass

    with serving(Handler, monkeypatch) as url:
        served.url = f"{url}/papers/example.zip"
        yield served


def zipped(folder: Path, **more: str) -> bytes:
    """A zip of all files below a folder, under a folder of its own as the authors' example archive has one."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as file:
        for each in sorted(folder.rglob("*")):
            file.write(each, Path("example_data") / each.relative_to(folder))
        for name, text in more.items():
            file.writestr(name, text)
    return path.read_bytes()


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """What lies in the authors' example archive, in small."""
    write_blender(tmp_path / "example" / "nerf_synthetic" / "lego", splits=("train", "val", "test"))
    write_llff(tmp_path / "example" / "nerf_llff_data" / "fern")
    return tmp_path / "example"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def scene(url: str, layout: str = "blender") -> SceneFiles:
    blender = {"name": "lego", "layout": "blender", "archive": "nerf_synthetic", "images": None, "near": 2, "far": 6}
    llff = {"name": "fern", "layout": "llff", "archive": "nerf_llff_data", "images": "images_8", "near": 0, "far": 1}
    return SceneFiles(**(blender if layout == "blender" else llff), url=url, longest_side=None)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_both_scenes_of_an_archive_come_from_one_download(source, example, cache):
    source.content = zipped(example, **{"__MACOSX/nerf_synthetic/lego/._r_0.png": "of the Finder"})
    wanted = DataSettings(cache=str(cache), large=True)
    for name, layout in (("nerf_synthetic/lego", "blender"), ("nerf_llff_data/fern", "llff")):
        assert scene(source.url, layout).fetch(wanted) == cache / name
        assert files(cache / name) == files(example / name)
        assert scene(source.url, layout).load(DataSettings(cache=str(cache))).views("test")
    assert source.asked == [None]


def test_without_being_asked_for_nothing_large_is_downloaded(source, cache):
    for data in (DataSettings(cache=str(cache)), DataSettings(cache=str(cache), large=True, download=False)):
        with pytest.raises(MissingData, match="`dfa-bench data get lego` downloads its archive"):
            scene(source.url).fetch(data)
    assert source.asked == []
    assert not cache.exists()


def test_an_archive_that_only_a_browser_gets_is_named(cache, monkeypatch):
    monkeypatch.delenv("DFA_BENCH_DATA", raising=False)
    folder = "https://drive.google.com/drive/folders/1"
    with pytest.raises(MissingData, match=r"Its archive can only be downloaded in a browser: get nerf_synthetic.zip"):
        scene(folder).fetch(DataSettings(cache=str(cache), large=True))


def test_a_download_that_broke_off_goes_on_where_it_stopped(source, example, cache):
    source.content, source.breaks_after = zipped(example, more="." * 300_000), 200_000
    wanted = DataSettings(cache=str(cache), large=True)
    with pytest.raises(MissingData, match="The download failed .* the same command continues it"):
        scene(source.url).fetch(wanted)
    assert not (cache / "nerf_synthetic").exists()
    assert files(scene(source.url).fetch(wanted)) == files(example / "nerf_synthetic" / "lego")
    assert source.asked == [None, f"bytes={200_000 // BLOCK * BLOCK}-"]


def test_a_download_that_ended_before_it_got_its_name_is_not_repeated(source, example, cache):
    source.content = zipped(example)
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads" / "example.zip.part").write_bytes(source.content)
    assert scene(source.url).fetch(DataSettings(cache=str(cache), large=True)).is_dir()
    assert source.asked == [f"bytes={len(source.content)}-"]


def test_a_part_that_is_longer_than_the_archive_is_of_another_one(source, example, cache):
    source.content = zipped(example)
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads" / "example.zip.part").write_bytes(source.content * 2)
    assert scene(source.url).fetch(DataSettings(cache=str(cache), large=True)).is_dir()
    assert source.asked == [f"bytes={2 * len(source.content)}-", None]


def test_a_page_instead_of_an_archive_is_told_and_not_kept(source, cache):
    source.content = b"<html>please log in</html>"
    with pytest.raises(MissingData, match=r"did not send a zip file.* Or download http://127"):
        scene(source.url).fetch(DataSettings(cache=str(cache), large=True))
    assert [path.name for path in (cache / "downloads").iterdir()] == [".lock"]


@pytest.mark.parametrize("name", ["../nerf_synthetic/lego/x.png", "nerf_synthetic/lego/../../../x", "/nerf/x", "..\\x"])
def test_an_archive_that_would_write_elsewhere_is_refused_as_a_whole(source, example, cache, name):
    source.content = zipped(example, **{name: "bad"})
    with pytest.raises(CorruptData, match="outside its folder: refused"):
        scene(source.url).fetch(DataSettings(cache=str(cache), large=True))
    assert [path.name for path in cache.rglob("*") if path.name.startswith(("x", "lego", "r_"))] == []


def test_a_bomb_is_refused_before_anything_is_unpacked(source, example, cache, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("nerf_synthetic/lego/train/r_0.png", bytes(10_000_000))
    source.content = (tmp_path / "bomb.zip").read_bytes()
    with pytest.raises(CorruptData, match="would unpack to 10000000 bytes, more than 20 times its size"):
        scene(source.url).fetch(DataSettings(cache=str(cache), large=True))
    assert list((cache / "nerf_synthetic").iterdir()) == []


def test_a_damaged_archive_leaves_no_scene_and_is_fetched_anew(source, example, cache):
    whole = zipped(example)
    pixels = whole.rindex(b"IDAT") + 8  # of lego's last image
    source.content = whole[:pixels] + bytes(10) + whole[pixels + 10 :]
    wanted = DataSettings(cache=str(cache), large=True)
    with pytest.raises(CorruptData, match="was damaged .* has been deleted"):
        scene(source.url).fetch(wanted)
    assert list((cache / "nerf_synthetic").iterdir()) == []
    source.content = whole
    assert files(scene(source.url).fetch(wanted)) == files(example / "nerf_synthetic" / "lego")
    assert source.asked == [None, None]


def test_a_scene_that_lacks_a_frame_gets_no_name(source, example, cache):
    (example / "nerf_synthetic" / "lego" / "test" / "r_1.png").unlink()
    source.content = zipped(example)
    with pytest.raises(CorruptData, match="r_1.png is missing"):
        scene(source.url).fetch(DataSettings(cache=str(cache), large=True))
    assert list((cache / "nerf_synthetic").iterdir()) == []


def test_an_archive_without_the_scene_is_told(source, example, cache):
    source.content = zipped(example / "nerf_llff_data")
    with pytest.raises(CorruptData, match="has no folder nerf_synthetic/lego"):
        scene(source.url).fetch(DataSettings(cache=str(cache), large=True))


def test_a_folder_that_is_there_in_part_is_checked_and_not_overwritten(source, example, cache):
    source.content = zipped(example)
    target = cache / "nerf_synthetic" / "lego"
    target.mkdir(parents=True)
    with pytest.raises(CorruptData, match="transforms_train.json"):
        scene(source.url).fetch(DataSettings(cache=str(cache), large=True))
    assert list(target.iterdir()) == []


def test_the_size_and_checksum_of_an_archive_are_told(source, example, cache, capsys):
    source.content = zipped(example)
    fetch_folder(source.url, "nerf_synthetic/lego", cache, lambda folder: None)
    told = capsys.readouterr().err
    assert re.search(rf"example\.zip: {len(source.content)} bytes, sha256 [0-9a-f]{{64}} \(recorded", told)
