//! x
/// x
#[derive(Debug)]
pub struct Harness;
