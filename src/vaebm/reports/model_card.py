"""The card that travels with a saved model: what it is, what it was trained on, how good it is, how to load it.

Markdown with a YAML head, as model hubs read it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from vaebm.reports.content import Evaluation
from vaebm.reports.evaluation_tables import outlier_table, p_value_table, quality_table, steps_table
from vaebm.reports.sentences import (
    headline,
    image_fields_sentence,
    kernel_sentence,
    limits,
    p_value_sentence,
    steps_sentence,
    weak_spots,
)
from vaebm.reports.tables import Column, Table, markdown_table

_TAGS = ("vaebm", "vae", "energy-based-model", "langevin", "outlier-detection")
_PAPER = (
    "Z. Xiao, K. Kreis, J. Kautz, A. Vahdat, *VAEBM: A Symbiosis between Variational Autoencoders and Energy-based "
    "Models*, ICLR 2021, [arXiv 2010.00654](https://arxiv.org/abs/2010.00654)"
)


@dataclass(frozen=True)
class CardContent:
    """Everything that a model card says.

    Arguments:
        name: what the model is loaded by: a bundled name, a folder or a hub id.
        summary: one or two sentences on what was trained and for how long.
        data: what it was trained on, with credit and licence, in Markdown.
        license: the licence of the weights, as hubs write it.
        image_shape: (C, H, W).
        num_steps: the chain steps that its samples are drawn with.
        step_size: their step size.
        num_parameters: the number of parameters of each part.
        config: the complete configuration, nested, with the three image fields somewhere in it.
        provenance: versions, commit, seed, hardware, times.
        evaluation: what was measured.
        datasets: names of data sets, for the head.
        tags: further tags, for the head.
        persistence: how much of their momentum chains keep from step to step.
    """

    name: str
    summary: str
    data: str
    license: str
    image_shape: tuple[int, int, int]
    num_steps: int
    step_size: float
    num_parameters: Mapping[str, int] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Evaluation = field(default_factory=Evaluation)
    datasets: Sequence[str] = ()
    tags: Sequence[str] = ()
    persistence: float = 0.0


def _head(content: CardContent) -> str:
    fields: dict[str, Any] = {
        "license": content.license,
        "library_name": "vaebm",
        "pipeline_tag": "unconditional-image-generation",
        "tags": list(dict.fromkeys([*_TAGS, *content.tags])),
    }
    if content.datasets:
        fields["datasets"] = list(content.datasets)
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---"


def _about(content: CardContent) -> str:
    channels, height, width = content.image_shape
    parts = ", ".join(f"{part} {count:,}" for part, count in content.num_parameters.items())
    facts = [
        f"- Images: {channels} × {height} × {width}, in [−1, 1].",
        f"- Parameters: {parts}." if parts else "",
        f"- {image_fields_sentence(content.config)}" if image_fields_sentence(content.config) else "",
    ]
    text = (
        "A VAEBM: a VAE whose density is corrected by an energy network, h(x, z) ∝ p(x, z) · exp(−E(x)). Samples are "
        "drawn by Langevin dynamics on the VAE’s own standard-normal noise; low energy means likely."
    )
    return "\n".join([text, "", *(fact for fact in facts if fact), "", f"Paper: {_PAPER}."])


def _usage(content: CardContent) -> str:
    name, steps = content.name, f"num_steps={content.num_steps}, step_size={content.step_size}"
    if content.persistence:
        steps += f", persistence={content.persistence}"
    return f"""```python
import torch
import vaebm

model = vaebm.load("{name}")  # a bundled name, or the path of this folder or of its run
generator = torch.Generator().manual_seed(0)
images = vaebm.generate(model, 16, {steps}, generator=generator)
scores = vaebm.outlier_scores(model, images, num_posterior_samples=16, generator=generator)
```

```
vaebm sample {name} -n 64 --output grid.png
vaebm score {name} images.npz --output scores.csv
```"""


def _scores(evaluation: Evaluation) -> str:
    parts = [headline(evaluation), kernel_sentence(evaluation)]
    groups: tuple[tuple[Table, Sequence[str]], ...] = (
        (quality_table(evaluation), ()),
        (steps_table(evaluation), (steps_sentence(evaluation),)),
        (outlier_table(evaluation), weak_spots(evaluation)),
        (p_value_table(evaluation), (p_value_sentence(evaluation),)),
    )
    for table, sentences in groups:
        if table.rows:
            notes = "\n".join(f"- {sentence}" for sentence in sentences if sentence)
            parts += [f"**{table.caption}**", markdown_table(table), notes]
    digests = {row.get("judge", ""): row.get("judge_sha256", "") for row in evaluation.get("quality", [])}
    judges = [{"judge": judge, "sha256": f"`{digest}`"} for judge, digest in digests.items() if digest]
    if judges:
        columns = (Column("judge", "judge"), Column("sha256", "SHA-256 of its tensors"))
        parts.append(markdown_table(Table("", columns, judges)))
    return "\n\n".join(part for part in parts if part)


def _origin(provenance: Mapping[str, Any]) -> str:
    plain = [f"- {key}: {value}" for key, value in provenance.items() if isinstance(value, str | int | float)]
    return "\n".join(plain)


def model_card(content: CardContent) -> str:
    """Write the card of a model.

    Arguments:
        content: what to say; parts without content are left out.

    Returns:
        Markdown with a YAML head.

    Example:
        >>> card = model_card(CardContent("mnist", "A small one.", "MNIST.", "apache-2.0", (1, 28, 28), 45, 0.05))
        >>> card.splitlines()[:2]
        ['---', 'license: apache-2.0']
    """
    parts = [
        ("What it is", _about(content)),
        ("How to use it", _usage(content)),
        ("Data", content.data),
        ("Scores", _scores(content.evaluation)),
        ("Limits", "\n".join(f"- {sentence}" for sentence in limits(content.config))),
        ("Origin", _origin(content.provenance)),
    ]
    sections = [f"## {title}\n\n{body}" for title, body in parts if body]
    return "\n\n".join([_head(content), f"# {content.name}", content.summary, *sections]) + "\n"
