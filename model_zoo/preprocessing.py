"""From a frame to the network's input: one definition, used in training, evaluation and serving alike."""

from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from model_zoo.errors import ImageError

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
_LUMA: Final = np.array([0.299, 0.587, 0.114])
"""Of red, green and blue."""


class Preprocessing(BaseModel):
    """How a frame becomes a network input; a part of the model card.

    The whole frame is squashed to the input size, without regard to its aspect ratio, so that no cell at the border is
    lost; channels are put in RGB order, scaled to 0..1 and normalised.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(default=224, gt=0, description="Input width in pixels.")
    height: int = Field(default=224, gt=0, description="Input height in pixels.")
    channel_order: Literal["rgb"] = Field(default="rgb", description="Channel order of the network's input.")
    interpolation: Literal["area"] = Field(
        default="area", description="Pixel-area averaging where a side shrinks; bilinear for smaller images."
    )
    geometry: Literal["squash"] = Field(
        default="squash", description="The whole frame, aspect ratio ignored."
    )
    mean: tuple[float, float, float] = Field(default=IMAGENET_MEAN, description="Mean by channel, of 0..1.")
    std: tuple[float, float, float] = Field(
        default=IMAGENET_STD, description="Deviation by channel, of 0..1."
    )

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Squash a frame to the input size.

        Args:
            image: (H, W, 3) uint8, channels blue, green, red.

        Returns:
            (height, width, 3) uint8, channels blue, green, red.

        Raises:
            ImageError: If `image` has another shape or dtype.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:  # noqa: PLR2004
            msg = (
                f"a frame must be (H, W, 3) of uint8 in BGR, not {tuple(image.shape)} of {image.dtype}: "
                "decode it with model_zoo.image.decode_image"
            )
            raise ImageError(msg)
        if image.shape[:2] == (self.height, self.width):
            return image
        shrinks = image.shape[1] >= self.width and image.shape[0] >= self.height
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(image, (self.width, self.height), interpolation=method), np.uint8)

    def normalise(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn a BGR image of any size into a normalised (3, H, W) float32 array in RGB order."""
        scale = (1.0 / (255.0 * np.asarray(self.std))).astype(np.float32)
        offset = (np.asarray(self.mean) / np.asarray(self.std)).astype(np.float32)
        planes = np.ascontiguousarray(image[:, :, ::-1].transpose(2, 0, 1)).astype(np.float32)
        planes *= scale[:, None, None]
        planes -= offset[:, None, None]
        return planes

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Resize, reorder and normalise: (H, W, 3) uint8 BGR to (3, height, width) float32."""
        return self.normalise(self.resize(image))

    def grey(self, prepared: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Turn a network input (3, H, W) back into grey values (H, W), 0 to 255 (luma of ITU-R BT.601)."""
        weights = 255.0 * _LUMA * np.asarray(self.std)
        level = float((255.0 * _LUMA * np.asarray(self.mean)).sum())
        red, green, blue = prepared
        mixed = cv2.addWeighted(red, weights[0], green, weights[1], level)
        return np.asarray(cv2.convertScaleAbs(cv2.scaleAdd(blue, weights[2], mixed)), np.uint8)
