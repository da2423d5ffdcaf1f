//! Training through the C ABI has the bits of training in Rust, and its mistakes have their statuses.

use std::ptr::{null, null_mut};

use elman::ffi::*;
use elman::{
    Activation, Dense, Examples, Loss, Optimizer, RunOptions, Sequential, SimpleRnn, Tape, Trainer,
    TrainerConfig, Weight,
};

const BATCH: usize = 3;
const STEPS: usize = 5;

fn x() -> Vec<f32> {
    (0..BATCH * STEPS * 4).map(|i| (i as f32 * 0.37).sin()).collect()
}

fn model() -> Sequential {
    let rnn = SimpleRnn::new(6).dropout(0.5);
    Sequential::new(4).add(rnn).add(Dense::new(1).activation(Activation::Sigmoid)).build(7).unwrap()
}

/// The same network by C's functions.
fn network() -> *mut elman_sequential {
    let mut network = null_mut();
    // SAFETY: every pointer is to a live local of the right type.
    unsafe {
        let mut config = std::mem::zeroed::<elman_simple_rnn_config>();
        let status = elman_simple_rnn_config_init(&mut config, size_of_val(&config), 6);
        assert_eq!(status, ELMAN_STATUS_OK);
        config.dropout = 0.5;
        assert_eq!(elman_sequential_new(4, &mut network), ELMAN_STATUS_OK);
        assert_eq!(elman_sequential_add_simple_rnn(network, &config), ELMAN_STATUS_OK);
        assert_eq!(elman_sequential_add_dense(network, 1, ELMAN_ACTIVATION_SIGMOID), ELMAN_STATUS_OK);
        assert_eq!(elman_sequential_build(network, 7), ELMAN_STATUS_OK);
    }
    network
}

#[test]
fn a_tape_gives_rust_s_gradients() {
    let x = x();
    let mut y = [0.0; BATCH];
    let mut tape = Tape::new(&model(), BATCH, STEPS).unwrap();
    tape.forward(&x, BATCH, STEPS, RunOptions::default(), true, 9, &mut y).unwrap();
    let mut dx = vec![0.0; x.len()];
    tape.backward(&y, Some(&mut dx)).unwrap();
    let mut norms = [0.0; STEPS];
    tape.gradient_norms(0, &mut norms).unwrap();

    let network = network();
    // SAFETY: every array is as long as its length says, handles are live.
    unsafe {
        let mut c = null_mut();
        assert_eq!(elman_tape_new(network, BATCH, STEPS, &mut c), ELMAN_STATUS_OK);
        let mut count = 0;
        assert_eq!(elman_sequential_parameter_count(network, &mut count), ELMAN_STATUS_OK);
        assert_eq!(count, tape.gradients().unwrap().len());
        let mut parameters = vec![0.0; count];
        let status = elman_sequential_get_parameters(network, parameters.as_mut_ptr(), count);
        assert_eq!(status, ELMAN_STATUS_OK);
        let status = elman_sequential_set_parameters(network, parameters.as_ptr(), count - 1);
        assert_eq!(status, ELMAN_STATUS_LENGTH_MISMATCH);
        let status = elman_sequential_set_parameters(network, parameters.as_ptr(), count);
        assert_eq!(status, ELMAN_STATUS_OK);
        // The tape keeps the weights alive.
        elman_sequential_free(network);

        let mut c_y = [0.0; BATCH];
        let status = elman_tape_backward(c, y.as_ptr(), BATCH, null_mut(), 0);
        assert_eq!(status, ELMAN_STATUS_INVALID_ARGUMENT, "no forward pass yet");
        let training = elman_bool(1);
        let status = elman_tape_forward(
            c,
            x.as_ptr(),
            x.len(),
            BATCH,
            STEPS,
            null(),
            training,
            9,
            c_y.as_mut_ptr(),
            BATCH,
        );
        assert_eq!(status, ELMAN_STATUS_OK);
        assert_eq!(c_y, y);
        let mut c_dx = vec![0.0; x.len()];
        let status = elman_tape_backward(c, c_y.as_ptr(), BATCH, c_dx.as_mut_ptr(), c_dx.len());
        assert_eq!(status, ELMAN_STATUS_OK);
        assert_eq!(c_dx, dx);
        let mut gradients = vec![0.0; count];
        assert_eq!(elman_tape_get_gradients(c, gradients.as_mut_ptr(), count), ELMAN_STATUS_OK);
        assert_eq!(gradients, tape.gradients().unwrap());
        let mut one = vec![0.0; 36];
        let which = ELMAN_WEIGHT_RECURRENT_KERNEL;
        assert_eq!(elman_tape_get_gradient(c, 0, which, one.as_mut_ptr(), 36), ELMAN_STATUS_OK);
        assert_eq!(one, tape.gradient(0, Weight::RecurrentKernel).unwrap());
        let mut c_norms = [0.0; STEPS];
        let status = elman_tape_gradient_norms(c, 0, c_norms.as_mut_ptr(), STEPS);
        assert_eq!(status, ELMAN_STATUS_OK);
        assert_eq!(c_norms, norms);
        let mut initial = vec![0.0; BATCH * 6];
        let status = elman_tape_get_initial_state_gradient(c, initial.as_mut_ptr(), initial.len());
        assert_eq!(status, ELMAN_STATUS_OK);
        assert_eq!(initial, tape.initial_state_gradient().unwrap());
        let mut norm = 0.0;
        assert_eq!(elman_tape_clip_by_global_norm(c, 1e-3, &mut norm), ELMAN_STATUS_OK);
        assert_eq!(norm, tape.clip_by_global_norm(1e-3).unwrap());
        elman_tape_free(c);
        elman_tape_free(null_mut());
    }
}

#[test]
fn a_trainer_takes_rust_s_steps() {
    let x = x();
    let target = [1.0, 0.0, 1.0];
    let mut rust = model();
    let loss = Loss::BinaryCrossentropy { from_logits: false };
    let config = TrainerConfig { seed: 5, ..TrainerConfig::new(Optimizer::adam(), loss) };
    let mut trainer = Trainer::new(&rust, config).unwrap();
    let network = network();
    // SAFETY: every array is as long as its length says, handles are live.
    unsafe {
        let mut config = std::mem::zeroed::<elman_trainer_config>();
        let size = size_of_val(&config);
        assert_eq!(elman_trainer_config_init(&mut config, 4), ELMAN_STATUS_INVALID_ARGUMENT);
        assert_eq!(elman_trainer_config_init(&mut config, size), ELMAN_STATUS_OK);
        config.loss = ELMAN_LOSS_BINARY_CROSSENTROPY;
        config.seed = 5;
        let mut c = null_mut();
        let wrong = elman_trainer_config { optimizer: elman_optimizer(77), ..config };
        assert_eq!(elman_trainer_new(network, &wrong, &mut c), ELMAN_STATUS_INVALID_ARGUMENT);
        assert_eq!(elman_trainer_new(network, &config, &mut c), ELMAN_STATUS_OK);
        let step = |x: &[f32], loss: &mut f32| {
            elman_trainer_step(c, x.as_ptr(), x.len(), BATCH, STEPS, target.as_ptr(), BATCH, null(), loss)
        };
        let mut loss = 0.0;
        for _ in 0..3 {
            assert_eq!(step(&x, &mut loss), ELMAN_STATUS_OK);
            let examples = Examples::floats(&x, BATCH, STEPS, &target);
            assert_eq!(loss, trainer.step(&mut rust, examples, RunOptions::default()).unwrap());
        }
        let mut parameters = vec![0.0; rust.parameter_count().unwrap()];
        let mut c_parameters = parameters.clone();
        rust.get_parameters(&mut parameters).unwrap();
        let read = |to: &mut [f32]| {
            assert_eq!(elman_sequential_get_parameters(network, to.as_mut_ptr(), to.len()), ELMAN_STATUS_OK);
        };
        read(&mut c_parameters);
        assert_eq!(c_parameters, parameters);
        let mut bad = x.clone();
        bad[3] = f32::NAN;
        assert_eq!(step(&bad, &mut loss), ELMAN_STATUS_NOT_FINITE);
        assert_eq!(step(&x[1..], &mut loss), ELMAN_STATUS_LENGTH_MISMATCH);
        read(&mut c_parameters);
        assert_eq!(c_parameters, parameters);
        elman_trainer_free(c);
        elman_trainer_free(null_mut());
        elman_sequential_free(network);
    }
}
