"""Every family of timm by its smallest member, at a small size: built, probed, trained, folded, written, read again.

A handful runs each time; all of them with FIELDGUIDE_TEST_FAMILIES=1 (some minutes).
"""

import math
import os

import pytest
import timm
import torch

from fieldguide.errors import UsageError
from fieldguide.model.architecture import Architecture
from fieldguide.model.batch_norm import as_built, load_as_built, set_batch_norm
from fieldguide.model.bundle import load_classifier, write_bundle
from fieldguide.model.classifier import make_classifier
from fieldguide.model.description import Description
from fieldguide.training.probe import fit_probe

FAMILIES = {  # timm's module: its smallest member, and a size other than that of its pretraining where it takes one
    "beit": ("beit_base_patch16_224", 32),
    "byoanet": ("halonet_h1", 256),
    "byobnet": ("test_byobnet", 32),
    "cait": ("cait_xxs24_224", 32),
    "coat": ("coat_tiny", 32),
    "convit": ("convit_tiny", 32),
    "convmixer": ("convmixer_768_32", 32),
    "convnext": ("test_convnext", 32),
    "cpubone": ("cpubone_nano", 32),
    "crossvit": ("crossvit_tiny_240", 48),
    "csatv2": ("csatv2", 64),
    "cspnet": ("cs3darknet_focus_s", 32),
    "cspnext": ("cspnext_tiny", 32),
    "davit": ("davit_tiny", 32),
    "deepseek_vit": ("deepseek_vit_412m", 112),
    "deit": ("deit_tiny_patch16_224", 32),
    "densenet": ("densenet121", 32),
    "dla": ("dla46x_c", 32),
    "dpn": ("dpn48b", 32),
    "edgenext": ("edgenext_xx_small", 32),
    "efficientformer": ("efficientformer_l1", 224),
    "efficientformer_v2": ("efficientformerv2_s0", 32),
    "efficientnet": ("test_efficientnet", 32),
    "efficientvim": ("efficientvim_m1", 32),
    "efficientvit_mit": ("efficientvit_b0", 32),
    "efficientvit_msra": ("efficientvit_m0", 32),
    "eva": ("eva02_tiny_patch14_224", 28),
    "fasternet": ("fasternet_t0", 32),
    "fastvit": ("fastvit_t8", 32),
    "focalnet": ("focalnet_tiny_srf", 32),
    "gcvit": ("gcvit_xxtiny", 32),
    "gemma4_vit": ("gemma4_vit_167m", 32),
    "ghostnet": ("ghostnet_050", 32),
    "hardcorenas": ("hardcorenas_b", 32),
    "hgnet": ("hgnetv2_b0", 32),
    "hiera": ("hiera_tiny_224", 32),
    "hieradet_sam2": ("sam2_hiera_tiny", 32),
    "hrnet": ("hrnet_w18_small", 32),
    "iformer": ("iformer_t", 32),
    "inception_next": ("inception_next_atto", 32),
    "inception_resnet_v2": ("inception_resnet_v2", 96),
    "inception_v3": ("inception_v3", 96),
    "inception_v4": ("inception_v4", 96),
    "lcnetv2": ("lcnetv2_small", 32),
    "levit": ("levit_128s", 32),
    "lowformer": ("lowformer_b0", 32),
    "mambaout": ("test_mambaout", 32),
    "maxxvit": ("test_coatnet", 32),
    "metaformer": ("caformer_s18", 32),
    "mlp_mixer": ("gmlp_ti16_224", 32),
    "mobilenetv3": ("lcnet_035", 32),
    "mobilenetv5": ("mobilenetv5_base", 32),
    "mobilevit": ("mobilevit_xxs", 32),
    "mvitv2": ("mvitv2_tiny", 32),
    "naflexvit": ("naflexvit_base_patch16_parfac_gap", 32),
    "nasnet": ("nasnetalarge", 64),
    "nest": ("nest_tiny", 32),
    "nextvit": ("nextvit_small", 32),
    "nfnet": ("test_nfnet", 32),
    "pit": ("pit_ti_224", 32),
    "pnasnet": ("pnasnet5large", 64),
    "pvt_v2": ("pvt_v2_b0", 32),
    "qwen3_vit": ("qwen3_vit_88m", 32),
    "rdnet": ("rdnet_tiny", 32),
    "regnet": ("regnetx_002", 32),
    "repghost": ("repghostnet_050", 32),
    "repvit": ("repvit_m1", 32),
    "res2net": ("res2next50", 32),
    "resnest": ("resnest14d", 32),
    "resnet": ("test_resnet", 32),
    "resnetv2": ("resnetv2_18", 32),
    "rexnet": ("rexnet_100", 32),
    "selecsls": ("selecsls42", 32),
    "senet": ("legacy_seresnet18", 32),
    "sequencer": ("sequencer2d_s", 32),
    "shvit": ("shvit_s1", 32),
    "sknet": ("skresnet18", 32),
    "starnet": ("starnet_s050", 32),
    "swiftformer": ("swiftformer_xs", 32),
    "swin_transformer": ("swin_tiny_patch4_window7_224", 32),
    "swin_transformer_v2": ("swinv2_tiny_window16_256", 32),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", 32),
    "tiny_vit": ("tiny_vit_5m_224", 32),
    "tnt": ("tnt_s_legacy_patch16_224", 32),
    "tresnet": ("tresnet_m", 32),
    "twins": ("twins_svt_small", 32),
    "vgg": ("vgg11", 32),
    "visformer": ("visformer_tiny", 32),
    "vision_transformer": ("test_vit", 32),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", 32),
    "vision_transformer_relpos": ("test_vit_relpos", 32),
    "vision_transformer_sam": ("samvit_base_patch16_224", 32),
    "vitamin": ("vitamin_small_224", 32),
    "volo": ("volo_d1_224", 32),
    "vovnet": ("ese_vovnet19b_slim_dw", 32),
    "xception": ("legacy_xception", 32),
    "xception_aligned": ("xception41p", 64),
    "xcit": ("xcit_nano_12_p8_224", 32),
}
NOT_FOLDED = {"maxxvit"}  # its layers do not each follow one convolution; frozen works
QUICK = ("byobnet", "levit", "maxxvit", "tiny_vit", "vision_transformer_relpos", "vision_transformer")
ALL = "FIELDGUIDE_TEST_FAMILIES" in os.environ
HAVE = set(timm.list_modules())


def test_every_family_of_timm_is_listed():
    assert {name for name in HAVE if timm.list_models(module=name)} <= set(FAMILIES)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES if ALL else QUICK)
def test_a_family_is_probed_trained_folded_written_and_read_again(family, tmp_path):
    name, size = FAMILIES[family]
    if not timm.is_model(name):
        pytest.skip(f"this version of timm has no {name}")
    torch.manual_seed(0)
    described = Architecture(name, "linear", None, 0.0, 3, image_size_px=size)
    model = make_classifier(described)
    own = [parameter for parameter, _ in model.backbone.named_parameters()]
    assert sorted(parameter for stage in model.interface.stages() for parameter in stage) == sorted(own)
    images, labels = torch.randn(6, 3, size, size), torch.arange(6) % 3
    with torch.inference_mode():
        features = model.eval().backbone(images)
    assert features.shape == (6, model.interface.num_features)
    assert fit_probe(features.numpy(), labels.numpy(), 3, 0).weight.shape == (3, model.interface.num_features)
    first, last = two_steps(model, images, labels)
    assert math.isfinite(first) and math.isfinite(last)
    weights, before = as_built(model), model.eval()(images[:2]).detach()
    can_fold = folds(model, size)
    assert can_fold == (family not in NOT_FOLDED)
    if can_fold:
        assert (model.eval()(images[:2]) - before).abs().max() <= 1e-4 * before.abs().max()
        two_steps(model, images, labels)
    load_as_built(model, weights)
    write_bundle(tmp_path / "bundle", Description(described, ("a", "b", "c"), {"image_size_px": size}, None), weights)
    again, _ = load_classifier(tmp_path / "bundle")
    with torch.inference_mode():
        assert torch.equal(again(images[:2]), model.eval()(images[:2]))


def two_steps(model, images, labels):
    optimizer, losses = torch.optim.SGD(model.train().parameters(), lr=1e-3), []
    for _ in range(2):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images[:4]), labels[:4])
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def folds(model, size):
    try:
        set_batch_norm(model, "folded", size)
    except UsageError:
        return False
    return True
