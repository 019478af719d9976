"""The table of backbones says what timm builds."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fieldguide.model.backbone import make_backbone, pretrained_preprocessing, problem_with_backbone
from fieldguide.model.pretrained import licence
from fieldguide.model.table import candidates, known_backbones

BY_NAME = {known.name: known for known in known_backbones()}
COUNTED = [
    "resnet10t.c3_in1k",
    "resnet18.a1_in1k",
    "seresnext26t_32x4d.bt_in1k",
    "resnet50.tv2_in1k",
    "resnetrs50.tf_in1k",
]


def test_every_row_is_a_pretrained_network_of_timm_with_the_size_of_its_pretraining():
    assert len(BY_NAME) == len(known_backbones()) > 100
    for name, known in BY_NAME.items():
        assert "." in name and problem_with_backbone(name) is None, name
        assert known.image_size_px == pretrained_preprocessing(name)["image_size_px"], name
        assert 60 < known.top1_percent < 90 and known.top1_size_px >= known.image_size_px


def test_rows_of_one_network_and_size_cost_the_same():
    for known in BY_NAME.values():
        same = [k for k in BY_NAME.values() if k.name.split(".")[0] == known.name.split(".")[0]]
        assert {k.parameters for k in same} == {known.parameters}
        of_size = {k.gmacs for k in same if k.image_size_px == known.image_size_px}
        assert of_size == {known.gmacs}


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_and_multiply_accumulates_are_what_torch_counts(name):
    known = BY_NAME[name]
    with torch.device("meta"):
        network = make_backbone(name).network.eval()
    assert known.parameters == sum(parameter.numel() for parameter in network.parameters())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, known.image_size_px, known.image_size_px, device="meta"))
    assert known.gmacs == pytest.approx(counter.get_total_flops() / 2e9, abs=0.0006)


def test_cost_goes_with_the_area():
    known = BY_NAME["resnet50.a1_in1k"]
    assert known.gmacs_at(known.image_size_px) == known.gmacs
    assert known.gmacs_at(2 * known.image_size_px) == 4 * known.gmacs


@pytest.mark.slow
@pytest.mark.parametrize("known", candidates(), ids=lambda known: known.name)
def test_a_candidate_is_what_timm_and_torch_say_of_it(known):
    assert problem_with_backbone(known.name) is None and licence(known.name) == known.licence
    assert known.image_size_px == pretrained_preprocessing(known.name)["image_size_px"]
    with torch.device("meta"):
        network = make_backbone(known.name).network.eval()
    assert known.parameters == sum(parameter.numel() for parameter in network.parameters())
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, known.image_size_px, known.image_size_px, device="meta"))
    assert known.gmacs == pytest.approx(counter.get_total_flops() / 2e9, abs=0.0006)
    assert (known.top1_percent is None) == (known.top1_size_px is None)
