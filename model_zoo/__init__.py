"""Networks, model packages and inference; datasets, training, evaluation and evidence.

The serving part (`package`, `catalogue`, `predictor`, `image`, `engines`) needs numpy, OpenCV and one inference engine;
it imports neither torch nor timm nor scikit-learn. The training part imports them, and may import `smear_simulator`.
"""

from model_zoo.labels import LABELS

__all__ = ["LABELS"]
