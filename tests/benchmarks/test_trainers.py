"""What the benchmarks of training make of their measurements."""

from __future__ import annotations

from benchmarks.trainers import ablation, loader, train_step


def test_the_variants_of_the_ablation_exist_and_differ() -> None:
    config = ablation.Config("studio", "wild", ("open=held",))
    rows = ablation.variants(config)
    assert len({row.name for row in rows}) == len(rows) == 9
    assert {row.loss.of for row in rows} == {"parametric", "drawn"}
    assert ablation.run_of(config, 1, rows[1], False).data.datasets[1].weak


def test_measurements_become_rows_of_a_table() -> None:
    steps = train_step.figures_of("warm", {"before": [200.0, 100.0, 300.0], "now": [100.0, 50.0, 200.0]})
    assert [(figure.name.split(" | ")[-1], figure.value) for figure in steps] == [
        ("before", "200 (100 to 300)"),
        ("now", "100 (50 to 200)"),
        ("before / now", "2.00 (1.50 to 2.00)"),
    ]
    rows = loader.figures_of("2d", {"webdataset": [3.0, 4.0, 2.0], "ours": [1.5, 1.0, 2.0]})
    assert [figure.value for figure in rows[-3:]] == ["1.50 (1.00 to 2.00)", "667", "2.00"]
    measured = [{"open": {"pve": 30.0}}, {"open": {"pve": 32.0}}]
    (cell,) = ablation.figures_of("open", {"no wild": measured})
    assert (cell.name, cell.value[:4]) == ("on open | no wild | PVE*, mm", "31 ±")
