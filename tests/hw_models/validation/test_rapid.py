"""RaPiD: training of ResNet-50 sustains a share of the peak inside the published range."""

from hw_models.validation.rapid import points, sustained_percent


def test_the_sustained_share_is_in_the_published_range():
    assert 13 < sustained_percent(fused=True) < 77


def test_the_range_is_two_limits_and_both_are_kept():
    limits = {p.limit: round(p.published) for p in points() if p.limit}
    assert limits == {"at least": 13, "at most": 77}
    assert all(p.keeps_limit for p in points())


def test_element_wise_work_decides():
    assert sustained_percent(fused=False) < sustained_percent(fused=True)


def test_the_peak_of_four_chips_within_5_percent():
    (peak,) = [p for p in points() if p.quantity == "peak"]
    assert abs(peak.error) < 5
