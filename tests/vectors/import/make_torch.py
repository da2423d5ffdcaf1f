#!/usr/bin/env python3
"""PyTorch's state dicts, as torch.save writes them (today's zip, the old way, re-zipped with deflate) and as safetensors,
with what PyTorch computes.

    python3 make_torch.py           writes torch/* and torch.safetensors beside this file

Versions of the committed files: torch 2.15.0, safetensors 0.8.0, numpy 2.4.6.
"""

import os
import zipfile

import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_state
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "torch")
torch.manual_seed(13)
rng = np.random.default_rng(13)
arrays = {}


class Model(nn.Module):
    def __init__(self, kind, take="last", layers=1, both=False, vocabulary=0, head=True, **options):
        super().__init__()
        if vocabulary:
            self.embedding = nn.Embedding(vocabulary, 5)
        self.rnn = getattr(nn, kind)(5, 6, layers, bidirectional=both, batch_first=True, **options)
        if head:
            self.fc = nn.Linear(12 if both else 6, 3)
        self.take, self.both = take, both

    def forward(self, x):
        if hasattr(self, "embedding"):
            x = self.embedding(x)
        y, h = self.rnn(x)
        h = h[0] if isinstance(h, tuple) else h
        if self.take == "last":
            y = y[:, -1]
        elif self.take == "state":
            y = torch.cat((h[-2], h[-1]), dim=1) if self.both else h[-1]
        return self.fc(y) if hasattr(self, "fc") else y


def path(name):
    return os.path.join(OUT, name)


def keep(name, model):
    model.eval()
    ids = hasattr(model, "embedding")
    x = torch.from_numpy(rng.integers(0, 11, (3, 7)) if ids else rng.uniform(-1, 1, (3, 7, 5)).astype(np.float32))
    with torch.no_grad():
        y = model(x)
    arrays[f"{name}.{'ids' if ids else 'x'}"] = x.numpy().astype(np.int32 if ids else np.float32)
    arrays[f"{name}.y"] = np.ascontiguousarray(y.float().numpy())


def deflated(source, target):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            fixed = zipfile.ZipInfo(info.filename, (1980, 1, 1, 0, 0, 0))
            fixed.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(fixed, old.read(info))


def main():
    os.makedirs(OUT, exist_ok=True)
    for kind in ("RNN", "LSTM", "GRU"):
        lower = kind.lower()
        for name, model in {
            f"{lower}_last": Model(kind, vocabulary=11),
            f"{lower}_sequence_both": Model(kind, "sequence", 2, True),
            f"{lower}_state_both": Model(kind, "state", 2, True, bias=False),
            f"{lower}_last_both": Model(kind, "last", 2, True),
            f"{lower}_bare": Model(kind, "sequence", head=False),
        }.items():
            keep(name, model)
            state = model.rnn.state_dict() if name.endswith("bare") else model.state_dict()
            torch.save(state, path(name + ".pt"))
            save_state(state, path(name + ".safetensors"))
        torch.save(Model(kind).state_dict(), path(f"{lower}_old.pt"), _use_new_zipfile_serialization=False)

    # The same weights in all forms.
    model = Model("RNN", vocabulary=11)
    keep("forms", model)
    state = model.state_dict()
    torch.save(state, path("forms.pt"))
    torch.save(state, path("forms_old.pt"), _use_new_zipfile_serialization=False)
    deflated(path("forms.pt"), path("forms_deflated.pt"))
    checkpoint = {"epoch": 3, "loss": 0.5, "state_dict": state, "optimizer": torch.optim.Adam(model.parameters()).state_dict()}
    torch.save(checkpoint, path("forms_checkpoint.pt"))
    torch.save({"encoder": {"deep": state}, "other": {"conv": torch.zeros(2, 3, 4)}}, path("forms_prefix.pt"))
    # Views into one storage, transposed and with an offset, and parameters.
    backing = torch.zeros(400)
    views = {}
    at = 7
    for name, value in state.items():
        shape = value.t().shape
        view = backing[at : at + value.numel()].view(shape)
        view.copy_(value.t())
        views[name] = nn.Parameter(view.t())
        at += value.numel()
    torch.save(views, path("forms_views.pt"))

    halves = Model("RNN")
    for dtype, name in ((torch.float16, "half"), (torch.bfloat16, "bfloat16"), (torch.float64, "double")):
        narrow = {key: value.to(dtype) for key, value in halves.state_dict().items()}
        wide = Model("RNN")
        wide.load_state_dict({key: value.float() for key, value in narrow.items()})
        keep(name, wide)
        torch.save(narrow, path(name + ".pt"))
        save_state(narrow, path(name + ".safetensors"))

    class Head(Model):
        def __init__(self):
            super().__init__("RNN", nonlinearity="relu")
            self.fc = nn.Linear(6, 4)
            self.normal = nn.BatchNorm1d(4)
            self.normal.running_mean.uniform_(-1, 1)
            self.normal.running_var.uniform_(0.5, 2)
            self.out = nn.Linear(4, 2)

        def forward(self, x):
            y = torch.relu(self.fc(self.rnn(x)[0][:, -1]))
            return torch.softmax(self.out(self.normal(y)), dim=-1) if self.normalised else torch.softmax(self.out(y), dim=-1)

    head = Head()
    head.normalised = False
    keep("head", head)
    torch.save({k: v for k, v in head.state_dict().items() if "normal" not in k}, path("head.pt"))

    class Normal(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(5, 6, batch_first=True)
            self.normal = nn.BatchNorm1d(6)
            self.normal.running_mean.uniform_(-1, 1)
            self.normal.running_var.uniform_(0.5, 2)
            self.fc = nn.Linear(6, 2)

        def forward(self, x):
            return self.fc(self.normal(self.rnn(x)[0][:, -1]))

    normal = Normal()
    keep("normal", normal)
    torch.save(normal.state_dict(), path("normal.pt"))
    save_state(normal.state_dict(), path("normal.safetensors"))

    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.RNNCell(5, 6)

        def forward(self, x):
            h = torch.zeros(x.shape[0], 6)
            for step in x.unbind(1):
                h = self.cell(step, h)
            return h

    cell = Cell()
    keep("cell", cell)
    torch.save(cell.state_dict(), path("cell.pt"))

    # Refused.
    torch.save(nn.LSTM(5, 6, proj_size=3).state_dict(), path("refused_projection.pt"))
    torch.save(nn.Sequential(nn.Conv1d(5, 6, 3)).state_dict(), path("refused_conv.pt"))
    torch.save(nn.RNN(5, 6), path("refused_module.pt"))
    two = nn.ModuleDict({"first": nn.Linear(4, 4), "other": nn.Linear(4, 4)})
    save_state(two.state_dict(), path("refused_order.safetensors"))
    torch.save({"rnn." + k: v for k, v in nn.RNN(5, 6).state_dict().items()} | {"fc.weight": torch.zeros(3, 7)}, path("refused_fit.pt"))
    torch.save({"weight_ih_l0": torch.zeros(6, 5).to_sparse(), "weight_hh_l0": torch.zeros(6, 6)}, path("refused_sparse.pt"))
    save_file(arrays, os.path.join(HERE, "torch.safetensors"))


if __name__ == "__main__":
    main()
