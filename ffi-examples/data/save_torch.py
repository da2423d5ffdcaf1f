# Makes lstm.pt, and says what PyTorch computes with it. The committed file: torch 2.15.0.
import torch
from torch import nn

torch.manual_seed(1)
model = nn.ModuleDict({"lstm": nn.LSTM(3, 8, batch_first=True), "head": nn.Linear(8, 2)})
torch.save(model.state_dict(), "lstm.pt")
x = torch.arange(15.0).reshape(1, 5, 3) / 15
out, _ = model["lstm"](x)
print("lstm.pt", *model["head"](out[:, -1])[0].tolist())
