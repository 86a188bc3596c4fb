"""Open footprints and their scene in the real QGIS and look at them.

Run by the Python that QGIS is installed for, which has neither torch nor this project::

    /usr/bin/python3 tests/qgis_check.py SCENE FOOTPRINTS OUT.png [--count N] [--epsg N] [--own-style]

It prints one JSON line of facts. If anything is wrong its last line on stderr says what, and it exits with 1.
Without QGIS it exits with 3. Nothing is written but the picture.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ["GDAL_PAM_ENABLED"] = "NO"  # QGIS would leave an .aux.xml beside the scene

try:
    from qgis.core import (
        QgsApplication,
        QgsCoordinateReferenceSystem,
        QgsFillSymbol,
        QgsMapRendererParallelJob,
        QgsMapSettings,
        QgsProject,
        QgsRasterLayer,
        QgsSingleSymbolRenderer,
        QgsVectorLayer,
    )
    from qgis.PyQt.QtCore import QSize
except ImportError as error:
    sys.stderr.write(f"QGIS is not installed for {sys.executable}: {error}\n")
    sys.exit(3)

FIELDS = ("id", "area_m2", "confidence")
OUTLINE = {"color": "0,0,0,0", "outline_color": "255,0,255", "outline_width": "0.5", "outline_style": "solid"}


class CheckError(Exception):
    """Something is wrong with the files."""


def main() -> int:
    """Check and draw; 0 if all is well."""
    options = _options()
    application = QgsApplication([], False)
    application.initQgis()
    try:
        sys.stdout.write(json.dumps(_check(options)) + "\n")
    except CheckError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        QgsProject.instance().removeAllMapLayers()
        application.exitQgis()
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Check footprints in QGIS and draw them over their scene.")
    parser.add_argument("scene", type=Path)
    parser.add_argument("footprints", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--count", type=int, help="how many footprints there must be")
    parser.add_argument("--epsg", type=int, help="the EPSG code that the footprints must have")
    parser.add_argument("--own-style", action="store_true", help="draw as QGIS does by itself, not outlines alone")
    return parser.parse_args()


def _check(options: argparse.Namespace) -> dict[str, Any]:
    scene = QgsRasterLayer(str(options.scene), "scene")
    footprints = QgsVectorLayer(str(options.footprints), "footprints", "ogr")
    for path, layer in ((options.scene, scene), (options.footprints, footprints)):
        _demand(layer.isValid(), f"{path}: QGIS cannot open it")
        _demand(layer.crs().isValid(), f"{path}: no CRS that QGIS knows")
    if options.epsg is not None:
        wanted = QgsCoordinateReferenceSystem.fromEpsgId(options.epsg)
        _demand(footprints.crs() == wanted, f"{options.footprints}: CRS is {footprints.crs().authid()}")
    facts = _look_at_features(footprints, options)
    if not options.own_style:
        footprints.setRenderer(QgsSingleSymbolRenderer(QgsFillSymbol.createSimple(OUTLINE)))
    facts["renderers"] = [footprints.renderer().type(), scene.renderer().type()]
    width, height = _draw(scene, footprints, options.picture)
    return {**facts, "crs": footprints.crs().authid(), "scene_crs": scene.crs().authid(), "picture": [width, height]}


def _look_at_features(footprints: QgsVectorLayer, options: argparse.Namespace) -> dict[str, Any]:
    path = options.footprints
    names = footprints.fields().names()
    missing = [name for name in FIELDS if name not in names]
    _demand(not missing, f"{path}: field {', '.join(missing)} is missing")
    count, area = 0, 0.0
    for feature in footprints.getFeatures():
        name = f"{path}: footprint {feature['id']}"
        geometry = feature.geometry()
        _demand(not geometry.isNull() and not geometry.isEmpty(), f"{name} has no geometry")
        _demand(geometry.isGeosValid(), f"{name} is not valid: {geometry.lastError() or 'see GEOS'}")
        size, confidence = feature["area_m2"], feature["confidence"]
        _demand(isinstance(size, float) and size > 0, f"{name} has area_m2 {size}")
        _demand(isinstance(confidence, float) and 0 <= confidence <= 1, f"{name} has confidence {confidence}")
        count, area = count + 1, area + size
    _demand(count == footprints.featureCount(), f"{path}: {footprints.featureCount()} announced, {count} read")
    _demand(options.count in (None, count), f"{path}: {count} footprints, not {options.count}")
    return {"footprints": count, "area_m2": round(area, 1), "fields": names}


def _draw(scene: QgsRasterLayer, footprints: QgsVectorLayer, picture: Path) -> tuple[int, int]:
    """Draw the footprints over the scene, as many pixels as the scene has but at most 2048 across."""
    settings = QgsMapSettings()
    settings.setLayers([footprints, scene])
    settings.setDestinationCrs(scene.crs())
    settings.setTransformContext(QgsProject.instance().transformContext())
    settings.setExtent(scene.extent())
    shrink = min(1.0, 2048 / max(scene.width(), scene.height()))
    settings.setOutputSize(QSize(round(scene.width() * shrink), round(scene.height() * shrink)))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    wrong = "; ".join(error.message for error in job.errors())
    _demand(not wrong, f"QGIS could not draw: {wrong}")
    image = job.renderedImage()
    _demand(image.save(str(picture)), f"{picture}: cannot be written")
    return image.width(), image.height()


def _demand(fact: bool, otherwise: str) -> None:
    if not fact:
        raise CheckError(otherwise)


if __name__ == "__main__":
    sys.exit(main())
