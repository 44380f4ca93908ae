"""Pictures of slices, a scored split, a training, an evaluation; and what HTML pages share."""
