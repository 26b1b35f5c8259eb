"""What single datasets promise beyond the contract."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import soundfile
from matplotlib.image import imread

from amt_pipeline.core.errors import ConfigError, UserError
from amt_pipeline.datasets import (
    FigureDataset,
    ImageDataset,
    JsonDataset,
    PathDataset,
    RecordingsDataset,
    TableDataset,
    TextDataset,
    TranscriptionsDataset,
)
from amt_pipeline.datasets.listening import CLIP_RATE_HZ, audio_element, clip_start_s, read_clip
from amt_pipeline.reporting.style import new_figure
from amt_pipeline.transcription.note_table import write_note_table
from amt_pipeline.transcription.notes import Notes

RATE_HZ = 44_100


def tone(path: Path, hz: float, seconds: float = 3.0) -> Path:
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    wave = 0.5 * np.sin(2 * np.pi * hz * time_s)
    soundfile.write(path, np.stack([wave, wave], axis=1), RATE_HZ)
    return path


def decoded(page: str, kind: str) -> list[bytes]:
    pattern = rf'src="data:{kind};base64,([A-Za-z0-9+/=]+)"'
    return [base64.b64decode(text) for text in re.findall(pattern, page)]


def peak_hz(flac: bytes) -> float:
    samples, rate = soundfile.read(io.BytesIO(flac))
    assert (rate, samples.ndim) == (CLIP_RATE_HZ, 1)
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * rate / len(samples))


def test_path_is_handed_out_without_touching_the_disk(tmp_path: Path) -> None:
    dataset = PathDataset(filepath=tmp_path / "corpus")
    assert dataset.load() == tmp_path / "corpus"
    assert not dataset.exists()
    assert not (tmp_path / "corpus").exists()
    (tmp_path / "corpus").mkdir()
    assert dataset.exists()


def test_path_cannot_be_saved_to(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be saved to"):
        PathDataset(filepath=tmp_path).save("anything")  # type: ignore[arg-type]


def test_path_preview_lists_a_folder_and_sizes_a_file(tmp_path: Path) -> None:
    assert "not made yet" in PathDataset(filepath=tmp_path / "no").preview()
    (tmp_path / "b.txt").write_text("four")
    (tmp_path / "a.txt").write_text("")
    listing = json.loads(PathDataset(filepath=tmp_path).preview())
    assert (listing["entries"], listing["first"]) == (2, ["a.txt", "b.txt"])
    assert json.loads(PathDataset(filepath=tmp_path / "b.txt").preview())["bytes"] == 4


def test_path_describes_whether_it_is_made_on_demand(tmp_path: Path) -> None:
    assert PathDataset(filepath=tmp_path, made_on_demand=True)._describe()["made_on_demand"]


def test_json_refuses_nan(tmp_path: Path) -> None:
    dataset = JsonDataset(filepath=tmp_path / "a.json")
    with pytest.raises(Exception, match="not JSON compliant"):
        dataset.save({"loss": float("nan")})
    assert not dataset.exists()


def test_json_preview_is_the_content(tmp_path: Path) -> None:
    dataset = JsonDataset(filepath=tmp_path / "a.json")
    dataset.save({"f1": 0.9})
    assert json.loads(dataset.preview()) == {"f1": 0.9}


@pytest.mark.parametrize("dataset", [TableDataset, RecordingsDataset])
def test_table_format_must_be_known(dataset: type, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a table format"):
        dataset(filepath=tmp_path / "a.xlsx")


def test_table_preview_shows_first_rows_as_plain_json(tmp_path: Path) -> None:
    dataset = TableDataset(filepath=tmp_path / "a.parquet")
    dataset.save(
        pd.DataFrame(
            {"n": range(100), "x": [np.nan] * 100, "day": pd.Timestamp("2020-01-01")},
            index=range(5, 105),
        )
    )
    preview = dataset.preview(nrows=2)
    assert preview["columns"] == ["n", "x", "day"]
    assert preview["index"] == [0, 1]
    assert [row[:2] for row in preview["data"]] == [[0, None], [1, None]]
    json.dumps(preview, allow_nan=False)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_ids_are_text_whatever_they_look_like(suffix: str, tmp_path: Path) -> None:
    names = ["01", "NA", "1e3", "True", "", "null", "a, b"]
    numbers = [1.5, np.nan, 3, 4, 5, 6, 7]
    table = pd.DataFrame({"f1": numbers, "unit": names, "recording_id": names[::-1]})
    dataset = TableDataset(filepath=tmp_path / f"a{suffix}")
    dataset.save(table)
    loaded = dataset.load()
    assert loaded["unit"].tolist() == names
    assert loaded["recording_id"].tolist() == names[::-1]
    assert list(loaded.columns) == list(table.columns)
    assert loaded["f1"].isna().tolist() == [False, True, *[False] * 5]


def test_figure_has_a_page_that_needs_no_network(tmp_path: Path) -> None:
    dataset = FigureDataset(filepath=tmp_path / "curve.json")
    dataset.save(go.Figure(go.Scatter(y=[1, 2, 3])))
    page = (tmp_path / "curve.html").read_text(encoding="utf-8")
    assert not re.search(r'src="https?:', page)
    assert list(tmp_path.glob("plotly*.js"))
    assert list(dataset.preview()["data"][0]["y"]) == [1, 2, 3]


def test_figure_and_image_have_one_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        FigureDataset(filepath=tmp_path / "a.html")
    with pytest.raises(ConfigError):
        ImageDataset(filepath=tmp_path / "a.jpg")


def test_image_takes_a_matplotlib_figure(tmp_path: Path) -> None:
    dataset = ImageDataset(filepath=tmp_path / "a.png")
    missing = base64.b64decode(dataset.preview())
    assert imread(io.BytesIO(missing)).size > 0
    figure = new_figure(2.0, 1.0)
    figure.subplots().plot([1, 2])
    dataset.save(figure)
    assert imread(dataset.load()).ndim == 3
    assert base64.b64decode(dataset.preview()) == dataset.load().read_bytes()


def test_text_preview_escapes_text_and_shows_pages(tmp_path: Path) -> None:
    note = TextDataset(filepath=tmp_path / "a.md")
    note.save("<b>" + "x" * 30_000)
    assert note.preview().startswith("<pre>&lt;b&gt;xxx")
    assert len(note.preview()) < 21_000
    page = TextDataset(filepath=tmp_path / "a.html")
    page.save("<h1>Scores</h1>")
    assert page.preview() == "<h1>Scores</h1>"
    page.save("x" * 1_100_000)
    assert "too long to show" in page.preview()


def test_recordings_preview_plays_the_chosen_recording_from_its_first_note(tmp_path: Path) -> None:
    low, high = tone(tmp_path / "low.wav", 220.0), tone(tmp_path / "high.wav", 880.0)
    notes = tmp_path / "notes"
    write_note_table(notes / "high.parquet", Notes.from_arrays([1.0, 1.5], [1.4, 2.0], [81, 60]))
    dataset = RecordingsDataset(filepath=tmp_path / "manifest.parquet", notes={"path": str(notes)})
    dataset.save(
        pd.DataFrame(
            {
                "recording_id": ["gone", "low", "high"],
                "split": ["train", "train", "test"],
                "duration_s": [3600.0, 1800.0, 1800.0],
                "audio_path": [str(tmp_path / "gone.wav"), str(low), str(high)],
            }
        )
    )
    first = dataset.preview(seconds=1.0)
    assert "low, 0.0 to 1.0 s" in first
    assert not decoded(first, "image/png")
    assert peak_hz(decoded(first, "audio/flac")[0]) == pytest.approx(220.0, abs=1.0)
    assert "<td>train</td><td>2</td>" in first
    assert "<td>hours</td><td>2.00</td>" in first

    chosen = dataset.preview(recording_id="high", seconds=1.0)
    assert "high, 0.8 to 1.8 s" in chosen
    assert peak_hz(decoded(chosen, "audio/flac")[0]) == pytest.approx(880.0, abs=1.0)
    (roll,) = decoded(chosen, "image/png")
    assert imread(io.BytesIO(roll)).size > 0
    assert "notes" in dataset._describe()


def test_recordings_preview_without_audio_is_the_size_alone(tmp_path: Path) -> None:
    dataset = RecordingsDataset(filepath=tmp_path / "manifest.csv")
    dataset.save(pd.DataFrame({"recording_id": ["a"], "midi_path": ["a.mid"]}))
    assert dataset.preview() == "<table><tr><td>recordings</td><td>1</td></tr></table>"
    dataset.save(pd.DataFrame({"recording_id": ["a"], "audio_path": ["nowhere.wav"]}))
    assert "audio" not in dataset.preview()


def test_clip_is_resampled_scaled_and_ends_with_the_file(tmp_path: Path) -> None:
    path = tone(tmp_path / "a.wav", 440.0, seconds=1.0)
    assert len(read_clip(path, 0.5, 8.0)) == pytest.approx(0.5 * CLIP_RATE_HZ, abs=2)
    assert len(read_clip(path, 9.0, 8.0)) == 0
    (flac,) = decoded(audio_element(np.array([3.0, -1.5], np.float32)), "audio/flac")
    samples, _ = soundfile.read(io.BytesIO(flac))
    np.testing.assert_allclose(samples, [1.0, -0.5], atol=1e-3)


def test_clip_starts_just_before_the_first_note() -> None:
    assert clip_start_s(None) == clip_start_s(Notes.empty()) == 0.0
    assert clip_start_s(Notes.from_arrays([0.1], [1.0], [60])) == 0.0
    assert clip_start_s(Notes.from_arrays([10.0], [11.0], [60])) == 9.75


def test_transcriptions_are_there_only_with_their_index(tmp_path: Path) -> None:
    folder = tmp_path / "pieces"
    folder.mkdir()
    (folder / "one.res").write_text("0.500000\t0.600000\t60\n")
    dataset = TranscriptionsDataset(filepath=folder)
    assert not dataset.exists()
    with pytest.raises(UserError, match="not a complete folder"):
        dataset.load()
    dataset.save({"pieces": ["one"]})
    assert dataset.load() == folder


def test_transcriptions_preview_shows_and_plays_the_notes(tmp_path: Path) -> None:
    dataset = TranscriptionsDataset(filepath=tmp_path)
    dataset.save({})
    assert dataset.preview() == "<table><tr><td>pieces</td><td>0</td></tr></table>"
    (tmp_path / "one.res").write_text("0.500000\t1.600000\t69\n")
    (tmp_path / "two.res").write_text("")
    page = dataset.preview()
    assert "one, 1 notes, 0.2 to 8.2 s" in page
    assert len(decoded(page, "image/png")) == 1
    (sound,) = decoded(page, "audio/flac")
    assert peak_hz(sound) / 440.0 == pytest.approx(round(peak_hz(sound) / 440.0), abs=0.01)
    silent = dataset.preview(recording_id="two")
    assert "two, 0 notes" in silent
    assert not decoded(silent, "audio/flac")


def test_transcriptions_preview_without_a_synthesizer_keeps_the_roll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "amt_pipeline.audio.render", None)
    dataset = TranscriptionsDataset(filepath=tmp_path)
    dataset.save({})
    (tmp_path / "one.res").write_text("0.500000\t1.600000\t69\n")
    page = dataset.preview()
    assert "not played" in page
    assert decoded(page, "image/png")
