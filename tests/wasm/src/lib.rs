//! A network of every layer that predicts, and takes a step of training, wherever this is compiled for.

use elman::{
    Activation, Dense, Examples, Loss, Optimizer, RunOptions, Sequential, SimpleRnn, Stream, Trainer,
    TrainerConfig,
};

/// What the network gives before a step of training, after it, from a stream, and after a save and a load.
pub fn results() -> Result<Vec<f32>, elman::Error> {
    let (batch, steps, features) = (3, 17, 5);
    let mut net = Sequential::new(features)
        .add(SimpleRnn::new(25).return_sequences(true))
        .add(SimpleRnn::new(16))
        .add(Dense::new(2).activation(Activation::Sigmoid))
        .build(7)?;
    let x: Vec<f32> = (0..batch * steps * features).map(|i| (i % 13) as f32 / 13.0 - 0.5).collect();
    let mut values = net.predict(&x, batch, steps)?;
    let mut trainer = Trainer::new(&net, TrainerConfig::new(Optimizer::adam(), Loss::MeanSquaredError))?;
    values.push(trainer.step(
        &mut net,
        Examples::floats(&x, batch, steps, &[0.5; 6]),
        RunOptions::default(),
    )?);
    let net = Sequential::load_bytes(&net.to_bytes()?)?;
    values.extend(net.predict(&x, batch, steps)?);
    let mut stream = Stream::new(&net, 1)?;
    let mut y = [0.0; 2];
    stream.run(&x[..steps * features], steps, &mut y)?;
    values.extend(y);
    Ok(values)
}

/// The address of [`results`], which stay where they are.
#[unsafe(no_mangle)]
pub extern "C" fn scores() -> *const f32 {
    kept().as_ptr()
}

/// How many there are.
#[unsafe(no_mangle)]
pub extern "C" fn scores_len() -> usize {
    kept().len()
}

fn kept() -> &'static [f32] {
    static KEPT: std::sync::OnceLock<Vec<f32>> = std::sync::OnceLock::new();
    KEPT.get_or_init(|| results().unwrap_or_default())
}
