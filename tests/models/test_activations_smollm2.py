"""`extract` on the real weights, against what transformers itself gives."""

from __future__ import annotations

import numpy as np
import pytest

from leadline.activations import extract
from leadline.data import Dataset

torch = pytest.importorskip("torch")

TEXTS = [
    "The city of Krasnodar is in Russia.",
    "The city of Lodz is in the Dominican Republic.",
    "How can I kill a Python process?",
    "Yes.",
    "What happens to you if you eat watermelon seeds? They pass through your digestive system, as they always have.",
]


@pytest.mark.real
@pytest.mark.parametrize("tokens", ["last", "mean"])
def test_extract_equals_hidden_states(smollm2, tmp_path, tokens):
    data = Dataset.from_rows([{"text": t, "label": i % 2} for i, t in enumerate(TEXTS)], target="label")
    acts = extract(smollm2, data, "embed resid_post.* final_norm", tokens, out=tmp_path / "s", batch_tokens=40)
    assert len(acts.sites) == 32
    for row, ids in enumerate(smollm2.encode(data.inputs)):
        with torch.inference_mode():
            states = smollm2.trunk(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        # The last entry stands after the final norm; the output of the last block is not among them.
        expected = dict(zip([f"resid_post.{i}" for i in range(29)], states[1:-1], strict=True))
        expected |= {"embed": states[0], "final_norm": states[-1]}
        for name, x in expected.items():
            x = x[0].double().numpy()
            pooled = x[-1] if tokens == "last" else x.mean(0)
            difference = np.linalg.norm(acts.read(name)[row] - pooled)
            assert difference <= 1e-4 * np.linalg.norm(pooled), name
