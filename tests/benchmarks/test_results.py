"""Results pages say what their CSV files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.results import FOLDER, Figure, read_figures, render_page, report, save_figures, tabulate

PAGE = "# Speed\n\n<!-- figures: steps -->\n<!-- end -->\n\nText.\n"


def test_tables_are_made_from_the_figures_and_new_figures_replace_old_ones(tmp_path: Path) -> None:
    (tmp_path / "speed.md").write_text(PAGE)
    old = [Figure("steps | train | before", "820", "ms"), Figure("steps | train | after", "500", "ms")]
    save_figures("speed", old, "python -m a", tmp_path)
    save_figures("speed", [Figure("steps | train | after", "400", "ms")], "python -m b", tmp_path)
    text = (tmp_path / "speed.md").read_text()
    assert "| | before | after |" in text and "| train | 820 ms | 400 ms |" in text and text.endswith("Text.\n")
    assert [(row.value, row.command) for row in read_figures(tmp_path / "speed.csv")] == [
        ("820", "python -m a"),
        ("400", "python -m b"),
    ]


def test_a_table_without_figures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "speed.md").write_text(PAGE)
    with pytest.raises(KeyError, match="steps"):
        render_page("speed", tmp_path)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.csv")), ids=lambda file: file.stem)
def test_pages_hold_the_tables_of_their_csv(file: Path, tmp_path: Path) -> None:
    for source in (file, file.with_suffix(".md")):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    render_page(file.stem, tmp_path)
    assert (tmp_path / f"{file.stem}.md").read_text() == file.with_suffix(".md").read_text()


def test_the_command_on_a_page_names_no_folder_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench.py", "--photos", "/data/ann/photos", "--most", "3", "out/scenes"])
    save_figures("speed", [Figure("steps | train | now", "1", "ms")], folder=tmp_path)
    command = read_figures(tmp_path / "speed.csv")[0].command
    assert command.endswith("--photos photos --most 3 out/scenes")


def test_a_table_is_printed_and_saved_only_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved: list[str] = []
    monkeypatch.setattr("benchmarks.results.save_figures", lambda subject, figures: saved.append(subject))
    figures = tabulate("steps", {"train": {"now": "1 ms"}, "test": {"now": "2 ms"}})
    report("speed", figures, save=False)
    assert "| train | 1 ms |\n| test | 2 ms |" in capsys.readouterr().out and not saved
    report("speed", figures, save=True)
    assert saved == ["speed"]
