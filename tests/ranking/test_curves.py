from __future__ import annotations

import logging
import sys

import numpy as np
import pytest
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.util.tensor_util import make_tensor_proto

from amt_pipeline.core.errors import UserError
from amt_pipeline.ranking.curves import read_curve


def framed(data):
    """A record as event files hold it: length, its checksum, data, its checksum."""
    length = len(data).to_bytes(8, "little")
    sums = (masked_crc32c(part).to_bytes(4, "little") for part in (length, data))
    return length + next(sums) + data + next(sums)


def scalar(step, tag, value, wall_time, style="simple"):
    entry = summary_pb2.Summary.Value(tag=tag)
    if style == "simple":
        entry.simple_value = value
    else:
        entry.tensor.CopyFrom(make_tensor_proto(np.float32(value)))
        if style == "declared":
            entry.metadata.plugin_data.plugin_name = "scalars"
    summary = summary_pb2.Summary(value=[entry])
    return event_pb2.Event(step=step, wall_time=wall_time, summary=summary)


def write_events(path, events):
    path.parent.mkdir(parents=True, exist_ok=True)
    version = event_pb2.Event(wall_time=1.0, file_version="brain.Event:2")
    path.write_bytes(b"".join(framed(e.SerializeToString()) for e in [version, *events]))
    return path


def f1_curve(steps=(100, 200, 300), start=10.0):
    return [scalar(s, "eval/f1", 0.5 + s / 1000, start + s) for s in steps]


def test_event_file(tmp_path):
    path = write_events(tmp_path / "events.out.tfevents.1.host", f1_curve())
    curve = read_curve(path)
    assert curve.columns.tolist() == ["step", "value", "wall_time"]
    assert curve["step"].tolist() == [100, 200, 300]
    assert curve["value"].tolist() == pytest.approx([0.6, 0.7, 0.8])
    assert curve["wall_time"].tolist() == [110, 210, 310]


def test_tensorflow_is_left_alone_even_where_installed(tmp_path, monkeypatch):
    asked = []

    class Spy:
        def find_spec(self, name, *_):
            if name.split(".")[0] == "tensorflow":
                asked.append(name)

    path = write_events(tmp_path / "run.tfevents.9", [scalar(1, "f1", 0.5, 1.0, "declared")])
    for name in [n for n in sys.modules if n.split(".")[0] == "tensorflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Spy(), *sys.meta_path])
    assert len(read_curve(path)) == 1
    assert asked == []


def test_file_of_the_torch_writer(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("f1", 0.25, 1)
        writer.add_scalar("f1", 0.5, 2)
        writer.add_histogram("weights", np.arange(10.0), 2)
    assert read_curve(tmp_path)["value"].tolist() == [0.25, 0.5]


def test_tensorflow_2_style_declares_a_tag_once(tmp_path):
    events = [
        scalar(1, "f1", 0.5, 1.0, "declared"),
        scalar(2, "f1", 0.75, 2.0, "undeclared"),
        scalar(2, "image", 9.0, 2.0, "undeclared"),
    ]
    path = write_events(tmp_path / "run.tfevents.9", events)
    assert read_curve(path, "f1")["value"].tolist() == [0.5, 0.75]


def test_several_tags_are_listed(tmp_path):
    events = [*f1_curve(), scalar(100, "eval/loss", 0.3, 5.0)]
    path = write_events(tmp_path / "events.tfevents.1", events)
    with pytest.raises(UserError, match="several curves: eval/f1, eval/loss"):
        read_curve(path)
    assert read_curve(path, "eval/loss")["value"].tolist() == pytest.approx([0.3])
    with pytest.raises(UserError, match=r"no curve 'f1'.*eval/f1, eval/loss"):
        read_curve(path, "f1")


def test_a_resumed_run_keeps_the_latest_value(tmp_path, caplog):
    write_events(tmp_path / "events.tfevents.2", [scalar(200, "eval/f1", 0.99, 900.0)])
    write_events(tmp_path / "events.tfevents.1", f1_curve())
    with caplog.at_level(logging.WARNING):
        curve = read_curve(tmp_path)
    assert curve["value"].tolist() == pytest.approx([0.6, 0.99, 0.8])
    assert "1 values for steps that occur more than once" in caplog.text


def test_a_folder_is_one_run(tmp_path):
    write_events(tmp_path / "eval" / "events.tfevents.1", f1_curve())
    assert len(read_curve(tmp_path)) == 3
    write_events(tmp_path / "train" / "events.tfevents.1", f1_curve())
    with pytest.raises(UserError, match="several runs: eval, train"):
        read_curve(tmp_path)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="no TensorBoard event file"):
        read_curve(tmp_path / "nothing")


def test_damage_is_an_error_that_names_the_file(tmp_path):
    path = write_events(tmp_path / "events.tfevents.1", f1_curve())
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(UserError, match=r"events\.tfevents\.1: is damaged or cut short \(after 3"):
        read_curve(path)
    path.write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
    with pytest.raises(UserError, match="damaged"):
        read_curve(path)
    path.write_bytes(b"this is not an event file at all")
    with pytest.raises(UserError, match="is not a TensorBoard event file"):
        read_curve(path)
    path.write_bytes(framed(b"\xff\xff\xff\xff no event"))
    with pytest.raises(UserError, match="record 0 is no TensorBoard event"):
        read_curve(path)


def test_files_without_scalars_or_without_access(tmp_path, monkeypatch):
    empty = tmp_path / "events.tfevents.0"
    empty.write_bytes(b"")
    with pytest.raises(UserError, match="holds no scalars"):
        read_curve(empty)
    with pytest.raises(UserError, match="no such file"):
        read_curve(tmp_path / "gone")

    from tensorboard.compat.tensorflow_stub.io import gfile

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(gfile.GFile, "read", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied"):
        read_curve(empty)


def write_csv(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return path


def test_exported_csv(tmp_path, caplog):
    text = "Wall time,Step,Value\r\n12.5,200,0.75\r\n11.5,100,0.5\r\n\r\n13.5,100,NaN\r\n"
    curve = read_curve(write_csv(tmp_path / "curve.csv", text, "utf-8-sig"), "ignored")
    assert curve["step"].tolist() == [100, 200]
    assert np.isnan(curve["value"][0])
    assert curve["wall_time"].tolist() == [13.5, 12.5]
    assert "more than once" in caplog.text


@pytest.mark.parametrize(
    "text, problem",
    [
        ("", "holds no curve"),
        ("Wall time,Step,Value\n", "holds no curve"),
        ("Wall time,Epoch,Value\n1,2,3\n", "lacks the column step; its columns are Wall time, Ep"),
        ("Wall time,Step,Value\n1,2,3\n1,two,3\n", "line 3 is no point"),
        ("Wall time,Step,Value\n1,2.5,3\n", "not a whole number"),
        ("Wall time,Step,Value\nnan,2,3\n", "time is not finite"),
        ("Wall time,Step,Value\n1,2\n", "line 2"),
    ],
)
def test_csv_that_is_no_curve(tmp_path, text, problem):
    with pytest.raises(UserError, match=problem) as caught:
        read_curve(write_csv(tmp_path / "curve.csv", text))
    assert "curve.csv" in str(caught.value)


def test_csv_that_is_no_text(tmp_path):
    (tmp_path / "curve.csv").write_bytes(b"\xff\xfe\x00Wall")
    with pytest.raises(UserError, match="cannot be read as CSV"):
        read_curve(tmp_path / "curve.csv")
