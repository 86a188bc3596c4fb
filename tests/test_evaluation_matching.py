import contextlib
import io

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from shapely.affinity import rotate, translate

from buildseg.evaluation.matching import find_pairs, match, name_kinds
from buildseg.evaluation.objects import Side, compare
from buildseg.evaluation.outlines import iou
from buildseg.evaluation.precision import IOUS, average_precision, hits_by_rank
from buildseg.evaluation.scores import PixelTallies, score
from buildseg.evaluation.sizes import scores_by_size

HOUSE = shapely.box(0, 0, 10, 10)
SIDE = 400


def polygons(*shapes):
    return np.array(shapes, np.object_)


def town(seed, turn=0.0):
    """Houses that touch and overlap, and footprints of them: shifted, cut, doubled, missed and made up."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, SIDE - 40, (90, 2))
    truths = [shapely.box(*corner, *(corner + rng.integers(6, 40, 2))) for corner in corners]
    found = [translate(truth, *rng.integers(-3, 4, 2).tolist()) for truth in truths[10:]]
    found += [shapely.box(*truth.bounds[:2], *(np.array(truth.bounds[2:]) - (3, 2))) for truth in truths[:30]]
    found += [
        shapely.box(*corner, *(corner + rng.integers(6, 30, 2))) for corner in rng.integers(0, SIDE - 40, (20, 2))
    ]
    found = [rotate(each, float(angle)) for each, angle in zip(found, turn * rng.normal(size=len(found)), strict=True)]
    return polygons(*found), polygons(*truths), rng.permutation(len(found)) / len(found)


def cells(mask_of):
    """A polygon of whole pixels as COCO's run lengths, without COCO's own drawing of polygons, which is a pixel off."""
    mask = np.zeros((SIDE + 40, SIDE + 40), np.uint8, order="F")
    left, top, right, bottom = (round(value) + 20 for value in mask_of.bounds)
    mask[top:bottom, left:right] = 1
    return coco_mask.encode(mask)


def coco(found, truths, confidence, ious=None):
    """COCO's own evaluation of one image."""
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        box = {"image_id": 1, "category_id": 1, "iscrowd": 0, "area": 1.0, "bbox": [0, 0, 1, 1]}
        draw = cells if ious is None else (lambda _: coco_mask.encode(np.ones((2, 2), np.uint8, order="F")))
        reference.dataset = {
            "info": {},
            "images": [{"id": 1, "height": SIDE + 40, "width": SIDE + 40}],
            "categories": [{"id": 1}],
            "annotations": [box | {"id": i + 1, "segmentation": draw(truth)} for i, truth in enumerate(truths)],
        }
        reference.createIndex()
        given = [
            {"image_id": 1, "category_id": 1, "segmentation": draw(each), "score": float(sure)}
            for each, sure in zip(found, confidence, strict=True)
        ]
        evaluator = COCOeval(reference, reference.loadRes(given), "segm")
        evaluator.params.maxDets = [1, 10, 10_000]
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        if ious is not None:
            evaluator.computeIoU = lambda image, category: ious
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][:, :, 0, 0, 2]
    matched = np.count_nonzero(evaluator.evalImgs[0]["dtMatches"][0])
    return precision.mean(axis=1), matched


@pytest.mark.parametrize("seed", range(4))
def test_scores_of_buildings_are_cocos_on_the_same_pixels(seed):
    found, truths, confidence = town(seed)
    averages, matched = coco(found, truths, confidence)
    assert 0.2 < averages[0] < 0.95 and averages[9] < averages[0]
    place = np.zeros(len(found), np.intp), np.zeros(len(truths), np.intp)
    objects = compare(Side(found, place[0], confidence), Side(truths, place[1]))
    values = score(PixelTallies(np.ones((1, 4), np.int64), np.ones((1, 2), np.int64)), objects, 0).values
    assert values["ap50"] == pytest.approx(averages[0], abs=1e-9)
    assert values["ap50_95"] == pytest.approx(averages.mean(), abs=1e-9)
    assert values["object_precision"] == matched / len(found)
    assert values["object_recall"] == matched / len(truths)
    assert values["object_f1"] == pytest.approx(2 * matched / (len(found) + len(truths)))


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_turned_buildings_are_cocos_with_exact_overlaps(seed):
    found, truths, confidence = town(seed, turn=8.0)
    order = np.argsort(-confidence, kind="stable")
    ious = np.array([iou(np.full(len(truths), each), truths) for each in found[order]])
    averages, _ = coco(found, truths, confidence, ious)
    hits = hits_by_rank(find_pairs(found, truths), confidence)
    assert average_precision(hits, ~hits, len(truths)) == pytest.approx(averages, abs=1e-9)


def test_average_precision_where_there_is_nothing():
    none = np.zeros((0, 10), bool)
    assert np.isnan(average_precision(none, none, 0)).all()
    assert list(average_precision(none, none, 4)) == [0] * 10
    assert list(average_precision(np.ones((3, 10), bool), np.zeros((3, 10), bool), 3)) == [1] * 10
    assert pytest.approx([0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]) == IOUS


@given(st.integers(0, 500), st.booleans())
def test_matching_is_one_to_one_and_leaves_no_free_pair(seed, sure):
    found, truths, confidence = town(seed)
    pairs = find_pairs(found, truths)
    matched = match(pairs, confidence if sure else None)
    assert len(set(matched.found)) == len(matched.found) and len(set(matched.truth)) == len(matched.truth)
    assert (matched.iou >= 0.5).all()
    free = ~np.isin(pairs.found, matched.found) & ~np.isin(pairs.truth, matched.truth)
    assert (pairs.iou[free] < 0.5).all()


def kinds(found, truths):
    found, truths = polygons(*found), polygons(*truths)
    pairs = find_pairs(found, truths)
    named = name_kinds(pairs, match(pairs, None), shapely.area(found), shapely.area(truths))
    return [list(side) for side in named]


def test_what_becomes_of_buildings():
    away = [translate(HOUSE, 100 * place) for place in range(6)]
    row = [shapely.box(100, 0, 104, 10), shapely.box(104, 0, 107, 10), shapely.box(107, 0, 110, 10)]
    pieces = [shapely.box(200, 0, 204.5, 10), shapely.box(205, 0, 209.5, 10)]
    annex = [shapely.box(300, 0, 309, 10), shapely.box(309, 0, 310, 10)]
    speck = shapely.box(401, 1, 402, 2)
    found = [away[0], away[1], *pieces, away[3], speck, away[5]]
    truths = [away[0], *row, away[2], *annex, away[4]]
    named = kinds(found, truths)
    assert named[0] == ["matched", "merged", "split", "split", "matched", "false", "false"]
    assert named[1] == ["matched", "merged", "merged", "merged", "split", "matched", "merged", "missed"]


def test_a_footprint_counts_in_the_block_of_its_building():
    found, truths = polygons(translate(HOUSE, 1), translate(HOUSE, 50)), polygons(HOUSE, translate(HOUSE, 100))
    objects = compare(Side(found, np.array([1, 1]), np.array([0.9, 0.4])), Side(truths, np.array([0, 2])))
    assert objects.tally(3).tolist() == [[1, 1, 1], [0, 1, 0], [1, 0, 0]]
    assert objects.tally_levels(3).sum(axis=1).tolist() == [[1, 1], [1, 0], [0, 0]]
    assert objects.tally_ranked(3).sum(axis=(1, 2)).tolist() == [10, 10, 0]
    assert objects.tally_outlines(3)[:, :, 1].tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]


def test_touching_sides_share_nothing():
    assert kinds([HOUSE], [translate(HOUSE, 10)]) == [["false"], ["missed"]]


def test_no_sides():
    assert kinds([], []) == [[], []]
    assert kinds([HOUSE], []) == [["false"], []]
    assert kinds([], [HOUSE]) == [[], ["missed"]]


def test_sizes_go_by_the_building_where_there_is_one():
    truths = polygons(shapely.box(0, 0, 7, 7), shapely.box(50, 0, 60, 10), shapely.box(90, 0, 120, 40))
    found = polygons(shapely.box(0, 0, 7, 8), shapely.box(50, 0, 52, 10), shapely.box(200, 0, 240, 40))
    nowhere = np.zeros(3, np.intp)
    scores = scores_by_size(compare(Side(found, nowhere), Side(truths, nowhere)))
    assert [(each.from_m2, each.to_m2) for each in scores][::4] == [(0, 50), (1000, None)]
    assert [each.truth for each in scores] == [1, 0, 1, 0, 1]
    assert [each.prediction for each in scores] == [2, 0, 0, 0, 1]
    assert [each.recall for each in scores] == [1, None, 0, None, 0]
    assert [each.precision for each in scores] == [0.5, None, None, None, 0]
    assert scores[2].mean_iou == pytest.approx(0.2)
