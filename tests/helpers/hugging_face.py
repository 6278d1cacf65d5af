"""MiT encoders as Hugging Face stores them."""

import torch


def as_hugging_face(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names of Hugging Face files, written out name by name, for machines without that package."""
    changes = (
        ("attn.q.", "attention.self.query."),
        ("attn.proj.", "attention.output.dense."),
        ("attn.sr.", "attention.self.sr."),
        ("attn.norm.", "attention.self.layer_norm."),
        ("mlp.fc1.", "mlp.dense1."),
        ("mlp.fc2.", "mlp.dense2."),
        ("norm1.", "layer_norm_1."),
        ("norm2.", "layer_norm_2."),
    )
    result = {}
    for name, tensor in state.items():
        head, rest = name.split(".", 1)
        stage = int(head[-1]) - 1
        if head.startswith("patch_embed"):
            result[f"segformer.encoder.patch_embeddings.{stage}.{rest.replace('norm.', 'layer_norm.')}"] = tensor
        elif head.startswith("norm"):
            result[f"segformer.encoder.layer_norm.{stage}.{rest}"] = tensor
        elif ".attn.kv." in name:
            kind = name.rpartition(".")[2]
            place = f"segformer.encoder.block.{stage}.{rest.split('.')[0]}.attention.self"
            result[f"{place}.key.{kind}"], result[f"{place}.value.{kind}"] = tensor.chunk(2)
        else:
            for ours, theirs in changes:
                rest = rest.replace(ours, theirs) if f".{ours}" in f".{rest}" else rest
            result[f"segformer.encoder.block.{stage}.{rest}"] = tensor
    return result | {"classifier.weight": torch.zeros(1000, 256), "classifier.bias": torch.zeros(1000)}
