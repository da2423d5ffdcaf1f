//! A dense layer's backward pass.

use super::super::{DenseOp, Plan, Value, dense_of, looked_at, taken};
use super::{BackwardPass, Workspace, activation_backward, hand_down};
use crate::gemm::{Init, Rows, multiply};
use crate::layers::{Activation, Dense, PackedDense};

impl DenseOp {
    pub(super) fn backward(&mut self, pass: &BackwardPass<'_>, workspace: &mut Workspace<'_>) {
        let &BackwardPass { network, plan, .. } = pass;
        let layer = looked_at(dense_of(&network.layers[self.layer]));
        let output = &mut workspace.values[self.output];
        let (stride, layout, count) = (output.stride, output.layout, output.count(&plan.schedule));
        let mut dz = taken(&mut output.gradient);
        if !(self.last && plan.mode.logits) {
            sums_backward(plan, layer, output, &mut dz, count);
        }
        let input = &workspace.values[self.input];
        if pass.wants(input, workspace) {
            let dz_rows = Rows::Strided { values: &dz, stride, count };
            let stride = input.stride;
            let mut to = taken(&mut workspace.scratch.rows);
            multiply(dz_rows, pass.kernel(), Init::Bias(&plan.zeros), &mut to, stride);
            let rows = Rows::Strided { values: &to, stride, count };
            hand_down(pass, workspace, self.input, layout, rows);
            workspace.scratch.rows = to;
        }
        workspace.values[self.output].gradient = dz;
    }
}

/// Turns the gradients of a layer's results, `count` rows, into those of its sums.
fn sums_backward(
    plan: &Plan,
    (config, dense): (&Dense, &PackedDense),
    output: &Value,
    gradient: &mut [f32],
    count: usize,
) {
    let (columns, stride) = (output.features, output.stride);
    if let Some(function) = dense.function {
        return activation_backward(plan, function, gradient, &output.rows, [count, columns, stride], None);
    }
    debug_assert_eq!(config.activation, Activation::Softmax);
    let rows = output.rows.chunks_exact(stride);
    for (dz, y) in gradient.chunks_exact_mut(stride).zip(rows).take(count) {
        let (dz, y) = (&mut dz[..columns], &y[..columns]);
        let mean: f32 = dz.iter().zip(y).map(|(dz, y)| dz * y).sum();
        dz.iter_mut().zip(y).for_each(|(dz, y)| *dz = y * (*dz - mean));
    }
}
