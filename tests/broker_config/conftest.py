"""A test marked ``mosquitto`` needs a real one: without, it is a skip on a laptop and a failure in CI."""

import os

import pytest

from broker_config.errors import BrokerFailed
from broker_config.mosquitto import find_mosquitto


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("mosquitto") is None:
        return
    try:
        find_mosquitto()
    except BrokerFailed as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
