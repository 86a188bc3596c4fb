"""Compares a prediction with the truth: footprints, or a probability raster."""

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import geopandas

from buildseg.area_of_interest import AreaOfInterest
from buildseg.evaluation.ground_gallery import GroundGallery
from buildseg.evaluation.options import EvaluateOptions
from buildseg.evaluation.reading import CONFIDENCE, read_footprints
from buildseg.evaluation.result import Evaluation
from buildseg.evaluation.scores import score
from buildseg.evaluation.setting import setting_of_scene, setting_of_vectors
from buildseg.footprints import VectorizeOptions, vectorize
from buildseg.labels import Labels
from buildseg.progress import Track, silent
from tiling import Scene, SceneOptions
from tiling.errors import OptionError

logger = logging.getLogger(__name__)

_RASTERS = {".tif", ".tiff", ".vrt"}


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is evaluated.

    Attributes:
        path: Footprints in any vector format, or a probability raster.
        layer: The layer of the footprints, where the file has several.
        confidence: Name of the attribute that says how sure each footprint is; None does without.
    """

    path: Path
    layer: str | None = None
    confidence: str | None = CONFIDENCE

    @property
    def is_raster(self) -> bool:
        """Whether it is a probability raster."""
        return self.path.suffix.lower() in _RASTERS


@dataclass(frozen=True, slots=True)
class Where:
    """On which ground it is evaluated.

    Attributes:
        image: Scene that the footprints were drawn from: only its valid pixels count, and errors are shown over it.
        aoi: Area that is compared.
    """

    image: Path | None = None
    aoi: AreaOfInterest | None = None


def evaluate(
    prediction: Prediction, truth: Labels, where: Where, options: EvaluateOptions, *, track: Track = silent
) -> Evaluation:
    """Compare a prediction with true buildings.

    Args:
        prediction: Footprints or a probability raster.
        truth: The buildings; there may be none.
        where: On which ground.
        options: How.
        track: Shows how far it is.

    Raises:
        LabelError: The footprints cannot be read, or the sides lie apart.
        ProbabilityError: The raster is no probability raster.
        SceneError: The image cannot be read.
        OptionError: An option does not suit, or the area of interest lies elsewhere.
    """
    if prediction.is_raster and options.gsd is not None:
        raise OptionError("--gsd: a probability raster is compared at its own resolution; leave the option out")
    if truth.frame.empty:
        logger.warning("%s holds no building: all that is found counts as false", truth.path)
    raster = prediction.path if prediction.is_raster else where.image
    found = _drawn(prediction.path, options, track) if prediction.is_raster else _read(prediction)
    with nullcontext() if raster is None else Scene(raster, SceneOptions(gsd=options.gsd)) as scene:
        if scene is None:
            setting = setting_of_vectors(found, truth.frame, where.aoi, options)
        else:
            setting = setting_of_scene(scene, truth.frame, where.aoi, options, levels=prediction.is_raster)
        tallies, objects = setting.compare(found, truth.frame, options, track)
    gsd = setting.grid.gsd
    about = {
        "prediction": str(prediction.path),
        "truth": str(truth.path),
        "area": setting.said,
        "compared_km2": float(tallies.pixels.sum()) * gsd**2 / 1e6,
        "gsd_m": gsd,
        "boundary_m": options.boundary_pixels(gsd) * gsd,
        "threshold": options.threshold if prediction.is_raster else None,
    }
    gallery = GroundGallery(objects, setting.grid.metric, setting.area, where.image or raster)
    return Evaluation(
        score(tallies, objects, options.seed), objects, about, gallery, setting.grid.metric, truth.frame.crs
    )


def _read(prediction: Prediction) -> geopandas.GeoDataFrame:
    return read_footprints(prediction.path, prediction.layer, prediction.confidence)


def _drawn(raster: Path, options: EvaluateOptions, track: Track) -> geopandas.GeoDataFrame:
    """Draw footprints as `buildseg vectorize` does, in the raster's CRS."""
    drawn = VectorizeOptions(threshold=options.threshold, min_area=options.min_area, crs="native")
    return vectorize(raster, drawn, track=track)
