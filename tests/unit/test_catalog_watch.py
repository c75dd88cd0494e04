"""A changed models file is taken as a whole or not at all."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from gateway.catalog_watch import CatalogWatch
from gateway.config import Settings
from gateway.environment import InvalidSetting

ONE = '[One]\nbase_url = "http://one/v1"\nprice = "free"\n'
TWO = ONE + '[Two]\nbase_url = "http://two/v1"\nprice = "free"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(ONE)
    return path


@pytest.fixture
def watch(file: Path) -> CatalogWatch:
    return CatalogWatch(Settings.from_env({"MODELS_FILE": str(file)}))


def replace(file: Path, text: str) -> None:
    """As editors do, by a new file in the old one's place."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def test_a_gateway_does_not_start_without_a_good_file(file: Path) -> None:
    file.write_text("[One]")
    with pytest.raises(InvalidSetting):
        CatalogWatch(Settings.from_env({"MODELS_FILE": str(file)}))


def test_a_changed_file_is_taken_once_it_stands_still(watch: CatalogWatch, file: Path) -> None:
    replace(file, TWO)
    watch.look()
    assert watch.current.names == ["One"]
    watch.look()
    assert watch.current.names == ["One", "Two"]


def test_a_file_that_is_still_being_written_is_left_alone(watch: CatalogWatch, file: Path) -> None:
    for size in range(len(ONE) + 1, len(TWO)):
        file.write_text(TWO[:size])
        watch.look()
        assert watch.current.names == ["One"]
    file.write_text(TWO)
    watch.look()
    watch.look()
    assert watch.current.names == ["One", "Two"]


@pytest.mark.parametrize(
    "bad", ["[", "", ONE + "[Two]\n", ONE.replace("free", "cheap"), "[auto]\naliases = []"]
)
def test_a_bad_file_is_refused_once_with_its_reason_and_the_old_catalog_stays(
    watch: CatalogWatch, file: Path, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = watch.current
    replace(file, bad)
    for _ in range(5):
        watch.look()
    assert watch.current is before
    (refused,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "MODELS_FILE: " in refused.getMessage()
    assert len(refused.getMessage().splitlines()) == 1

    replace(file, TWO)
    watch.look()
    watch.look()
    assert watch.current.names == ["One", "Two"]


def test_a_file_that_vanishes_and_comes_back_the_same_changes_nothing(
    watch: CatalogWatch, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = watch.current
    file.unlink()
    for _ in range(3):
        watch.look()
    file.write_text(ONE)
    for _ in range(3):
        watch.look()
    assert watch.current is before
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_file_that_is_only_touched_changes_nothing(watch: CatalogWatch, file: Path) -> None:
    before = watch.current
    os.utime(file, (1, 1))
    watch.look()
    watch.look()
    assert watch.current is before


def test_a_key_that_is_not_set_or_would_go_to_the_network_refuses_the_file(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"MODELS_FILE": str(file), "GATEWAY_BIND": "0.0.0.0", "TWO_KEY": "sk-canary"}
    watch = CatalogWatch(Settings.from_env(settings))
    for variable, problem in (("NO_KEY", "NO_KEY: is not set"), ("TWO_KEY", "GATEWAY_BIND: refusing")):
        replace(file, f'{TWO}api_key_env = "{variable}"\n')
        watch.look()
        watch.look()
        assert watch.current.names == ["One"]
        assert problem in caplog.records[-1].getMessage()
    assert "canary" not in caplog.text


def test_the_new_catalog_is_logged_without_keys(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings.from_env({"MODELS_FILE": str(file), "TWO_KEY": "sk-canary"})
    watch = CatalogWatch(settings)
    replace(file, TWO + 'api_key_env = "TWO_KEY"\n')
    with caplog.at_level(logging.INFO):
        watch.look()
        watch.look()
    rows = [vars(record) for record in caplog.records]
    assert [(row["model"], row["key"], row["price"]) for row in rows] == [
        ("One", "none", "free"),
        ("Two", "set", "free"),
    ]
    assert "canary" not in repr(rows)
