"""What the benchmark of `regularize` measures on, and two of its measures."""

import numpy as np
import pytest
import shapely


@pytest.fixture
def cases(load_benchmark):
    return load_benchmark("regularize_cases")


@pytest.fixture
def benchmark(load_benchmark):
    return load_benchmark("regularize")


def test_row_houses_are_a_coverage_each_beside_its_truth(cases):
    case = cases.row_houses(0)
    assert len(case.contours) == len(case.truths) == 6
    assert shapely.coverage_is_valid(case.contours)
    assert shapely.area(shapely.union_all(case.truths)) == pytest.approx(shapely.area(case.truths).sum())
    assert shapely.area(shapely.intersection(case.contours, case.truths)) == pytest.approx(
        shapely.area(case.truths), rel=0.05
    )


def test_probability_is_of_the_outlines(cases):
    samples = cases.probability(np.array([shapely.box(6, 6, 24, 18)]), (90, 110), 0)
    assert (samples[24:56, 24:76] > 127).all()
    assert (samples[:14] < 127).all()
    assert samples[24:56, 19:21].mean() == pytest.approx(127, abs=35)


def test_gaps_and_overlaps_are_measured_in_square_metres(benchmark):
    houses = shapely.box([0, 5.2, 10], 0, [5, 10.4, 15], 8)
    assert benchmark.gaps(houses) == pytest.approx(0.2 * 8)
    assert benchmark.overlaps(houses) == pytest.approx(0.4 * 8)


def test_our_method_beats_the_contour_on_row_houses(benchmark, cases):
    case = cases.row_houses(0)
    made, kept = benchmark.ours(case, 3)
    score, polis, angle = (float(value) for value in benchmark.measured(case, made)[:3])
    score_before, polis_before, angle_before = (float(value) for value in benchmark.measured(case, case.contours)[:3])
    assert kept == 0
    assert score > score_before
    assert polis < polis_before / 3
    assert angle < angle_before / 10
