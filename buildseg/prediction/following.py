"""Draws footprints in a thread while the blocks of a raster are being finished."""

import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import shapely

from buildseg.footprints import VectorizeOptions
from buildseg.footprints.contours import trace
from buildseg.footprints.raster import cut_blocks, opened_probability, read_block
from buildseg.footprints.tables import FootprintTables
from buildseg.footprints.vectorize import Vectorizer
from buildseg.progress import Track, silent
from tiling import Block


class FootprintFollower:
    """Vectorizes a probability raster as far as its blocks are there. Use it as a context manager.

    Args:
        raster: Probability raster, of which only finished blocks are read.
        blocks: What it is finished in.
        options: How footprints are made.
        scene: What they call the scene that they come from.
        clip: What they are cut to, in pixel coordinates; None leaves them whole.

    Raises:
        OptionError: The raster cannot be brought to the CRS asked for.
    """

    def __init__(
        self,
        raster: Path,
        blocks: Sequence[Block],
        options: VectorizeOptions,
        scene: str,
        clip: shapely.Geometry | None = None,
    ) -> None:
        self._open = ExitStack()
        self._dataset = self._open.enter_context(opened_probability(raster))
        folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="buildseg-")))
        pieces = cut_blocks(self._dataset.height, self._dataset.width, options.block)
        self._vectorizer = Vectorizer(self._dataset, pieces, options, folder, scene=scene, clip=clip)
        tree = shapely.STRtree([_box(block) for block in blocks])
        needed = tree.query([_box(piece) for piece in pieces], predicate="intersects")
        self._waits_for: dict[Block, set[Block]] = {piece: set() for piece in pieces}
        self._waited_by: dict[Block, list[Block]] = {block: [] for block in blocks}
        for piece, block in needed.T:
            self._waits_for[pieces[piece]].add(blocks[block])
            self._waited_by[blocks[block]].append(pieces[piece])
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="footprints")
        self._drawn: list[Future[None]] = []

    def finished(self, blocks: Iterable[Block]) -> None:
        """Say which blocks can be read from now on."""
        self._drawn = [drawn for drawn in self._drawn if not drawn.done() or drawn.exception() is not None]
        for block in blocks:
            for piece in self._waited_by.pop(block):
                self._waits_for[piece].discard(block)
                if not self._waits_for[piece]:
                    del self._waits_for[piece]
                    self._drawn.append(self._thread.submit(self._draw, piece))

    def footprints(self, track: Track = silent) -> FootprintTables:
        """Wait for the rest.

        Args:
            track: Shows the pieces that are drawn.

        Returns:
            What `Vectorizer.finish` returns, all blocks being finished; readable as long as the context is open.

        Raises:
            ProbabilityError: A block is damaged.
        """
        for drawn in track(self._drawn, "Vectorizing", len(self._drawn)):
            drawn.result()
        return self._vectorizer.finish()

    def _draw(self, piece: Block) -> None:
        samples = read_block(self._dataset, piece)
        self._vectorizer.add(piece, *trace(samples, self._vectorizer.level, piece.row, piece.col))

    def __enter__(self) -> "FootprintFollower":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._open.close()


def _box(block: Block) -> shapely.Geometry:
    """The pixel centres of a block."""
    return shapely.box(block.col, block.row, block.col + block.cols - 1, block.row + block.rows - 1)
