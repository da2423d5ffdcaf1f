//! Wrong input through the C ABI of tapes and trainers: each mistake has its status and a sentence with the numbers, and
//! changes nothing.

mod common;

use std::ptr::{null, null_mut};

use common::c::{UNTOUCHED, fails, last_error, misaligned, ok, trainer_config as config, untouched};
use elman::ffi::*;

const BATCH: usize = 2;
const STEPS: usize = 3;
const FEATURES: usize = 2;
const UNITS: usize = 4;
const CLASSES: usize = 3;

const X: usize = BATCH * STEPS * FEATURES;
const Y: usize = BATCH * CLASSES;

/// A recurrent layer of 4 and 3 classes above it, on floats or on tokens; its tape and its trainer.
struct Training {
    network: *mut elman_sequential,
    tape: *mut elman_tape,
    trainer: *mut elman_trainer,
}

impl Training {
    fn new(tokens: bool, config: elman_trainer_config) -> Self {
        let (mut network, mut tape, mut trainer) = (null_mut(), null_mut(), null_mut());
        let mut layer = std::mem::MaybeUninit::uninit();
        // SAFETY: places for the handles and the struct, which is filled on success; live handles.
        unsafe {
            ok(elman_simple_rnn_config_init(layer.as_mut_ptr(), size_of::<elman_simple_rnn_config>(), UNITS));
            ok(elman_sequential_new(if tokens { 1 } else { FEATURES }, &mut network));
            if tokens {
                ok(elman_sequential_add_embedding(network, 9, FEATURES, elman_bool(0)));
            }
            ok(elman_sequential_add_simple_rnn(network, layer.as_ptr()));
            ok(elman_sequential_add_dense(network, CLASSES, ELMAN_ACTIVATION_SOFTMAX));
            ok(elman_sequential_build(network, 1));
            ok(elman_tape_new(network, BATCH, STEPS, &mut tape));
            ok(elman_trainer_new(network, &config, &mut trainer));
        }
        Self { network, tape, trainer }
    }

    fn floats() -> Self {
        Self::new(false, config())
    }

    fn parameters(&self) -> Vec<f32> {
        let mut count = 0;
        // SAFETY: a live handle; as many floats as it says.
        unsafe {
            ok(elman_sequential_parameter_count(self.network, &mut count));
            let mut values = vec![0.0; count];
            ok(elman_sequential_get_parameters(self.network, values.as_mut_ptr(), count));
            values
        }
    }

    /// A pass forwards and back for the tape.
    fn pass(&self) {
        let (x, mut y) = ([0.5; X], [0.0; Y]);
        // SAFETY: a live handle, arrays as long as they are said to be.
        unsafe {
            let training = elman_bool(0);
            let (x, yp) = (x.as_ptr(), y.as_mut_ptr());
            ok(elman_tape_forward(self.tape, x, X, BATCH, STEPS, null(), training, 0, yp, Y));
            ok(elman_tape_backward(self.tape, y.as_ptr(), Y, null_mut(), 0));
        }
    }
}

impl Drop for Training {
    fn drop(&mut self) {
        // SAFETY: made by the library, freed here only.
        unsafe {
            elman_sequential_free(self.network);
            elman_tape_free(self.tape);
            elman_trainer_free(self.trainer);
        }
    }
}

const NO: elman_bool = elman_bool(0);

#[test]
fn null_is_named() {
    let (floats, tokens) = (Training::floats(), Training::new(true, config()));
    floats.pass();
    let before = floats.parameters();
    let (x, ids, mut y, mut count) = ([0.5; X], [1; 6], [UNTOUCHED; 40], 77);
    let (x, i, yp, path) = (x.as_ptr(), ids.as_ptr(), y.as_mut_ptr(), c"x".as_ptr());
    let (b, s, no) = (BATCH, STEPS, null());
    let (n, t, w) = (floats.network, floats.tape, floats.trainer);
    let (config, kernel) = (config(), ELMAN_WEIGHT_KERNEL);
    let (mut tape, mut trainer) = (null_mut(), null_mut());
    let null_pointer = |status, word| fails(status, ELMAN_STATUS_NULL_POINTER, &[word, "NULL"]);
    // SAFETY: what is not NULL is live and long enough; NULL is the mistake that the library catches.
    unsafe {
        null_pointer(elman_tape_new(null(), b, s, &mut tape), "network");
        null_pointer(elman_tape_new(n, b, s, null_mut()), "out");
        null_pointer(elman_tape_forward(null_mut(), x, X, b, s, no, NO, 0, yp, Y), "tape");
        null_pointer(elman_tape_forward(t, null(), X, b, s, no, NO, 0, yp, Y), "x");
        null_pointer(elman_tape_forward(t, x, X, b, s, no, NO, 0, null_mut(), Y), "y");
        null_pointer(elman_tape_forward_tokens(null_mut(), i, 6, b, s, no, NO, 0, yp, Y), "tape");
        null_pointer(elman_tape_forward_tokens(tokens.tape, null(), 6, b, s, no, NO, 0, yp, Y), "ids");
        null_pointer(elman_tape_forward_tokens(tokens.tape, i, 6, b, s, no, NO, 0, null_mut(), Y), "y");
        null_pointer(elman_tape_backward(null_mut(), x, Y, null_mut(), 0), "tape");
        null_pointer(elman_tape_backward(t, null(), Y, null_mut(), 0), "dy");
        null_pointer(elman_tape_backward(t, x, Y, null_mut(), X), "dx");
        null_pointer(elman_tape_get_gradient(null(), 0, kernel, yp, 8), "tape");
        null_pointer(elman_tape_get_gradient(t, 0, kernel, null_mut(), 8), "values");
        null_pointer(elman_tape_get_gradients(null(), yp, 40), "tape");
        null_pointer(elman_tape_get_gradients(t, null_mut(), 40), "values");
        null_pointer(elman_tape_get_initial_state_gradient(null(), yp, 8), "tape");
        null_pointer(elman_tape_get_initial_state_gradient(t, null_mut(), 8), "values");
        null_pointer(elman_tape_gradient_norms(null(), 0, yp, s), "tape");
        null_pointer(elman_tape_gradient_norms(t, 0, null_mut(), s), "norms");
        null_pointer(elman_tape_clip_by_global_norm(null_mut(), 1.0, yp), "tape");
        null_pointer(elman_sequential_parameter_count(null(), &mut count), "network");
        null_pointer(elman_sequential_parameter_count(n, null_mut()), "count");
        null_pointer(elman_sequential_get_parameters(null(), yp, before.len()), "network");
        null_pointer(elman_sequential_get_parameters(n, null_mut(), before.len()), "values");
        null_pointer(elman_sequential_set_parameters(null_mut(), before.as_ptr(), before.len()), "network");
        null_pointer(elman_sequential_set_parameters(n, null(), before.len()), "values");

        null_pointer(elman_trainer_config_init(null_mut(), size_of::<elman_trainer_config>()), "config");
        null_pointer(elman_trainer_new(null_mut(), &config, &mut trainer), "network");
        null_pointer(elman_trainer_new(n, null(), &mut trainer), "config");
        null_pointer(elman_trainer_new(n, &config, null_mut()), "out");
        null_pointer(elman_trainer_step(null_mut(), x, X, b, s, x, Y, no, yp), "trainer");
        null_pointer(elman_trainer_step(w, null(), X, b, s, x, Y, no, yp), "x");
        null_pointer(elman_trainer_step(w, x, X, b, s, null(), Y, no, yp), "target");
        null_pointer(elman_trainer_step(w, x, X, b, s, x, Y, no, null_mut()), "loss");
        let of_words = tokens.trainer;
        null_pointer(elman_trainer_step_tokens(null_mut(), i, 6, b, s, x, Y, no, yp), "trainer");
        null_pointer(elman_trainer_step_tokens(of_words, null(), 6, b, s, x, Y, no, yp), "ids");
        null_pointer(elman_trainer_step_tokens(of_words, i, 6, b, s, null(), Y, no, yp), "target");
        null_pointer(elman_trainer_step_tokens(of_words, i, 6, b, s, x, Y, no, null_mut()), "loss");
        // With weights, and without a step: here only the row weights and the results are their own.
        let (wn, i6, some) = (null(), 6, [1.0; BATCH]);
        let some = some.as_ptr();
        null_pointer(elman_trainer_step_weighted(null_mut(), x, X, b, s, x, Y, some, b, no, yp), "trainer");
        null_pointer(elman_trainer_step_weighted(w, null(), X, b, s, x, Y, some, b, no, yp), "x");
        null_pointer(elman_trainer_step_weighted(w, x, X, b, s, null(), Y, some, b, no, yp), "target");
        null_pointer(elman_trainer_step_weighted(w, x, X, b, s, x, Y, wn, b, no, yp), "weights");
        null_pointer(elman_trainer_step_weighted(w, x, X, b, s, x, Y, wn, 0, no, yp), "weights");
        null_pointer(elman_trainer_step_weighted(w, x, X, b, s, x, Y, some, b, no, null_mut()), "loss");
        let step = elman_trainer_step_weighted_tokens;
        null_pointer(step(null_mut(), i, i6, b, s, x, Y, some, b, no, yp), "trainer");
        null_pointer(step(of_words, null(), i6, b, s, x, Y, some, b, no, yp), "ids");
        null_pointer(step(of_words, i, i6, b, s, null(), Y, some, b, no, yp), "target");
        null_pointer(step(of_words, i, i6, b, s, x, Y, wn, b, no, yp), "weights");
        null_pointer(step(of_words, i, i6, b, s, x, Y, some, b, no, null_mut()), "loss");
        null_pointer(elman_trainer_evaluate(null(), x, X, b, s, x, Y, wn, 0, yp, yp), "trainer");
        null_pointer(elman_trainer_evaluate(w, null(), X, b, s, x, Y, wn, 0, yp, yp), "x");
        null_pointer(elman_trainer_evaluate(w, x, X, b, s, null(), Y, wn, 0, yp, yp), "target");
        null_pointer(elman_trainer_evaluate(w, x, X, b, s, x, Y, wn, b, yp, yp), "weights");
        null_pointer(elman_trainer_evaluate(w, x, X, b, s, x, Y, wn, 0, null_mut(), yp), "loss");
        let evaluate = elman_trainer_evaluate_tokens;
        null_pointer(evaluate(null(), i, i6, b, s, x, Y, wn, 0, yp, yp), "trainer");
        null_pointer(evaluate(of_words, null(), i6, b, s, x, Y, wn, 0, yp, yp), "ids");
        null_pointer(evaluate(of_words, i, i6, b, s, null(), Y, wn, 0, yp, yp), "target");
        null_pointer(evaluate(of_words, i, i6, b, s, x, Y, wn, b, yp, yp), "weights");
        null_pointer(evaluate(of_words, i, i6, b, s, x, Y, wn, 0, null_mut(), yp), "loss");
        null_pointer(elman_trainer_save(null(), path), "trainer");
        null_pointer(elman_trainer_save(w, null()), "path");
        null_pointer(elman_trainer_load(null_mut(), path, &mut trainer), "network");
        null_pointer(elman_trainer_load(n, null(), &mut trainer), "path");
        null_pointer(elman_trainer_load(n, path, null_mut()), "out");
        // And where it is fine.
        elman_tape_free(null_mut());
        elman_trainer_free(null_mut());
        ok(elman_tape_clip_by_global_norm(t, 1.0, null_mut()));
    }
    assert!(tape.is_null() && trainer.is_null());
    assert_eq!(count, 77);
    untouched(&y);
    assert_eq!(floats.parameters(), before);
}

#[test]
fn lengths_off_by_one_are_noticed() {
    let (floats, tokens) = (Training::floats(), Training::new(true, config()));
    floats.pass();
    let before = floats.parameters();
    let all = before.len();
    let (x, ids, mut y) = ([0.5; 64], [1; 8], [UNTOUCHED; 64]);
    let (x, i, yp) = (x.as_ptr(), ids.as_ptr(), y.as_mut_ptr());
    let (b, s, no) = (BATCH, STEPS, null());
    let (n, t, w) = (floats.network, floats.tape, floats.trainer);
    let wrong = |status, what: &str, expected: usize, got: usize| {
        let words = [what, &expected.to_string(), &got.to_string()];
        fails(status, ELMAN_STATUS_LENGTH_MISMATCH, &words);
    };
    for off in [-1_isize, 1] {
        let off = |len: usize| len.checked_add_signed(off).expect("no length is 0");
        // SAFETY: live handles; the arrays are longer than any length here.
        unsafe {
            let states = BATCH * UNITS;
            wrong(elman_tape_forward(t, x, off(X), b, s, no, NO, 0, yp, Y), "x", X, off(X));
            wrong(elman_tape_forward(t, x, X, b, s, no, NO, 0, yp, off(Y)), "y", Y, off(Y));
            let status = elman_tape_forward_tokens(tokens.tape, i, off(6), b, s, no, NO, 0, yp, Y);
            wrong(status, "ids", 6, off(6));
            let status = elman_tape_forward_tokens(tokens.tape, i, 6, b, s, no, NO, 0, yp, off(Y));
            wrong(status, "y", Y, off(Y));
            wrong(elman_tape_backward(t, x, off(Y), null_mut(), 0), "dy", Y, off(Y));
            wrong(elman_tape_backward(t, x, Y, yp, off(X)), "dx", X, off(X));
            let kernel = elman_tape_get_gradient(t, 0, ELMAN_WEIGHT_KERNEL, yp, off(8));
            wrong(kernel, "values", 8, off(8));
            wrong(elman_tape_get_gradients(t, yp, off(all)), "values", all, off(all));
            let status = elman_tape_get_initial_state_gradient(t, yp, off(states));
            wrong(status, "values", states, off(states));
            wrong(elman_tape_gradient_norms(t, 0, yp, off(s)), "norms", s, off(s));
            wrong(elman_sequential_get_parameters(n, yp, off(all)), "values", all, off(all));
            wrong(elman_sequential_set_parameters(n, x, off(all)), "values", all, off(all));
            wrong(elman_trainer_step(w, x, off(X), b, s, x, Y, no, yp), "x", X, off(X));
            wrong(elman_trainer_step(w, x, X, b, s, x, off(Y), no, yp), "target", Y, off(Y));
            let of_words = tokens.trainer;
            wrong(elman_trainer_step_tokens(of_words, i, off(6), b, s, x, Y, no, yp), "ids", 6, off(6));
            let status = elman_trainer_step_tokens(of_words, i, 6, b, s, x, off(Y), no, yp);
            wrong(status, "target", Y, off(Y));
            let status = elman_trainer_step_weighted(w, x, X, b, s, x, Y, x, off(b), no, yp);
            wrong(status, "weights", b, off(b));
            let status = elman_trainer_step_weighted_tokens(of_words, i, 6, b, s, x, Y, x, off(b), no, yp);
            wrong(status, "weights", b, off(b));
            let evaluate = elman_trainer_evaluate;
            wrong(evaluate(w, x, off(X), b, s, x, Y, x, b, yp, yp), "x", X, off(X));
            wrong(evaluate(w, x, X, b, s, x, off(Y), x, b, yp, yp), "target", Y, off(Y));
            wrong(evaluate(w, x, X, b, s, x, Y, x, off(b), yp, yp), "weights", b, off(b));
            let status = elman_trainer_evaluate_tokens(of_words, i, off(6), b, s, x, Y, x, b, yp, yp);
            wrong(status, "ids", 6, off(6));
        }
    }
    untouched(&y);
    assert_eq!(floats.parameters(), before);
    // The sparse loss has one class number a row.
    let sparse = elman_trainer_config { loss: ELMAN_LOSS_SPARSE_CATEGORICAL_CROSSENTROPY, ..config() };
    let sparse = Training::new(false, sparse);
    // SAFETY: as above.
    unsafe {
        wrong(elman_trainer_step(sparse.trainer, x, X, b, s, x, Y, no, yp), "target", BATCH, Y);
        let classes = [0.0, 3.0];
        let status =
            elman_trainer_step(sparse.trainer, x, X, b, s, classes.as_ptr(), BATCH, no, y.as_mut_ptr());
        fails(status, ELMAN_STATUS_INVALID_ARGUMENT, &["3", "classes"]);
    }
    untouched(&y);
}

#[test]
fn sizes_and_the_order_of_calls_are_checked() {
    let (floats, x, mut y) = (Training::floats(), [0.5; X], [UNTOUCHED; X]);
    let (x, yp, no) = (x.as_ptr(), y.as_mut_ptr(), null());
    let (n, t, w) = (floats.network, floats.tape, floats.trainer);
    let (mut tape, mut trainer) = (null_mut(), null_mut());
    let invalid = |status, words: &[&str]| fails(status, ELMAN_STATUS_INVALID_ARGUMENT, words);
    // SAFETY: live handles; arrays as long as they are said to be, or refused for their sizes.
    unsafe {
        invalid(elman_tape_new(n, 0, STEPS, &mut tape), &["batch", "0"]);
        invalid(elman_tape_new(n, BATCH, 0, &mut tape), &["steps", "0"]);
        invalid(elman_tape_new(n, usize::MAX, 2, &mut tape), &["overflow"]);
        invalid(elman_tape_forward(t, x, X, BATCH, 0, no, NO, 0, yp, Y), &["steps", "0"]);
        invalid(elman_tape_forward(t, x, X, usize::MAX, 3, no, NO, 0, yp, Y), &["overflow"]);
        // More rows, and more steps, than the tape was made for.
        invalid(elman_tape_forward(t, x, X, 3, 2, no, NO, 0, yp, 9), &["batch 3"]);
        invalid(elman_tape_forward(t, x, X, 1, 6, no, NO, 0, yp, 3), &["steps 6"]);
        invalid(elman_tape_forward(t, x, X, BATCH, STEPS, no, elman_bool(2), 0, yp, Y), &["training", "2"]);
        invalid(elman_tape_backward(t, x, Y, null_mut(), 0), &["forward"]);
        invalid(elman_tape_gradient_norms(t, 0, yp, STEPS), &["forward"]);
        let mut seen = [0.0; Y];
        ok(elman_tape_forward(t, x, X, BATCH, STEPS, no, NO, 0, seen.as_mut_ptr(), Y));
        invalid(elman_tape_get_gradient(t, 0, ELMAN_WEIGHT_KERNEL, yp, 8), &["backward"]);
        invalid(elman_tape_get_gradients(t, yp, floats.parameters().len()), &["backward"]);
        invalid(elman_tape_get_initial_state_gradient(t, yp, BATCH * UNITS), &["backward"]);
        invalid(elman_tape_gradient_norms(t, 0, yp, STEPS), &["backward"]);
        invalid(elman_tape_clip_by_global_norm(t, 1.0, yp), &["backward"]);
        floats.pass();
        invalid(elman_tape_gradient_norms(t, 1, yp, STEPS), &["layer 1"]);
        invalid(elman_tape_get_gradient(t, 7, ELMAN_WEIGHT_KERNEL, yp, 8), &["layer 7"]);
        invalid(elman_tape_get_gradient(t, 0, ELMAN_WEIGHT_EMBEDDING, yp, 8), &["embedding"]);
        invalid(elman_tape_get_gradient(t, 0, elman_weight(7), yp, 8), &["7", "weight"]);
        for limit in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            invalid(elman_tape_clip_by_global_norm(t, limit, yp), &["max_norm", &limit.to_string()]);
        }
        invalid(elman_trainer_step(w, x, X, 0, STEPS, x, Y, no, yp), &["batch", "0"]);
        invalid(elman_trainer_step(w, x, X, usize::MAX, 3, x, Y, no, yp), &["overflow"]);
        let ids = [0, 9, 1, -1, 1, 1];
        invalid(elman_trainer_step_tokens(w, ids.as_ptr(), 6, BATCH, STEPS, x, Y, no, yp), &["embedding"]);
        let words = Training::new(true, config());
        let (i, before) = (ids.as_ptr(), words.parameters());
        invalid(elman_trainer_step_tokens(words.trainer, i, 6, BATCH, STEPS, x, Y, no, yp), &["9"]);
        invalid(elman_tape_forward_tokens(words.tape, i, 6, BATCH, STEPS, no, NO, 0, yp, Y), &["9"]);
        assert_eq!(words.parameters(), before);
        // Tokens have no gradient.
        let (ids, mut seen) = ([1; 6], [0.0; Y]);
        let seen = seen.as_mut_ptr();
        ok(elman_tape_forward_tokens(words.tape, ids.as_ptr(), 6, BATCH, STEPS, no, NO, 0, seen, Y));
        invalid(elman_tape_backward(words.tape, x, Y, yp, 6), &["dx"]);

        let mut unbuilt = null_mut();
        ok(elman_sequential_new(2, &mut unbuilt));
        let not_built = |status| fails(status, ELMAN_STATUS_NOT_BUILT, &["build"]);
        not_built(elman_tape_new(unbuilt, 1, 1, &mut tape));
        not_built(elman_trainer_new(unbuilt, &config(), &mut trainer));
        not_built(elman_trainer_load(unbuilt, c"x".as_ptr(), &mut trainer));
        let mut count = 77;
        not_built(elman_sequential_parameter_count(unbuilt, &mut count));
        not_built(elman_sequential_get_parameters(unbuilt, yp, 1));
        not_built(elman_sequential_set_parameters(unbuilt, x, 1));
        assert_eq!(count, 77);
        elman_sequential_free(unbuilt);
        fails(elman_trainer_load(n, c"no/such/file".as_ptr(), &mut trainer), ELMAN_STATUS_IO, &["no/such"]);
        fails(elman_trainer_save(w, c"no/such/file".as_ptr()), ELMAN_STATUS_IO, &["no/such"]);
    }
    assert!(tape.is_null() && trainer.is_null());
    untouched(&y);
}

#[test]
fn unknown_values_are_refused() {
    let floats = Training::floats();
    type Change = fn(&mut elman_trainer_config);
    let refused = |change: Change, words: &[&str]| {
        let (mut wrong, mut out) = (config(), null_mut());
        change(&mut wrong);
        // SAFETY: a live handle and configuration.
        let status = unsafe { elman_trainer_new(floats.network, &wrong, &mut out) };
        fails(status, ELMAN_STATUS_INVALID_ARGUMENT, words);
        assert!(out.is_null());
    };
    refused(|wrong| wrong.optimizer = elman_optimizer(4), &["4", "optimizer"]);
    refused(|wrong| wrong.loss = elman_loss(u32::MAX), &["4294967295", "loss"]);
    refused(|wrong| wrong.clipping = elman_clipping(4), &["4", "clipping"]);
    refused(|wrong| wrong.schedule = elman_schedule(3), &["3", "schedule"]);
    refused(|wrong| (wrong.optimizer, wrong.nesterov) = (ELMAN_OPTIMIZER_SGD, 2), &["nesterov", "2"]);
    refused(|wrong| wrong.from_logits = 255, &["from_logits", "255"]);
    let logits = |wrong: &mut elman_trainer_config| {
        (wrong.loss, wrong.from_logits) = (ELMAN_LOSS_CATEGORICAL_CROSSENTROPY, 1);
    };
    refused(logits, &["from_logits", "softmax"]);
    refused(|wrong| wrong.lazy_embeddings = 7, &["lazy_embeddings", "7"]);
    refused(|wrong| wrong.amsgrad = 7, &["amsgrad", "7"]);
    refused(|wrong| wrong.centered = 7, &["centered", "7"]);
    let exponential = |wrong: &mut elman_trainer_config| {
        (wrong.schedule, wrong.decay_steps, wrong.staircase) = (ELMAN_SCHEDULE_EXPONENTIAL, 1, 7);
    };
    refused(exponential, &["staircase", "7"]);
    refused(|wrong| wrong.schedule = ELMAN_SCHEDULE_EXPONENTIAL, &["decay_steps", "0"]);
    refused(|wrong| wrong.schedule = ELMAN_SCHEDULE_COSINE, &["decay_steps", "0"]);
    refused(|wrong| wrong.learning_rate = -0.5, &["learning rate", "-0.5"]);
    refused(|wrong| wrong.learning_rate = f32::NAN, &["learning rate", "NaN"]);
    let below = |wrong: &mut elman_trainer_config| {
        (wrong.schedule, wrong.decay_steps, wrong.alpha) = (ELMAN_SCHEDULE_COSINE, 1, -0.25);
    };
    refused(below, &["learning rate", "-0.25"]);
    refused(|wrong| wrong.beta_1 = 1.5, &["beta_1", "1.5"]);
    refused(|wrong| wrong.beta_1 = 1.0, &["beta_1", "below 1", "got 1"]);
    refused(|wrong| wrong.beta_2 = f32::NAN, &["beta_2", "NaN"]);
    refused(|wrong| wrong.beta_2 = 1.0, &["beta_2", "below 1"]);
    refused(|wrong| wrong.epsilon = -1.0, &["epsilon", "-1"]);
    refused(|wrong| wrong.epsilon = 0.0, &["epsilon", "above 0"]);
    let rho = |wrong: &mut elman_trainer_config| {
        (wrong.optimizer, wrong.beta_2) = (ELMAN_OPTIMIZER_RMSPROP, 1.0);
    };
    refused(rho, &["rho", "below 1"]);
    refused(|wrong| (wrong.optimizer, wrong.momentum) = (ELMAN_OPTIMIZER_SGD, 2.5), &["momentum", "2.5"]);
    refused(|wrong| wrong.clipping = ELMAN_CLIPPING_NORM, &["clipping limit", "0"]);
    refused(|wrong| wrong.l1 = -2.0, &["l1", "-2"]);
    refused(|wrong| wrong.l2 = f32::INFINITY, &["l2", "inf"]);
    refused(|wrong| wrong.truncate_back = 5, &["every 0", "back 5"]);
    refused(|wrong| (wrong.truncate_every, wrong.truncate_back) = (6, 5), &["every 6", "back 5"]);
    refused(|wrong| wrong.struct_size = 0, &["struct_size is 0"]);
    let (wrong, mut out) = (elman_trainer_config { truncate_every: 2, ..config() }, null_mut());
    // SAFETY: a live handle and configuration.
    let status = unsafe { elman_trainer_new(floats.network, &wrong, &mut out) };
    fails(status, ELMAN_STATUS_UNSUPPORTED, &["truncation", "last output"]);
    assert!(out.is_null());
}

#[test]
fn misaligned_and_overlapping_arrays_are_refused() {
    let floats = Training::floats();
    floats.pass();
    let (before, t, w, no) = (floats.parameters(), floats.tape, floats.trainer, null());
    let mut memory = [0.5_f32; 64];
    let at = |index: usize| memory.as_ptr().wrapping_add(index).cast_mut();
    let (x, y) = (at(0), at(20));
    let (b, s) = (BATCH, STEPS);
    let invalid = |status, what| fails(status, ELMAN_STATUS_INVALID_ARGUMENT, &[what, "multiple of 4"]);
    let overlap = |status, words: &[&str]| fails(status, ELMAN_STATUS_OVERLAP, words);
    let mut state = std::mem::MaybeUninit::uninit();
    // SAFETY: live handles; every array lies in `memory` but where it is refused for its alignment or its overlap.
    unsafe {
        ok(elman_run_options_init(state.as_mut_ptr(), size_of::<elman_run_options>()));
        let state: elman_run_options = state.assume_init();
        invalid(elman_tape_forward(t, misaligned(x), X, b, s, no, NO, 0, y, Y), "x");
        invalid(elman_tape_forward(t, x, X, b, s, no, NO, 0, misaligned(y), Y), "y");
        invalid(elman_tape_backward(t, misaligned(x), Y, null_mut(), 0), "dy");
        invalid(elman_tape_backward(t, x, Y, misaligned(y), X), "dx");
        invalid(elman_trainer_step(w, x, X, b, s, misaligned(x), Y, no, y), "target");
        invalid(elman_trainer_step(w, x, X, b, s, x, Y, no, misaligned(y)), "loss");
        overlap(elman_tape_forward(t, x, X, b, s, no, NO, 0, at(X - 1), Y), &["y", "x"]);
        overlap(elman_tape_backward(t, x, Y, at(Y - 1), X), &["dx", "dy"]);
        overlap(elman_trainer_step(w, x, X, b, s, y, Y, no, x), &["loss", "x"]);
        overlap(elman_trainer_step(w, x, X, b, s, y, Y, no, at(20 + Y - 1)), &["loss", "target"]);
        let weights = at(50);
        invalid(elman_trainer_step_weighted(w, x, X, b, s, y, Y, misaligned(x), b, no, at(60)), "weights");
        invalid(elman_trainer_evaluate(w, x, X, b, s, y, Y, weights, b, at(60), misaligned(x)), "accuracy");
        let both = &["loss", "weights"];
        overlap(elman_trainer_step_weighted(w, x, X, b, s, y, Y, weights, b, no, at(51)), both);
        overlap(elman_trainer_evaluate(w, x, X, b, s, y, Y, weights, b, at(51), at(60)), both);
        overlap(elman_trainer_evaluate(w, x, X, b, s, y, Y, weights, b, at(60), x), &["accuracy", "x"]);
        overlap(elman_trainer_evaluate(w, x, X, b, s, y, Y, null(), 0, x, at(60)), &["loss", "x"]);
        overlap(
            elman_trainer_evaluate(w, x, X, b, s, y, Y, null(), 0, at(60), at(60)),
            &["accuracy", "loss"],
        );
        let states = elman_run_options { final_state: at(X - 1), final_state_len: 8, ..state };
        overlap(elman_trainer_step(w, x, X, b, s, at(40), Y, &states, at(60)), &["final_state", "x"]);
        let states = elman_run_options { final_state: at(40 + Y - 1), final_state_len: 8, ..state };
        overlap(elman_trainer_step(w, x, X, b, s, at(40), Y, &states, at(60)), &["final_state", "target"]);
    }
    memory.iter_mut().for_each(|value| *value -= 0.5);
    assert_eq!(memory, [0.0; 64], "nothing was written");
    assert_eq!(floats.parameters(), before);
}

#[test]
fn what_is_not_finite_changes_nothing() {
    let (floats, good) = (Training::floats(), [0.5; X]);
    let target = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    let mut options = std::mem::MaybeUninit::uninit();
    // SAFETY: live handles; arrays as long as they are said to be.
    unsafe {
        ok(elman_run_options_init(options.as_mut_ptr(), size_of::<elman_run_options>()));
        let options: elman_run_options = options.assume_init();
        let step = |x: &[f32; X], target: &[f32; Y], initial: &[f32; 8], out: &mut [f32; 9]| {
            let (state, loss) = out.split_at_mut(8);
            let options = elman_run_options {
                initial_state: initial.as_ptr(),
                initial_state_len: 8,
                final_state: state.as_mut_ptr(),
                final_state_len: 8,
                ..options
            };
            let (x, target) = (x.as_ptr(), target.as_ptr());
            elman_trainer_step(floats.trainer, x, X, BATCH, STEPS, target, Y, &options, loss.as_mut_ptr())
        };
        ok(step(&good, &target, &[0.1; 8], &mut [0.0; 9]));
        let before = floats.parameters();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut out = [UNTOUCHED; 9];
            let (mut x, mut wanted, mut initial) = (good, target, [0.1; 8]);
            (x[3], wanted[1], initial[5]) = (f32::NAN, bad, f32::NAN);
            let not_finite = |status| fails(status, ELMAN_STATUS_NOT_FINITE, &["step 1", "weights"]);
            not_finite(step(&x, &target, &[0.1; 8], &mut out));
            not_finite(step(&good, &wanted, &[0.1; 8], &mut out));
            not_finite(step(&good, &target, &initial, &mut out));
            untouched(&out);
            assert_eq!(floats.parameters(), before);
        }

        // Gradients that are not finite cannot be clipped, and stay as they are.
        let (all, mut y) = (before.len(), [0.0; Y]);
        let (t, yp, no) = (floats.tape, y.as_mut_ptr(), null());
        ok(elman_tape_forward(t, good.as_ptr(), X, BATCH, STEPS, no, NO, 0, yp, Y));
        y[2] = f32::INFINITY;
        ok(elman_tape_backward(t, y.as_ptr(), Y, null_mut(), 0));
        let (mut found, mut again, mut norm) = (vec![0.0; all], vec![0.0; all], UNTOUCHED);
        ok(elman_tape_get_gradients(t, found.as_mut_ptr(), all));
        assert!(found.iter().any(|value| !value.is_finite()), "{}", last_error());
        fails(elman_tape_clip_by_global_norm(t, 1.0, &mut norm), ELMAN_STATUS_NOT_FINITE, &["gradients"]);
        ok(elman_tape_get_gradients(t, again.as_mut_ptr(), all));
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&again), bits(&found));
        untouched(&[norm]);
    }
}
