"""The steps of `buildseg.footprints.regularize`: arcs, edges, directions, merging, circles, corners."""
