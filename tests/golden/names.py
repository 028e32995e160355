"""Names of parameters: of the released DFA class to ours. `.T` behind one of ours: it is stored transposed."""

LINEAR_TERM = {"linear.fc.weight": "linear.weight.weight", "linear.bias": "linear.bias"}
EMBEDDING = {"embedding.embedding.weight": "embedding.weight"}


def perceptron(depth: int) -> dict[str, str]:
    """Blocks of linear, batch norm, ReLU, dropout and feedback layer; without the last linear layer."""
    return {
        f"mlp.mlp.{5 * block + part}.{kind}": f"mlp.blocks.{block}.{part}.{kind}"
        for block in range(depth)
        for part in (0, 1)
        for kind in ("weight", "bias")
    }


def deep(depth: int) -> dict[str, str]:
    """A perceptron with its last linear layer."""
    last = {f"mlp.mlp.{5 * depth}.{kind}": f"deep.{kind}" for kind in ("weight", "bias")}
    return perceptron(depth) | last


def fm() -> dict[str, str]:
    return LINEAR_TERM | EMBEDDING


def deepfm(mlp: int) -> dict[str, str]:
    return LINEAR_TERM | EMBEDDING | deep(mlp)


def dcn(cross: int, mlp: int) -> dict[str, str]:
    return {
        **EMBEDDING,
        **{f"cn.w.{layer}.weight": f"cross.{layer}.weight.weight" for layer in range(cross)},
        **{f"cn.b.{layer}": f"cross.{layer}.bias" for layer in range(cross)},
        **perceptron(mlp),
        "linear.weight": "output.weight",
        "linear.bias": "output.bias",
    }


def afn(mlp: int) -> dict[str, str]:
    return LINEAR_TERM | EMBEDDING | {"LNN.weight": "log_neurons.weight.weight"} | deep(mlp)


def autoint(attention: int, mlp: int) -> dict[str, str]:
    one = {
        "in_proj_weight": "qkv.weight",
        "in_proj_bias": "qkv.bias",
        "out_proj.weight": "out.weight",
        "out_proj.bias": "out.bias",
    }
    return {
        **LINEAR_TERM,
        **EMBEDDING,
        "atten_embedding.weight": "attention_embedding.weight",
        "atten_embedding.bias": "attention_embedding.bias",
        **{
            f"self_attns.{layer}.{theirs}": f"attention.{layer}.{ours}"
            for layer in range(attention)
            for theirs, ours in one.items()
        },
        "V_res_embedding.weight": "residual.weight",
        "V_res_embedding.bias": "residual.bias",
        "attn_fc.weight": "attended.weight",
        "attn_fc.bias": "attended.bias",
        **deep(mlp),
    }


CHEB = {
    "conv1.lins.0.weight": "conv1.weights.0.T",
    "conv1.lins.1.weight": "conv1.weights.1.T",
    "conv1.bias": "conv1.bias",
    "conv2.lins.0.weight": "conv2.weights.0.T",
    "conv2.lins.1.weight": "conv2.weights.1.T",
    "conv2.bias": "conv2.bias",
}
GCN = {
    "conv1.lin.weight": "conv1.weight.T",
    "conv1.bias": "conv1.bias",
    "conv2.lin.weight": "conv2.weight.T",
    "conv2.bias": "conv2.bias",
}
SPLINE = {
    name: name for name in ("conv1.weight", "conv1.root", "conv1.bias", "conv2.weight", "conv2.root", "conv2.bias")
}
GAT = {
    "conv1.lin.weight": "map1.T",
    "conv1.att_src": "conv1.att_src",
    "conv1.att_dst": "conv1.att_dst",
    "conv1.bias": "conv1.bias",
    "conv2.lin.weight": "conv2.lin.weight",
    "conv2.att_src": "conv2.att_src",
    "conv2.att_dst": "conv2.att_dst",
    "conv2.bias": "conv2.bias",
}
GAE = {f"encoder.{theirs}": ours for theirs, ours in GCN.items()}


def dna(layers: int) -> dict[str, str]:
    grouped = (
        f"convs.{layer}.multi_head.lin_{part}.{kind}"
        for layer in range(layers)
        for part in "qkv"
        for kind in ("weight", "bias")
    )
    return {
        "lin1.weight": "map1.T",
        "lin1.bias": "bias1",
        **{name: name for name in grouped},
        "lin2.weight": "logits.weight",
        "lin2.bias": "logits.bias",
    }


FIELD = {
    "layer1": "trunk.0.linear",
    "layers_xyz.0": "trunk.1.linear",
    "layers_xyz.1": "trunk.2.linear",
    "layers_xyz.2": "trunk.3.linear",
    "fc_alpha": "density",
    "fc_feat": "feature.linear",
    "layers_dir.0": "direction.linear",
    "fc_rgb": "colour",
}
NERF = {
    f"{network}.{theirs}.{kind}": f"{network}.{ours}.{kind}"
    for network in ("coarse", "fine")
    for theirs, ours in FIELD.items()
    for kind in ("weight", "bias")
}


def transformer(layers: int) -> dict[str, str]:
    one = {
        "self_attn.in_proj_weight": "attention.queries_keys_values.weight",
        "self_attn.in_proj_bias": "attention.queries_keys_values.bias",
        "self_attn.out_proj.weight": "attention.mix.weight",
        "self_attn.out_proj.bias": "attention.mix.bias",
        "linear1.weight": "feed_forward.expand.weight",
        "linear1.bias": "feed_forward.expand.bias",
        "linear2.weight": "feed_forward.contract.weight",
        "linear2.bias": "feed_forward.contract.bias",
        "norm1.weight": "attention_norm.weight",
        "norm1.bias": "attention_norm.bias",
        "norm2.weight": "feed_forward_norm.weight",
        "norm2.bias": "feed_forward_norm.bias",
    }
    return {
        "embedding.weight": "embedding.weight",
        **{
            f"transformer_encoder.layers.{layer}.{theirs}": f"blocks.{layer}.{ours}"
            for layer in range(layers)
            for theirs, ours in one.items()
        },
        "decoder.weight": "vocabulary.weight",
        "decoder.bias": "vocabulary.bias",
    }
