"""The steps of `buildseg.footprints.regularize`: arcs, edges, directions, lines, corners, and how far all that is off."""
