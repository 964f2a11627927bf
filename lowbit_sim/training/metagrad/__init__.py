"""MetaGrad: gradients corrected by a hypernetwork that the next step's loss trains."""
