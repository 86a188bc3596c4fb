"""What a file is, in words."""

from pathlib import Path
from typing import TYPE_CHECKING

from buildseg.classes import BUILDING
from tiling import Scene
from tiling.opening import open_raster

if TYPE_CHECKING:
    from buildseg.model_file import ModelCard

_OVERVIEW_SIDE = 512


def describe(path: str | Path) -> dict[str, str]:
    """Describe a model file or a scene.

    Args:
        path: A ``.safetensors`` file, or anything that GDAL opens.

    Returns:
        What is said, by what it is said of, in reading order.

    Raises:
        ModelFileError: It is a damaged model file.
        SceneError: It is neither a model file nor a scene that can be used.
    """
    if Path(path).suffix == ".safetensors":
        from buildseg.model_file import read_card  # which needs torch; a scene does not

        return _describe_model(read_card(Path(path)), Path(path))
    return _describe_scene(path)


def describe_shipped_model() -> dict[str, str]:
    """Describe the model that comes with the package."""
    from buildseg.model_file import read_card, shipped_model

    with shipped_model() as path:
        return _describe_model(read_card(path), path)


def _describe_model(card: "ModelCard", path: Path) -> dict[str, str]:
    contract, training = card.contract, card.training
    described = {
        "file": f"{path.name}, {path.stat().st_size / 1e6:.1f} MB, a buildseg model",
        "network": card.network,
        "bands": f"{', '.join(contract.bands)} as {contract.dtype}",
        "classes": _said_classes(int(card.architecture.get("classes", 1)))
        + (", and boundaries between buildings" if card.architecture.get("boundary") else ""),
        "resolution": contract.resolution,
        "window": f"{contract.window} pixels",
    }
    if training:
        versions, epochs = training.get("versions", {}), training.get("options", {}).get("epochs")
        described["trained on"] = (
            f"{training.get('train_chips')} chips of {', '.join(training.get('tiles', []))}; "
            f"{epochs} epoch{'' if epochs == 1 else 's'}, buildseg {versions.get('buildseg')}"
        )
    if card.scores:
        described["scores"] = ", ".join(
            f"{name.removeprefix('val_')} {value:.3g}" for name, value in card.scores.items()
        )
    return described


def _said_classes(classes: int) -> str:
    return "building or not" if classes == 1 else f"{classes}, of which number {BUILDING} is building"


def _describe_scene(path: str | Path) -> dict[str, str]:
    with Scene(path) as scene:
        _, valid = scene.overview(_OVERVIEW_SIDE)
        with open_raster(scene.path) as dataset:
            layout = "tiled" if dataset.profile.get("tiled") else "striped"
            overviews = dataset.overviews(1)
            compression = dataset.compression.value.lower() if dataset.compression else "none"
        size = f"{scene.width} x {scene.height} pixels ({scene.width * scene.height / 1e6:.1f} megapixels)"
        return {
            "file": f"{Path(scene.path).name}, a scene of {size}",
            "resolution": f"{scene.gsd[0]:.3g} x {scene.gsd[1]:.3g} m per pixel",
            "ground": f"{scene.width * scene.gsd[0] / 1e3:.2f} x {scene.height * scene.gsd[1] / 1e3:.2f} km",
            "CRS": scene.crs.to_string(),
            "bands": f"{', '.join(scene.band_names)} as {scene.dtype}",
            "holds data": f"{valid.mean():.0%}",
            "layout": f"{layout}, compression {compression}, overviews {overviews or 'none'}",
        }
