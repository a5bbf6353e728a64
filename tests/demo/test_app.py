"""Flags, environment variables, and errors before anything is served."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import app

ROOT = Path(__file__).parents[2]


def test_the_defaults_are_the_shipped_model_on_port_7860() -> None:
    flags = app.parse_arguments([], {})
    assert Path(flags.model) == ROOT / "assets" / "himtok-mini"
    assert flags.port == 7860 and flags.share is False
    rest = (flags.host, flags.device, flags.device_map, flags.dtype, flags.quantization, flags.max_tiles)
    assert rest == (None,) * 6 and flags.refiner is None


def test_every_flag_can_be_set_in_the_environment_and_a_flag_wins() -> None:
    environment = {
        "HIMTOK_MODEL": "some/model", "HIMTOK_DEVICE": "cuda", "HIMTOK_DTYPE": "bfloat16",
        "HIMTOK_QUANTIZATION": "4bit", "HIMTOK_HOST": "0.0.0.0", "HIMTOK_PORT": "8000",
        "HIMTOK_MAX_TILES": "2", "HIMTOK_SHARE": "true", "HIMTOK_DEVICE_MAP": "auto",
        "HIMTOK_REFINER": "some/sam",
    }
    flags = app.parse_arguments([], environment)
    assert vars(flags) == {
        "model": "some/model", "device": "cuda", "dtype": "bfloat16", "quantization": "4bit", "max_tiles": 2,
        "host": "0.0.0.0", "port": 8000, "share": True, "device_map": "auto",
        "refiner": "some/sam",
    }
    flags = app.parse_arguments(["--port", "9000", "--no-share", "--device", "cpu"], environment)
    assert (flags.port, flags.share, flags.device, flags.model) == (9000, False, "cpu", "some/model")


def test_an_empty_variable_counts_as_none() -> None:
    assert app.parse_arguments([], {"HIMTOK_PORT": "", "HIMTOK_DEVICE": ""}).port == 7860


@pytest.mark.parametrize(("arguments", "environment", "named"), [
    (["--port", "web"], {}, "--port"),
    ([], {"HIMTOK_MAX_TILES": "many"}, "--max-tiles"),
    ([], {"HIMTOK_SHARE": "perhaps"}, "HIMTOK_SHARE"),
    (["--modle", "x"], {}, "--modle"),
])
def test_a_value_that_cannot_be_is_named(arguments: list, environment: dict, named: str,
                                         capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        app.parse_arguments(arguments, environment)
    assert stopped.value.code == 2 and named in capsys.readouterr().err


def test_a_model_that_is_not_there_ends_with_one_clear_line(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "app.py"), "--model", str(tmp_path / "nowhere")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 2
    assert "nowhere" in run.stderr and "Traceback" not in run.stderr
