"""Camera frames of NAOqi's become the picture they show."""

from __future__ import annotations

import numpy as np
import pytest

from uservlm.pepper_app.frames import BGR, GREY, RGB, YUV422, to_rgb
from uservlm.runtime.errors import RequestError
from uservlm.runtime.server.faults import PictureTooLargeError

PICTURE = np.random.default_rng(3).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def test_rgb_and_bgr_are_exact() -> None:
    assert np.array_equal(to_rgb(8, 6, RGB, PICTURE.tobytes()), PICTURE)
    assert np.array_equal(to_rgb(8, 6, BGR, PICTURE[..., ::-1].tobytes()), PICTURE)


def test_grey_is_the_same_in_each_channel() -> None:
    grey = to_rgb(8, 6, GREY, PICTURE[..., 0].tobytes())
    assert all(np.array_equal(grey[..., channel], PICTURE[..., 0]) for channel in range(3))


def test_yuv422_is_what_opencv_makes_of_it() -> None:
    cv2 = pytest.importorskip("cv2")
    frame = np.random.default_rng(4).integers(0, 256, (150, 12, 2), dtype=np.uint8)
    ours = to_rgb(12, 150, YUV422, frame.tobytes()).astype(int)
    theirs = cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_YUYV).astype(int)
    assert abs(ours - theirs).max() <= 1


@pytest.mark.parametrize(
    ("width", "height", "space", "size"),
    [
        (8, 6, RGB, 143),
        (8, 6, RGB, 145),
        (8, 6, 10, 144),
        (0, 6, RGB, 0),
        (-8, -6, RGB, 144),
        (7, 6, YUV422, 84),
        (2**40, 2**40, RGB, 144),
    ],
)
def test_what_does_not_fit_is_refused(width: int, height: int, space: int, size: int) -> None:
    with pytest.raises(RequestError):
        to_rgb(width, height, space, bytes(size))


def test_a_frame_larger_than_any_camera_of_peppers_is_refused_before_it_is_converted() -> None:
    assert to_rgb(2560, 1920, GREY, bytes(2560 * 1920)).shape == (1920, 2560, 3)
    with pytest.raises(PictureTooLargeError, match="at most"):
        to_rgb(2560, 1921, GREY, bytes(2560 * 1921))
