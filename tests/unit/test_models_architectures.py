"""The table of architectures by itself."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from leadline.errors import ArchitectureError
from leadline.models import ARCHITECTURES
from leadline.models.architectures import PARALLEL, SEQUENTIAL, find_architecture
from leadline.sites import KINDS


def test_the_room_and_its_lists_need_no_torch() -> None:
    code = (
        "import sys, leadline.models as m; m.ARCHITECTURES; m.list_models(); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_of_the_room_is_an_attribute_error() -> None:
    import leadline.models

    with pytest.raises(AttributeError, match="nothing_here"):
        leadline.models.nothing_here  # noqa: B018
    assert "load_model" in dir(leadline.models)


def test_equations_are_written_out() -> None:
    assert SEQUENTIAL.text == "resid_mid = resid_pre + attn_out; resid_post = resid_mid + mlp_out"
    assert PARALLEL.text == "resid_post = resid_pre + attn_out + mlp_out"


@pytest.mark.parametrize("row", ARCHITECTURES, ids=lambda row: row.name)
def test_each_row_taps_every_kind_it_offers_and_every_term_of_its_equation(row) -> None:  # type: ignore[no-untyped-def]
    assert set(row.kinds) <= set(KINDS)
    places = {name for name, _ in row.places}
    for whole, terms, _ in row.equation.sums:
        assert {whole, *terms} <= set(row.kinds) | places
        assert whole in row.equation.text or whole in places
    assert ("final_norm" in row.kinds) == bool(row.final_norm)
    assert set(row.optional) <= set(row.kinds)
    assert all(tap.end in ("input", "output") for tap in row.block_taps.values())


def test_a_row_that_does_not_offer_a_kind_gives_no_tap() -> None:
    parallel = find_architecture(SimpleNamespace(model_type="gpt_neox", use_parallel_residual=True))
    assert "resid_mid" not in parallel.block_taps


def test_the_config_decides_between_rows_of_one_model_type() -> None:
    for parallel, equation in ((True, PARALLEL), (False, SEQUENTIAL)):
        config = SimpleNamespace(model_type="gpt_neox", use_parallel_residual=parallel)
        assert find_architecture(config).equation is equation


def test_an_unknown_architecture_names_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(ArchitectureError) as caught:
        find_architecture(SimpleNamespace(model_type="gemma22"))
    message = str(caught.value)
    assert "'gemma22'" in message
    assert "known: bamba, bart, bert, bloom" in message
    assert "Did you mean 'gemma2'?" in message


def test_a_known_type_in_an_unknown_build_is_refused() -> None:
    with pytest.raises(ArchitectureError, match="fits none of the rows 'GPT-2'"):
        find_architecture(SimpleNamespace(model_type="gpt2", add_cross_attention=True))


@pytest.mark.parametrize("config", [None, SimpleNamespace(), SimpleNamespace(model_type="")])
def test_a_model_without_a_type_is_refused(config) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ArchitectureError, match="model_type"):
        find_architecture(config)
