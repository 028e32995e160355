"""What the stand-in scene is made of. Without PyTorch, so that the card of a data set needs none."""

SPHERES = (  # x, y, z, radius, red, green, blue
    (0.0, 0.0, 0.1, 0.6, 0.9, 0.2, 0.2),
    (0.9, 0.3, -0.15, 0.35, 0.2, 0.7, 0.3),
    (-0.5, 0.9, -0.2, 0.3, 0.2, 0.3, 0.9),
)
FLOOR_Z, FLOOR_HALF, FLOOR_DEPTH = -0.5, 1.4, 0.1  # a square plate with its upper face at FLOOR_Z
LIGHT = (0.4, -0.3, 0.866)
BACKGROUND = 1.0
VIEWS = {"train": 12, "val": 2, "test": 3}
SIZE, RADIUS, FIELD_OF_VIEW = 32, 4.0, 0.69  # pixels a side, distance of the cameras, radians
NEAR, FAR = 2.0, 6.0


def made_of() -> str:
    """Everything that the stand-in depends on, for its checksum."""
    return repr((SPHERES, FLOOR_Z, FLOOR_HALF, FLOOR_DEPTH, LIGHT, VIEWS, SIZE, RADIUS, FIELD_OF_VIEW, NEAR, FAR))
