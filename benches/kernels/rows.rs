//! Rows of a record: `python3 benches/records.py --bench kernels` sets `ELMAN_BENCH_ROWS` to a file that they
//! are written to, and adds the machine, the date and the commit.

use std::fmt::Write as _;

pub(crate) struct Row {
    pub(crate) pass: &'static str,
    pub(crate) case: String,
    /// Batch, steps, features, units, layers.
    pub(crate) shape: Option<[usize; 5]>,
    pub(crate) threads: usize,
    pub(crate) library: &'static str,
    /// The median of a call.
    pub(crate) seconds: f64,
    pub(crate) flops: Option<u64>,
    pub(crate) share: Option<f64>,
    pub(crate) note: String,
}

/// Writes the rows where they are asked for.
pub(crate) fn write(rows: &[Row]) {
    let Some(path) = std::env::var_os("ELMAN_BENCH_ROWS") else { return };
    let isa = elman::isa().map_or("unavailable", elman::Isa::name);
    let mut text = String::from(
        "isa,elman,pass,case,batch,steps,features,units,layers,threads,library,seconds,flops,share,note\n",
    );
    for row in rows {
        let shape =
            row.shape.map_or([const { String::new() }; 5], |sizes| sizes.map(|size| size.to_string()));
        let flops = row.flops.map_or(String::new(), |flops| flops.to_string());
        let share = row.share.map_or(String::new(), |share| share.to_string());
        let Row { pass, case, threads, library, seconds, note, .. } = row;
        // Names hold commas, and no quotation marks.
        let line = writeln!(
            text,
            "{isa},{},{pass},\"{case}\",{},{threads},{library},{seconds},{flops},{share},\"{note}\"",
            env!("CARGO_PKG_VERSION"),
            shape.join(",")
        );
        line.expect("a string takes all");
    }
    std::fs::write(path, text).expect("the rows can be written where ELMAN_BENCH_ROWS says");
}
