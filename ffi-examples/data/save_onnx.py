# Makes gru.onnx, and says what PyTorch computes with it. The committed file: torch 2.15.0, onnxscript 0.7.2, and the
# nodes' metadata, which name files of the machine, taken out.
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.gru(x)[0][:, -1])


torch.manual_seed(1)
model = Model().eval()
x = torch.arange(15.0).reshape(1, 5, 3) / 15
torch.onnx.export(model, (x,), "gru.onnx", external_data=False)
print("gru.onnx", *model(x)[0].tolist())
