"""Image models with prefixes, against models written out by hand in float64."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModel

from by_hand import Images, random_prompt, tensors
from foreword.backbones import FAMILIES, load_backbone, plan_backbone
from foreword.errors import BackboneError
from foreword.injection import Anchor, Injection, InputPrompt, Prompt, Site
from foreword.methods import PTuningV2
from tiny import tiny_backbone
from tiny_prompts import same

READS = [2, 0, 1, 0]


@pytest.fixture(params=sorted(name for name, family in FAMILIES.items() if family.kind == "image"))
def family(request):
    """Every family of image models in turn."""
    return request.param


def pixels(dtype=torch.float64):
    return torch.randn(len(READS), 3, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def mixed(backbone, dtype=torch.float64, **how):
    some = [Site("encoder", 0), Site("encoder", 2)]
    return [
        random_prompt(backbone, 3, seed=1, dtype=dtype, **how),
        random_prompt(backbone, 5, seed=2, sites=some, dtype=dtype, **how),
        random_prompt(backbone, 2, seed=3, dtype=dtype, **how),
    ]


@pytest.mark.parametrize("gated", [False, True])
def test_states_and_gradients_are_those_of_the_model_by_hand(family, gated):
    backbone = tiny_backbone(family, dtype=torch.float64)
    reference, images = Images(backbone), pixels()
    bank = [*mixed(backbone, gated=gated)[:2], random_prompt(backbone, 2, seed=3)]
    found = backbone.encode_images(images, Injection(bank, torch.tensor(READS)))
    expected = torch.stack([reference.row(image, bank[read]) for image, read in zip(images, READS, strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    gradients = [torch.autograd.grad((hidden * weights).sum(), tensors(*bank)) for hidden in (found, expected)]
    assert all(gradient.abs().max() > 1e-6 for gradient in gradients[1])
    same(*gradients, 1e-8)


def test_without_a_prefix_the_backbone_is_the_plain_model(family):
    backbone = tiny_backbone(family)
    plain = AutoModel.from_pretrained(backbone.name, attn_implementation="eager").eval()
    images = pixels(torch.float32)
    expected = plain(pixel_values=images).last_hidden_state
    torch.testing.assert_close(backbone.encode_images(images), expected, rtol=1e-4, atol=1e-4)
    assert expected.shape == (len(READS), 1 + 9, 32)


def test_an_image_alone_is_the_image_in_a_mixed_batch(family):
    backbone = tiny_backbone(family, dtype=torch.float64)
    bank, images = mixed(backbone), pixels()
    together = backbone.encode_images(images, Injection(bank, torch.tensor(READS)))
    for number, read in enumerate(READS):
        alone = backbone.encode_images(images[number : number + 1], Injection([bank[read]]))
        torch.testing.assert_close(alone[0], together[number], rtol=1e-12, atol=1e-12)


def test_every_tensor_of_a_prefix_matters_to_every_patch(family):
    backbone = tiny_backbone(family, dtype=torch.float64)
    whole, images = random_prompt(backbone, 3, seed=1), pixels()
    before = backbone.encode_images(images, Injection([whole]))
    for number in range(len(tensors(whole))):
        places = iter(range(len(tensors(whole))))
        changed = whole.map(lambda t, places=places, number=number: t + 0.5 * t.sign() * (next(places) == number))
        assert ((before - backbone.encode_images(images, Injection([changed]))).abs().amax(-1) > 1e-7).all()


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_gradient_checkpointing_changes_nothing(family, dropout):
    results, runs = [], []
    for checkpointing in (False, True):
        backbone = tiny_backbone(family)
        backbone.regularize(hidden=dropout, attention=dropout)
        backbone.gradient_checkpointing(checkpointing)
        backbone.train()
        calls, attention = [], list(backbone._sites.of)[1]
        next(attention.children()).register_forward_hook(lambda *_, calls=calls: calls.append(1))
        bank = mixed(backbone, torch.float32)
        torch.manual_seed(3)
        hidden = backbone.encode_images(pixels(torch.float32), Injection(bank, torch.tensor(READS)))
        (hidden**3).sum().backward()
        results.append([hidden.detach(), *(tensor.grad for tensor in tensors(*bank))])
        runs.append(len(calls))
    assert runs == [1, 2]
    for off, on in zip(*results, strict=True):
        assert torch.equal(off, on)


def test_bf16_is_close_to_float32(family):
    backbone = tiny_backbone(family)
    injection = Injection(mixed(backbone, torch.float32), torch.tensor(READS))
    exact = backbone.encode_images(pixels(torch.float32), injection)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = backbone.encode_images(pixels(torch.float32), injection).float()
    assert not torch.equal(exact, rough)
    assert (exact - rough).norm() / exact.norm() < 0.05


def test_a_method_that_trains_keys_and_values_needs_no_tokenizer(family):
    backbone = tiny_backbone(family)
    assert backbone.tokenizer is None
    encoder = PTuningV2(prompt_length=3).build(backbone)
    backbone.encode_images(pixels(torch.float32), Injection([encoder()])).sum().backward()
    assert all((parameter.grad != 0).any() for parameter in encoder.parameters())
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_what_is_for_text_is_refused(family):
    backbone = tiny_backbone(family)
    ids = torch.ones((1, 3), dtype=torch.long)
    with pytest.raises(BackboneError, match=r"reads images, not text\. Call encode_images"):
        backbone(ids, ids)
    with pytest.raises(BackboneError, match="reads images, not text"):
        backbone.activations([1, 2])
    with pytest.raises(BackboneError, match="has no vocabulary head"):
        load_backbone(backbone.name, language_model=True)
    with pytest.raises(BackboneError, match="a bert model reads text, not images"):
        tiny_backbone("bert").encode_images(pixels(torch.float32))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(inputs=InputPrompt(torch.zeros(1, 32), (Anchor.FRONT,))), "takes images and no embeddings"),
        (Prompt(infix=True), "no decoder"),
        (Prompt(shift_positions=True), "numbers its positions itself"),
    ],
)
def test_prompts_that_an_image_has_no_place_for_are_refused(family, prompt, message):
    backbone = tiny_backbone(family)
    with pytest.raises(BackboneError, match=f"{family} model .*{message}"):
        backbone.encode_images(pixels(torch.float32), Injection([prompt]))


def test_a_backbone_for_images_has_an_identity_and_a_plan(family):
    backbone, other = tiny_backbone(family), tiny_backbone(family)
    assert backbone.identity == other.identity
    assert backbone.identity.tokenizer == ""
    assert (backbone.embedding_size, backbone.vocabulary_size, backbone.max_length) == (0, 0, 10)
    assert dict(plan_backbone(backbone.name).sites) == dict(backbone.sites)


def test_patches_of_images_that_are_not_square():
    backbone = tiny_backbone("vit", image_size=[8, 16])
    prompt = random_prompt(backbone, 2, seed=1, dtype=torch.float32)
    assert backbone.max_length == 9
    assert backbone.encode_images(torch.randn(2, 3, 8, 16), Injection([prompt])).shape == (2, 9, 32)


def test_a_compiled_tower_reads_its_prefix():
    """In a single graph, since no number of an image is asked for."""
    backbone = tiny_backbone("vit", num_hidden_layers=1)
    bank = [random_prompt(backbone, length, seed=length, dtype=torch.float32) for length in (3, 5, 2)]
    results = []
    for run in (backbone.encode_images, torch.compile(backbone.encode_images, backend="aot_eager", fullgraph=True)):
        hidden = run(pixels(torch.float32), Injection(bank, torch.tensor(READS)))
        results.append([hidden, *torch.autograd.grad((hidden**3).sum(), tensors(*bank))])
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(plain, compiled, rtol=1e-3, atol=1e-3)
