"""Every building with what became of it, as a GeoPackage that QGIS shows in colours."""

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError

from buildseg.evaluation.colours import COLOURS
from buildseg.evaluation.matching import MATCHED
from buildseg.evaluation.place import reproject
from buildseg.evaluation.result import Evaluation
from tiling.errors import OptionError, OutputError
from tiling.output import written_whole

LAYER = "errors"
_STYLE_COLUMNS = (
    "f_table_catalog",
    "f_table_schema",
    "f_table_name",
    "f_geometry_column",
    "styleName",
    "styleQML",
    "styleSLD",
    "useAsDefault",
    "description",
    "owner",
    "ui",
)
_SUFFIX = ".gpkg"


def check_errors_file(target: Path) -> None:
    """Refuse a file that is no GeoPackage by its name, before any work is done for it.

    Args:
        target: The file to be written.

    Raises:
        OptionError: Its extension is another.
    """
    if target.suffix.lower() != _SUFFIX:
        raise OptionError(f"--errors {target}: colours need a GeoPackage; call it {target.with_suffix(_SUFFIX).name}")


def errors_table(evaluation: Evaluation) -> geopandas.GeoDataFrame:
    """List all footprints and all buildings that were compared.

    Args:
        evaluation: A comparison on the ground.

    Returns:
        Columns ``what`` (matched, missed, false, merged or split), ``side`` (prediction or truth), ``area_m2``, ``iou``
        (the best with any polygon of the other side), ``polis_m`` and ``angle_error_deg`` (of those that match),
        ``confidence`` (where it is known) and ``geometry``, in the CRS of the truth.

    Raises:
        OptionError: The comparison was made on chips.
    """
    objects, pairs = evaluation.objects, evaluation.objects.pairs
    found, truth = objects.found, objects.truth
    sides = (
        ("prediction", found.polygons, objects.found_kinds, pairs.found, objects.matched.found, found.confidence),
        ("truth", truth.polygons, objects.truth_kinds, pairs.truth, objects.matched.truth, None),
    )
    tables = []
    for name, polygons, kinds, touching, matched, confidence in sides:
        best = np.zeros(len(polygons))
        np.maximum.at(best, touching, pairs.iou)
        columns = {
            "what": kinds.astype(str),
            "side": name,
            "area_m2": shapely.area(polygons).round(2),
            "iou": best.round(4),
            "polis_m": _of_matched(objects.polis, matched, len(polygons)),
            "angle_error_deg": _of_matched(objects.angle, matched, len(polygons)),
            "confidence": np.full(len(polygons), np.nan) if confidence is None else confidence,
        }
        tables.append(geopandas.GeoDataFrame(columns, geometry=polygons, crs=evaluation.metric))
    table = pd.concat(tables, ignore_index=True)
    if evaluation.metric is None or evaluation.crs is None:
        raise OptionError("--errors: chips have no common ground; predict a scene and evaluate that")
    placed = reproject(table.geometry.array.to_numpy(), evaluation.metric, evaluation.crs, "the comparison")
    return geopandas.GeoDataFrame(table.drop(columns="geometry"), geometry=placed, crs=evaluation.crs)


def write_errors(evaluation: Evaluation, target: Path, *, overwrite: bool = False) -> None:
    """Write all buildings with what became of them, and the colours that QGIS shows them in.

    Args:
        evaluation: A comparison on the ground.
        target: GeoPackage to write.
        overwrite: Whether an existing file may be replaced.

    Raises:
        OptionError: It is no GeoPackage by its name.
        OutputError: The file exists or cannot be written.
    """
    check_errors_file(target)
    style = ("", "", LAYER, "geom", LAYER, _style(), "", True, "What became of each building", "", "")
    with written_whole(target, overwrite=overwrite) as partial:
        try:
            pyogrio.write_dataframe(
                errors_table(evaluation),
                partial,
                driver="GPKG",
                layer=LAYER,
                geometry_type="MultiPolygon",
                promote_to_multi=True,
            )
            styles = pd.DataFrame([style], columns=list(_STYLE_COLUMNS)).assign(update_time=pd.Timestamp.now("UTC"))
            pyogrio.write_dataframe(styles, partial, driver="GPKG", layer="layer_styles", append=True)
        except (DataSourceError, DataLayerError, OSError) as error:
            raise OutputError(
                f"{target} cannot be written ({error}); check the disk, or choose another folder"
            ) from error


def _of_matched(values: NDArray[np.float64], matched: NDArray[np.intp], number: int) -> NDArray[np.float64]:
    spread = np.full(number, np.nan)
    spread[matched] = values.round(3)
    return spread


def _style() -> str:
    """Fill each kind with its colour, as QGIS's own style files say it."""
    categories, symbols = [], []
    for number, (kind, colour) in enumerate(COLOURS.items()):
        red, green, blue = (round(255 * part) for part in colour)
        options = {
            "color": f"{red},{green},{blue},{40 if kind == MATCHED else 110}",
            "style": "solid",
            "outline_color": f"{red},{green},{blue},255",
            "outline_style": "solid",
            "outline_width": "0.4",
            "outline_width_unit": "MM",
        }
        given = "".join(f'<Option name="{key}" type="QString" value="{value}"/>' for key, value in options.items())
        categories.append(f'<category render="true" symbol="{number}" value="{kind}" type="string" label="{kind}"/>')
        symbols.append(
            f'<symbol type="fill" name="{number}" alpha="1"><layer class="SimpleFill" enabled="1" pass="0" locked="0">'
            f'<Option type="Map">{given}</Option></layer></symbol>'
        )
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
        '<qgis version="3.22" styleCategories="Symbology"><renderer-v2 type="categorizedSymbol" attr="what">'
        f"<categories>{''.join(categories)}</categories><symbols>{''.join(symbols)}</symbols></renderer-v2></qgis>"
    )
