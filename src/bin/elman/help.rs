//! What `--help` says.

pub(crate) const ALL: &str = "\
elman: recurrent networks of Keras, PyTorch, ONNX, RTNeural and Neural Amp Modeler, on CPUs

Usage: elman COMMAND …

  inspect MODEL                 what a model is: layers, shapes, parameters, cost
  convert IN OUT                a model into another format
  run MODEL INPUT               what a model computes
  bench MODEL                   how fast it is on this machine
  check MODEL INPUT EXPECTED    whether it computes what another program computed

A model is a .keras, .h5, .pt, .safetensors, .onnx, .json (RTNeural) or .nam file; what it is, its content says, not its
name. `elman COMMAND --help` says more, with examples.

Try these, in the directory of elman's sources:
  elman inspect ffi-examples/data/sentiment.safetensors
  echo 'A warm, funny and moving film.' |
    elman run ffi-examples/data/sentiment.safetensors - --vocabulary ffi-examples/data/vocabulary.txt --steps 80
  elman bench ffi-examples/data/sentiment.safetensors

Answers go to standard output; with --json as JSON, in which a NaN or an infinity is null. What goes wrong is one line on
standard error.

Exit codes:
  0  done; for check: the same
  1  check: different
  2  the command line is wrong
  3  a file cannot be read or written, is damaged, or does not fit the model
  4  the model asks for something that elman does not carry out: the message names it
  5  anything else, as memory

ELMAN_ISA=portable|avx2|avx512|neon forces an instruction set.
";

/// How a state dict is to be read.
macro_rules! torch {
    () => {
        "
Of PyTorch a file holds the weights alone. What stands around them, with what is taken if nothing is said:
  --prefix NAME         only tensors whose names begin so            all
  --take WHAT           what the topmost recurrent layer hands on: sequence, last-step (out[:, -1]),
                        last-state (h_n)                             last-step
  --activation NAME     nn.RNN's nonlinearity                        tanh
  --between NAME        what stands between two linear layers        none is allowed
  --last NAME           what stands behind the last layer            linear
"
    };
}

/// What `run` and `check` read.
macro_rules! input {
    () => {
        "
INPUT, or - for standard input, is
- a .npy array: [batch, steps, features], or of one row [steps, features]; of a model that reads tokens whole numbers
  [batch, steps] or [steps];
- or text. One line is one step, numbers with commas or spaces between them, and an empty line ends a row. Where the
  first line has no numbers, it is a header. For a model that reads tokens one line is one row of ids, or of words:
  --vocabulary FILE     line i of FILE, counted from 0, is the word of token i. Lines become words in lower case; a
                        character that is in no word of FILE ends a word; other words are <unknown>, <unk> or [UNK]
  --steps N             exactly N steps a row: token 0 in front of shorter ones, and of longer ones the last N
  --threads N           threads, 0 for one a processor                1
"
    };
}

pub(crate) const INSPECT: &str = concat!(
    "\
elman inspect MODEL [--json]

Shows whose file it is, each layer with its output shape and parameters, what goes in and out, and what a step costs:
two floating-point operations a multiply-add, activations not counted.

  elman inspect model.keras
  elman inspect weights.pt --prefix encoder. --take sequence
  elman inspect --json model.onnx | jq .parameters
",
    torch!()
);

pub(crate) const CONVERT: &str = concat!(
    "\
elman convert IN OUT [--to FORMAT] [--json]

Reads a model and writes it in another format. The name of OUT says which, unless --to does:

  elman                 .safetensors      elman's own; it says everything
  torch                 .pt               a state dict of PyTorch, for load_state_dict of a list of one module a layer;
                                          as a safetensors file where the name ends so
  onnx                  .onnx             for ONNX Runtime and others
  keras-weights         .weights.h5       for load_weights of a Keras 3 model of the same layers

What a format cannot say ends with exit code 4, and the layer, the attribute and its value.

  elman convert model.keras model.safetensors
  elman convert model.h5 model.onnx
  elman convert weights.pt model.elman --to elman --last sigmoid
",
    torch!()
);

pub(crate) const RUN: &str = concat!(
    "\
elman run MODEL INPUT [--output FILE] [--json]

Gives what the model computes: one line a row, or one line a step and an empty line between rows, numbers with commas.
--output (-o) writes to a file instead, an array if its name ends in .npy. With --json it is lists inside a list.

  elman run model.onnx x.npy -o y.npy
  seq 0 0.1 10 | elman run sine.pt - --take sequence
  elman run sentiment.safetensors reviews.txt --vocabulary vocabulary.txt --steps 80
",
    input!(),
    torch!()
);

pub(crate) const BENCH: &str = concat!(
    "\
elman bench MODEL [--json]

Times the model on this machine, with random input:
- the latency of one step of one row through a stream, its state kept between steps; of a model that needs the future (a
  bidirectional one), of one row of --steps steps;
- rows a second by batch and threads, and their share of the peak: of the fused multiply-adds that as many cores do when
  they do nothing else, measured in turn with the model. Two threads of one core share its peak.
On a machine that does other things too the figures are too low, those of threads above all. In JSON times are seconds.

  --steps N             steps a row                                   100
  --batch LIST          rows a call                                   1,8,32
  --threads LIST        threads, 0 for one a processor                1, and one a processor
  --seconds S           time for each figure                          0.5

  elman bench model.keras
  elman bench model.onnx --steps 48 --batch 1,64 --threads 1,2 --json
",
    torch!()
);

pub(crate) const CHECK: &str = concat!(
    "\
elman check MODEL INPUT EXPECTED [--tolerance T] [--json]

Runs the model and compares with what another program computed from the same input, a .npy array or numbers as text in
the order of the output. Says the largest difference and where it is; the exit code is 1 where it is larger than the
tolerance.

  --tolerance T         the largest difference that is none, relative to expected numbers above 1     1e-5

Two NaNs are the same, and so are two infinities of one sign.

  elman check model.onnx x.npy y.npy
  elman check weights.pt x.csv y.csv --take sequence --tolerance 1e-6
",
    input!(),
    torch!()
);
