"""Tests of joining the footprints of scenes that overlap."""

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from buildseg.footprints import merge_footprints
from tiling.errors import OptionError

UTM = "EPSG:32632"


def table(boxes, crs=UTM):
    """Footprints as `vectorize` gives them; each box is (left, bottom, width, height) in metres."""
    polygons = [shapely.box(left, bottom, left + width, bottom + height) for left, bottom, width, height in boxes]
    columns = {
        "id": np.arange(1, len(polygons) + 1),
        "area_m2": np.array([polygon.area for polygon in polygons], float).round(2),
        "confidence": np.full(len(polygons), 0.9),
    }
    return geopandas.GeoDataFrame(columns, geometry=polygons, crs=crs)


def boxes(left=0, right=30):
    place, side = st.integers(left, right), st.integers(1, 9)
    return st.lists(st.tuples(place, st.integers(0, 30), side, side), max_size=8)


def shared(one, other):
    """What two polygons share, of the smaller."""
    return one.intersection(other).area / min(one.area, other.area)


def rows_of(frame):
    return {(scene, polygon.wkb) for scene, polygon in zip(frame.scene, frame.geometry, strict=True)}


@given(st.lists(boxes(), min_size=1, max_size=4))
def test_each_building_is_kept_once(drawn):
    frames = {f"scene{number}": table(one) for number, one in enumerate(drawn)}
    merged = merge_footprints(frames)
    kept = list(zip(merged.scene, merged.geometry, strict=True))
    for number, (scene, polygon) in enumerate(kept):
        for other_scene, other in kept[:number]:
            assert scene == other_scene or shared(polygon, other) < 0.5
    there = rows_of(merged)
    for name, frame in frames.items():
        for polygon in frame.geometry:
            if (name, polygon.wkb) not in there:
                assert any(
                    shared(polygon, other) >= 0.5 and other.area >= polygon.area
                    for scene, other in kept
                    if scene != name
                )


@given(boxes())
def test_one_scene_is_left_as_it_is(drawn):
    frame = table(drawn)
    merged = merge_footprints({"only": frame})
    assert merged.geometry.to_wkb().tolist() == frame.geometry.to_wkb().tolist()
    assert merged.columns.tolist() == ["id", "area_m2", "confidence", "geometry", "scene"]


@given(boxes(0, 30), boxes(40, 70))
def test_scenes_apart_lose_nothing(west, east):
    merged = merge_footprints({"west": table(west), "east": table(east)})
    assert merged.scene.tolist() == ["west"] * len(west) + ["east"] * len(east)
    assert merged.id.tolist() == list(range(1, len(merged) + 1))
    assert merged.crs == UTM


@given(boxes(), boxes())
def test_the_order_of_scenes_matters_only_among_equals(one, other):
    # Areas that all differ, far above what they are compared to.
    widened = [(*box[:3], box[3] + number / 64) for number, box in enumerate([*one, *other])]
    first, second = table(widened[: len(one)]), table(widened[len(one) :])
    if len({polygon.area for polygon in [*first.geometry, *second.geometry]}) < len(widened):
        return
    there = merge_footprints({"a": first, "b": second})
    back = merge_footprints({"b": second, "a": first})
    assert rows_of(there) == rows_of(back)


def test_the_whole_building_is_kept_and_not_what_an_edge_left_of_it():
    merged = merge_footprints({"cut": table([(0, 0, 4, 10)]), "whole": table([(0, 0, 10, 10)])})
    assert merged.scene.tolist() == ["whole"]
    assert merged.area_m2.tolist() == [100]


def test_of_equal_ones_the_first_is_kept():
    assert merge_footprints({"b": table([(0, 0, 5, 5)]), "a": table([(0, 0, 5, 5)])}).scene.tolist() == ["b"]


def test_one_that_is_dropped_drops_no_other():
    chain = {"a": table([(0, 0, 12, 10)]), "b": table([(5, 0, 11, 10)]), "c": table([(11, 0, 10, 10)])}
    assert merge_footprints(chain).scene.tolist() == ["a", "c"]


def test_different_crs_are_refused():
    with pytest.raises(OptionError, match=r"--crs native.*EPSG:n"):
        merge_footprints({"a": table([(0, 0, 5, 5)]), "b": table([], "EPSG:4326")})


def test_scenes_without_footprints():
    merged = merge_footprints({"a": table([]), "b": table([])})
    assert merged.empty
    assert merged.crs == UTM
