//! Sizes that no user has and somebody gives: a thousand layers, 2^20 units, arrays of more than 2^31 numbers.

mod common;

use elman::{Dense, Error, Gru, Lstm, Sequential, SimpleRnn, Stream};

const LAYERS: usize = 1000;

/// Recurrent and fully connected in turn.
fn tower() -> Sequential {
    let mut model = Sequential::new(2);
    for i in 0..LAYERS {
        model = match i % 4 {
            0 => model.add(SimpleRnn::new(2).return_sequences(true)),
            1 => model.add(Lstm::new(2).return_sequences(true)),
            2 => model.add(Gru::new(2).return_sequences(true)),
            _ => model.add(Dense::new(2)),
        };
    }
    model.build(1).expect("a valid model")
}

#[test]
fn a_thousand_layers_run_stream_and_go_through_a_file() {
    let model = tower();
    let x: Vec<f32> = (0..3 * 4 * 2).map(|i| i as f32 / 12.0 - 1.0).collect();
    let y = model.predict(&x, 3, 4).expect("right sizes");
    assert!(y.len() == 24 && y.iter().all(|y| y.is_finite()));

    let bytes = model.to_bytes().expect("a built model");
    let loaded = Sequential::load_bytes(&bytes).expect("its own file");
    assert_eq!(loaded.predict(&x, 3, 4).expect("right sizes"), y);

    let mut stream = Stream::new(&model, 1).expect("it can stream");
    for (x, expected) in x[..8].chunks(2).zip(y[..8].chunks(2)) {
        let mut y = [0.0; 2];
        stream.run(x, 1, &mut y).expect("right sizes");
        assert_eq!(y, expected);
    }
}

/// By arithmetic: a system that promises memory which it does not have would only be killed later.
#[test]
fn weights_that_no_memory_has_are_refused_without_asking_for_it() {
    let units = 1 << 20;
    let refused = |model: Sequential| match model.build(1) {
        Err(Error::InvalidArgument(message)) => {
            assert!(message.contains("1048576") && message.contains("2^38"), "{message}");
        }
        other => panic!("{:?}", other.map(|_| "built")),
    };
    refused(Sequential::new(1).add(SimpleRnn::new(units)));
    refused(Sequential::new(1).add(Lstm::new(units)));
    refused(Sequential::new(1).add(Gru::new(units)));
    refused(Sequential::new(units).add(Dense::new(units)));
}

/// Bytes of this process's mappings for which huge pages were asked, as Linux tells them; nothing where it knows none.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn bytes_in_huge_pages() -> Option<usize> {
    std::fs::metadata("/sys/kernel/mm/transparent_hugepage").ok()?;
    let maps = std::fs::read_to_string("/proc/self/smaps").ok()?;
    let (mut kilobytes, mut all) = (0, 0);
    for line in maps.lines() {
        if let Some(size) = line.strip_prefix("Size:") {
            kilobytes = size.trim().trim_end_matches(" kB").parse::<usize>().expect("a size");
        }
        if line.strip_prefix("VmFlags:").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hg")) {
            all += kilobytes;
        }
    }
    Some(all << 10)
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn weights_of_a_large_layer_lie_in_huge_pages() {
    let model = Sequential::new(1024).add(SimpleRnn::new(1024)).build(1).expect("a valid model");
    match bytes_in_huge_pages() {
        // Packed, the kernel and the recurrent kernel have 4 MiB each.
        Some(bytes) => assert!(bytes >= 8 << 20, "{bytes} bytes in huge pages"),
        None => common::backends::report("large: huge pages SKIPPED: this system knows none"),
    }
    drop(model);
}

/// 8.6 GB of input, and half a minute: `cargo test --release --test large -- --ignored`.
#[test]
#[ignore = "8.6 GB"]
fn more_than_two_to_the_31_numbers() {
    let (batch, steps) = (1 << 16, (1 << 15) + 1);
    let model = Sequential::new(1).add(SimpleRnn::new(3)).build(1).expect("a valid model");
    let mut x = vec![0.0_f32; batch * steps];
    // Row by row another wave.
    for (row, x) in x.chunks_exact_mut(steps).enumerate() {
        for (step, x) in x.iter_mut().enumerate() {
            *x = ((step * 31 + row * 7) % 64) as f32 / 32.0 - 1.0;
        }
    }
    let y = model.predict(&x, batch, steps).expect("right sizes");
    assert_eq!(y.len(), batch * 3);
    for row in [0, 1, batch / 2, batch - 2, batch - 1] {
        let alone = model.predict(&x[row * steps..][..steps], 1, steps).expect("right sizes");
        assert_eq!(y[row * 3..][..3], alone, "row {row}");
    }
}
