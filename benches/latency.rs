//! What one call of a stream costs: `cargo bench --bench latency`.
//!
//! The cases are small on purpose: what is timed beside the products is the way into the library and out again. `audio`
//! is one sample of a 48 kHz stream through the network of `ffi-examples/audio.c`, and the same in blocks as an audio host
//! hands them over, whose figure is by sample; `words` is one token of a stream whose embedding masks.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use elman::{Activation, Dense, Embedding, Sequential, SimpleRnn, Stream};

fn audio(units: usize) -> Sequential {
    let model = Sequential::new(1).add(SimpleRnn::new(units).return_sequences(true)).add(Dense::new(1));
    model.build(1).expect("the model is right")
}

fn streams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stream");
    for units in [20, 64] {
        let model = audio(units);
        for block in [1, 32, 512] {
            let mut stream = Stream::new(&model, 1).expect("a stream can be made");
            let x: Vec<f32> = (0..block).map(|i| (i as f32 * 0.06).sin()).collect();
            let mut y = vec![0.0; block];
            group.throughput(Throughput::Elements(block as u64));
            group.bench_function(format!("audio/1-{units}-1/block {block}"), |bencher| {
                bencher.iter(|| stream.run(black_box(&x), block, &mut y));
            });
        }
    }
    for batch in [1, 32] {
        let layer = SimpleRnn::new(64).return_sequences(true);
        let model = Sequential::new(64).add(layer).build(1).expect("the model is right");
        let mut stream = Stream::new(&model, batch).expect("a stream can be made");
        let x = vec![0.25; batch * 64];
        let mut y = vec![0.0; batch * 64];
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("step/64-64/batch {batch}"), |bencher| {
            bencher.iter(|| stream.run(black_box(&x), 1, &mut y));
        });
    }
    let model = Sequential::new(1)
        .add(Embedding::new(1000, 100).mask_zero(true))
        .add(SimpleRnn::new(64))
        .add(Dense::new(1).activation(Activation::Sigmoid));
    let model = model.build(1).expect("the model is right");
    let mut stream = Stream::new(&model, 1).expect("a stream can be made");
    let mut y = [0.0];
    group.throughput(Throughput::Elements(1));
    for (name, id) in [("words/100-64-1/word", 7), ("words/100-64-1/masked", 0)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| stream.run_tokens(black_box(&[id]), 1, &mut y));
        });
    }
    group.finish();
}

criterion_group! {
    name = latency;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = streams
}
criterion_main!(latency);
