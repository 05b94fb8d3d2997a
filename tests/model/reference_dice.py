"""The released network written out plainly: released names, eager, loops, nothing fused. What ours is compared with.

Classes carry the names and (while a file is written) the module paths under which the release pickles them.
"""

from __future__ import annotations

import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn


@dataclass(frozen=True)
class Spec:
    """The released dimensions; tests use narrower ones."""

    hand: tuple[int, int] = (778, 195)
    head: tuple[int, int, int] = (5023, 1675, 559)
    keypoints: tuple[int, int] = (21, 68)
    stem: int = 64
    planes: int = 64
    stage1_blocks: int = 4
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4
    channels: tuple[int, int, int, int] = (64, 128, 256, 512)
    head_planes: tuple[int, int, int, int] = (32, 64, 128, 256)
    features: int = 2048
    size: int = 224
    inputs: tuple[int, ...] = (2051, 512, 128)
    widths: tuple[int, ...] = (1024, 256, 128)
    outs: tuple[int, ...] = (512, 128, 3)
    deform_inputs: tuple[int, ...] = (512, 128)
    deform_widths: tuple[int, ...] = (256, 64)
    deform_outs: tuple[int, ...] = (128, 4)
    layers: int = 4
    heads: int = 4
    hidden: int = 3072
    positions: int = 1024
    vocabulary: int = 30522
    camera: int = 250
    presence: tuple[int, int] = (512, 64)
    regressor: int = 1024
    hand_parameters: int = 61
    face_parameters: int = 162

    @property
    def tokens(self) -> int:
        return sum(self.keypoints) + self.hand[-1] + self.head[-1]

    @property
    def cells(self) -> int:
        return (self.size // 32) ** 2


class CfgNode(dict):
    """Stands for yacs' node, which the release keeps on its backbone."""


def conv3x3(inputs: int, outputs: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)


class BasicBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(channels, channels), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv2, self.bn2 = conv3x3(channels, channels), nn.BatchNorm2d(channels)
        self.downsample = None

    def forward(self, x):
        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)
        out = self.conv2(out)
        out = self.bn2(out)
        out = out + x
        return self.relu(out)


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, planes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv3x3(planes, planes), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, planes * 4, 1, bias=False), nn.BatchNorm2d(planes * 4)
        self.relu = nn.ReLU()
        self.downsample = None
        if inputs != planes * 4:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, planes * 4, 1, bias=False), nn.BatchNorm2d(planes * 4))

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(out + shortcut)


class HighResolutionModule(nn.Module):
    def __init__(self, channels: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList()
        for count in channels:
            self.branches.append(nn.Sequential(*[BasicBlock(count) for _ in range(blocks)]))
        self.fuse_layers = nn.ModuleList()
        for i in range(len(channels)):
            row = []
            for j in range(len(channels)):
                if j > i:
                    row.append(
                        nn.Sequential(
                            nn.Conv2d(channels[j], channels[i], 1, bias=False),
                            nn.BatchNorm2d(channels[i]),
                            nn.Upsample(scale_factor=2 ** (j - i), mode="nearest"),
                        )
                    )
                elif j == i:
                    row.append(None)
                else:
                    chain = []
                    for k in range(i - j):
                        last = k == i - j - 1
                        outputs = channels[i] if last else channels[j]
                        step = [conv3x3(channels[j], outputs, 2), nn.BatchNorm2d(outputs)]
                        chain.append(nn.Sequential(*(step if last else [*step, nn.ReLU()])))
                    row.append(nn.Sequential(*chain))
            self.fuse_layers.append(nn.ModuleList(row))
        self.relu = nn.ReLU()

    def forward(self, x):
        x = [branch(value) for branch, value in zip(self.branches, x, strict=True)]
        fused = []
        for i in range(len(x)):
            y = 0
            for j in range(len(x)):
                y = y + (x[j] if i == j else self.fuse_layers[i][j](x[j]))
            fused.append(self.relu(y))
        return fused


class HighResolutionNet(nn.Module):
    def __init__(self, s: Spec) -> None:
        super().__init__()
        self.cfg = CfgNode(STAGE2=CfgNode(NUM_CHANNELS=list(s.channels[:2])))
        self.conv1, self.bn1 = conv3x3(3, s.stem, 2), nn.BatchNorm2d(s.stem)
        self.conv2, self.bn2 = conv3x3(s.stem, s.stem, 2), nn.BatchNorm2d(s.stem)
        self.relu = nn.ReLU()
        width = s.planes * 4
        self.layer1 = nn.Sequential(
            *[Bottleneck(s.stem if k == 0 else width, s.planes) for k in range(s.stage1_blocks)]
        )
        c = s.channels

        def down(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Sequential(conv3x3(inputs, outputs, 2), nn.BatchNorm2d(outputs), nn.ReLU()))

        keep = nn.Sequential(conv3x3(width, c[0]), nn.BatchNorm2d(c[0]), nn.ReLU())
        self.transition1 = nn.ModuleList([keep, down(width, c[1])])
        self.stage2 = nn.Sequential(*[HighResolutionModule(c[:2], s.blocks) for _ in range(s.modules[0])])
        self.transition2 = nn.ModuleList([None, None, down(c[1], c[2])])
        self.stage3 = nn.Sequential(*[HighResolutionModule(c[:3], s.blocks) for _ in range(s.modules[1])])
        self.transition3 = nn.ModuleList([None, None, None, down(c[2], c[3])])
        self.stage4 = nn.Sequential(*[HighResolutionModule(c, s.blocks) for _ in range(s.modules[2])])
        self.incre_modules = nn.ModuleList([nn.Sequential(Bottleneck(c[k], s.head_planes[k])) for k in range(4)])
        self.downsamp_modules = nn.ModuleList()
        for k in range(3):
            outputs = s.head_planes[k + 1] * 4
            self.downsamp_modules.append(
                nn.Sequential(conv3x3(s.head_planes[k] * 4, outputs, 2, True), nn.BatchNorm2d(outputs), nn.ReLU())
            )
        self.final_layer = nn.Sequential(
            nn.Conv2d(s.head_planes[3] * 4, s.features, 1), nn.BatchNorm2d(s.features), nn.ReLU()
        )
        self.classifier = nn.Linear(s.features, 10)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        x = self.stage2([self.transition1[0](x), self.transition1[1](x)])
        x = self.stage3([x[0], x[1], self.transition2[2](x[1])])
        x = self.stage4([x[0], x[1], x[2], self.transition3[3](x[2])])
        y = self.incre_modules[0](x[0])
        for k in range(3):
            y = self.incre_modules[k + 1](x[k + 1]) + self.downsamp_modules[k](y)
        return self.final_layer(y)


def gelu(x):
    return 0.5 * x * (1.0 + torch.erf(x / 2.0**0.5))


class FusedLayerNorm(nn.Module):
    """Stands for apex's layer norm: same state, same arithmetic."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.normalized_shape, self.eps, self.elementwise_affine = torch.Size((width,)), 1e-12, True
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        mean = x.mean(-1, keepdim=True)
        variance = ((x - mean) ** 2).mean(-1, keepdim=True)
        return (x - mean) / torch.sqrt(variance + self.eps) * self.weight + self.bias


class BertSelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_attention_heads, self.attention_head_size = heads, width // heads
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        q, k, v = self.query(x), self.key(x), self.value(x)
        outputs = []
        for head in range(self.num_attention_heads):
            part = slice(head * self.attention_head_size, (head + 1) * self.attention_head_size)
            scores = q[..., part] @ k[..., part].transpose(1, 2) / self.attention_head_size**0.5
            outputs.append(self.dropout(torch.softmax(scores, -1)) @ v[..., part])
        return torch.cat(outputs, -1)


class BertSelfOutput(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.dense, self.LayerNorm, self.dropout = nn.Linear(inputs, width), FusedLayerNorm(width), nn.Dropout(0.1)

    def forward(self, x, shortcut):
        return self.LayerNorm(self.dropout(self.dense(x)) + shortcut)


class BertAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self = BertSelfAttention(width, heads)
        self.output = BertSelfOutput(width, width)

    def forward(self, x):
        return self.output(self.self(x), x)


class BertIntermediate(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.dense, self.intermediate_act_fn = nn.Linear(width, hidden), gelu

    def forward(self, x):
        return self.intermediate_act_fn(self.dense(x))


class BertLayer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = BertAttention(width, heads)
        self.intermediate = BertIntermediate(width, hidden)
        self.output = BertSelfOutput(hidden, width)

    def forward(self, x):
        x = self.attention(x)
        return self.output(self.intermediate(x), x)


class BertEncoder(nn.Module):
    def __init__(self, width: int, s: Spec) -> None:
        super().__init__()
        self.layer = nn.ModuleList([BertLayer(width, s.heads, s.hidden) for _ in range(s.layers)])

    def forward(self, x):
        for layer in self.layer:
            x = layer(x)
        return x


class BertEmbeddings(nn.Module):
    """Never used; its weights are in the file."""

    def __init__(self, width: int, s: Spec) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(s.vocabulary, width)
        self.position_embeddings = nn.Embedding(512, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.LayerNorm = FusedLayerNorm(width)


class BertPooler(nn.Module):
    """Never used; its weights are in the file."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)


class METRO_Encoder(nn.Module):
    def __init__(self, inputs: int, width: int, s: Spec) -> None:
        super().__init__()
        self.embeddings = BertEmbeddings(width, s)
        self.encoder = BertEncoder(width, s)
        self.pooler = BertPooler(width)
        self.position_embeddings = nn.Embedding(s.positions, width)
        self.img_embedding = nn.Linear(inputs, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        positions = self.position_embeddings(torch.arange(x.shape[1]))
        return self.encoder(self.dropout(self.img_embedding(x) + positions))


class METRO(nn.Module):
    def __init__(self, inputs: int, width: int, outputs: int, s: Spec) -> None:
        super().__init__()
        self.bert = METRO_Encoder(inputs, width, s)
        self.cls_head = nn.Linear(width, outputs)
        self.residual = nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.cls_head(self.bert(x)) + self.residual(x)


class FCBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fc_block = nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())

    def forward(self, x):
        return self.fc_block(x)


class FCResBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc_block = nn.Sequential(
            nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width), nn.BatchNorm1d(width)
        )

    def forward(self, x):
        return torch.relu(x + self.fc_block(x))


class ParamRegressor(nn.Module):
    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.regressor = nn.Sequential(
            FCBlock(inputs, width), FCResBlock(width), FCResBlock(width), nn.Linear(width, outputs)
        )

    def forward(self, x):
        return self.regressor(x)


class METRO_Decaf_Network_DeformBranch_Presence(nn.Module):
    def __init__(self, s: Spec) -> None:
        super().__init__()
        self.spec = {"keypoints": s.keypoints, "hand": s.hand, "head": s.head}
        self.backbone = HighResolutionNet(s)

        def encoder(inputs, widths, outs):
            blocks = [METRO(i, w, o, s) for i, w, o in zip(inputs, widths, outs, strict=True)]
            return nn.Sequential(OrderedDict((f"layer{k + 1}", block) for k, block in enumerate(blocks)))

        self.trans_encoder = encoder(s.inputs, s.widths, s.outs)
        self.feat_downsampler = nn.Linear(s.inputs[0], s.deform_inputs[0])
        self.deform_encoder = encoder(s.deform_inputs, s.deform_widths, s.deform_outs)
        full, middle, coarse = s.head
        self.hand_upsampling = nn.Linear(s.hand[1], s.hand[0])
        self.head_upsampling1, self.head_upsampling2 = nn.Linear(coarse, middle), nn.Linear(middle, full)
        self.head_deform_upsampling1 = nn.Linear(coarse, middle)
        self.head_deform_upsampling2 = nn.Linear(middle, full)
        self.hand_contact_upsampling = nn.Linear(s.hand[1], s.hand[0])
        self.head_contact_upsampling1 = nn.Linear(coarse, middle)
        self.head_contact_upsampling2 = nn.Linear(middle, full)
        self.hand_param_regressor = ParamRegressor(3 * s.hand[0], s.regressor, s.hand_parameters)
        self.face_param_regressor = ParamRegressor(3 * middle, s.regressor, s.face_parameters)
        self.conv_learn_tokens = nn.Conv1d(s.cells, s.tokens, 1)
        self.cam_param_fc = nn.Linear(3, 1)
        self.cam_param_fc2 = nn.Linear(s.tokens, s.camera)
        self.cam_param_fc3 = nn.Linear(s.camera, 3)
        first, second = s.presence
        self.contact_feat_extractor = nn.Sequential(
            nn.Linear(s.features, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 1)
        )
        self.contact_classifier = nn.Sequential(nn.Linear(s.cells, 1), nn.Sigmoid())

    def forward(self, images, hand_kps, head_kps, hand_sub, head_sub2, mvm_mask=None, gate=True):
        """26 tensors in the released order. Templates (B, n, 3) not centred; mvm_mask (B, T, 1), 1 keeps, or None."""
        features = self.backbone(images).flatten(2).transpose(1, 2)
        image_tokens = self.conv_learn_tokens(features)
        head_centre, hand_centre = head_sub2.mean(1, keepdim=True), hand_sub.mean(1, keepdim=True)
        template = torch.cat(
            [hand_kps - hand_centre, head_kps - head_centre, hand_sub - hand_centre, head_sub2 - head_centre], 1
        )
        tokens = torch.cat([template, image_tokens], 2)
        if mvm_mask is not None:
            tokens = tokens * mvm_mask + 0.01 * (1 - mvm_mask)
        points = self.trans_encoder(tokens)
        interaction = self.deform_encoder(self.feat_downsampler(tokens))
        a, b = self.spec["keypoints"]
        c = a + b + self.spec["hand"][1]

        def up(layer, x):
            return layer(x.transpose(1, 2)).transpose(1, 2)

        hand, head2 = points[:, a + b : c], points[:, c:]
        head1 = up(self.head_upsampling1, head2)
        head = up(self.head_upsampling2, head1)
        hand_full = up(self.hand_upsampling, hand)
        deform2, contact2 = interaction[:, c:, :3], interaction[:, c:, 3:]
        deform1 = up(self.head_deform_upsampling1, deform2)
        deform = up(self.head_deform_upsampling2, deform1)
        hand_contact_sub = interaction[:, a + b : c, 3:]
        hand_contact = up(self.hand_contact_upsampling, hand_contact_sub)
        contact1 = up(self.head_contact_upsampling1, contact2)
        contact = up(self.head_contact_upsampling2, contact1)
        camera = self.cam_param_fc3(self.cam_param_fc2(self.cam_param_fc(points).transpose(1, 2))).squeeze(1)
        presence = self.contact_classifier(self.contact_feat_extractor(features).squeeze(2))
        if gate:
            deform = deform * (presence > 0.5).float()[:, :, None]
        h = self.hand_param_regressor(hand_full.flatten(1))
        f = self.face_param_regressor(head1.flatten(1))
        s = torch.sigmoid
        return (
            *(camera, points[:, :a], points[:, a : a + b], hand, hand_full, head2, head1, head),
            *(s(hand_contact_sub), s(hand_contact), s(contact2), s(contact1), s(contact)),
            *(h[:, 0:10], h[:, 10:13], h[:, 13:16], h[:, 16:]),
            *(f[:, 0:100], f[:, 100:150], f[:, 150:156], f[:, 156:159], f[:, 159:162]),
            *(deform2, deform1, deform, presence),
        )


NETWORK = METRO_Decaf_Network_DeformBranch_Presence
_PATHS = {
    "metro.modeling.bert.modeling_metro": (NETWORK, METRO_Encoder, METRO),
    "metro.modeling.bert.modeling_bert": (
        *(BertEmbeddings, BertEncoder, BertLayer, BertAttention, BertSelfAttention, BertSelfOutput),
        *(BertIntermediate, BertPooler, gelu),
    ),
    "metro.modeling.bert.param_regressor": (FCBlock, FCResBlock, ParamRegressor),
    "metro.modeling.hrnet.hrnet_cls_net_featmaps": (
        *(HighResolutionNet, HighResolutionModule, BasicBlock, Bottleneck),
    ),
    "apex.normalization.fused_layer_norm": (FusedLayerNorm,),
    "yacs.config": (CfgNode,),
}


@contextmanager
def released_class_paths() -> Iterator[None]:
    """While open, the classes above live at the module paths the release pickles them under."""
    mine = {name: sys.modules.get(name) for path in _PATHS for name in _parents(path)}
    homes = {item: item.__module__ for items in _PATHS.values() for item in items}
    try:
        for path, items in _PATHS.items():
            for name in _parents(path):
                sys.modules[name] = sys.modules.get(name) or types.ModuleType(name)
            for item in items:
                item.__module__ = path
                setattr(sys.modules[path], item.__name__, item)
        yield
    finally:
        for item, home in homes.items():
            item.__module__ = home
        for name, module in mine.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _parents(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def randomise(network: nn.Module, seed: int) -> nn.Module:
    """Weights and batch statistics that keep every signal alive, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
                value.uniform_(0.7, 1.3, generator=generator)
            elif value.is_floating_point() and value.ndim == 1:
                value.normal_(0, 0.1, generator=generator)
            elif value.is_floating_point():
                value.normal_(0, (1.2 / value[0].numel()) ** 0.5, generator=generator)
    return network.eval()


def save_released(network: nn.Module, path: Path) -> Path:
    """Write the whole module as the release does: torch.save of the object."""
    with released_class_paths():
        torch.save(network, path)
    return path
