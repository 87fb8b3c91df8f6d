import pytest

from jobs.running.results import print_quality


def test_a_table_of_systems(capsys: pytest.CaptureFixture[str]) -> None:
    print_quality("nDCG@20, 2 queries", ["de", "mean"], {"bm25": [0.25, 0.5], "teacher": [None, None]})
    assert capsys.readouterr().out.splitlines() == [
        "",
        "nDCG@20, 2 queries",
        "system                        de    mean",
        "bm25                       0.250   0.500",
        "teacher                        -       -",
    ]
    print_quality("mAP", ["mean"], {"zero_shot": [0.33336]}, width=10, digits=4)
    assert capsys.readouterr().out.splitlines()[-1] == "zero_shot                   0.3334"
