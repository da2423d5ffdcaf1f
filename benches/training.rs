//! One forward and one backward pass on one thread: the cases of the speed table. `cargo bench --bench training`.

#![allow(missing_docs, reason = "criterion's macro makes a public function without documentation")]

use criterion::{Criterion, criterion_group, criterion_main};
use elman::{RunOptions, Sequential, SimpleRnn, Tape};

/// Name, and batch, steps, features, units, layers.
const CASES: [(&str, [usize; 5]); 4] = [
    ("seed", [8, 80, 100, 64, 2]),
    ("b1small", [1, 256, 64, 64, 1]),
    ("mid", [32, 100, 256, 256, 2]),
    ("wide", [64, 128, 1024, 1024, 1]),
];

fn training(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward + backward");
    group.sample_size(10);
    for (name, [batch, steps, features, units, layers]) in CASES {
        let mut net = Sequential::new(features);
        for layer in 0..layers {
            net = net.add(SimpleRnn::new(units).return_sequences(layer + 1 < layers));
        }
        let net = net.build(1).expect("the network is valid");
        let x: Vec<f32> = (0..batch * steps * features).map(|i| (i as f32 * 0.37).sin()).collect();
        let mut y = vec![0.0; batch * units];
        let mut tape = Tape::new(&net, batch, steps).expect("there is memory");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let options = RunOptions::default();
                tape.forward(&x, batch, steps, options, true, 0, &mut y).expect("the call is right");
                tape.backward(&y, None).expect("a forward pass came before");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, training);
criterion_main!(benches);
