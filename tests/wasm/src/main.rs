//! The same natively, value by value.

fn main() -> Result<(), elman::Error> {
    for value in elman_wasm::results()? {
        println!("{value:?}");
    }
    Ok(())
}
